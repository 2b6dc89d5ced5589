"""Trains a captioner: prepares data and run, trains all epochs, and evaluates the run."""

import contextlib
import time
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.distribution.process import Process, is_evaluator, make_strategy
from keras_aoa.evaluation.evaluate import evaluate
from keras_aoa.evaluation.split import EvaluationSettings
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.runs.run import Run
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training import next_steps
from keras_aoa.training.attention_supervision import add_phrases
from keras_aoa.training.callbacks import Callbacks
from keras_aoa.training.checkpoints import Checkpoints
from keras_aoa.training.concepts import concept_targets
from keras_aoa.training.epochs import Epochs
from keras_aoa.training.preparation import prepare_run
from keras_aoa.training.reward import CaptionReward
from keras_aoa.training.stopping import report_failures
from keras_aoa.training.trainer import Trainer
from keras_aoa.training.warm_start import WarmStart
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.progress import print_progress


def train(configuration: Configuration, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Run:
    """Train a captioner and evaluate it. If the run's folder already exists, resume the run.

    A run that is already finished and evaluated stays unchanged.

    Args:
        configuration: `Configuration`.
        callbacks: List of `keras.callbacks.Callback`. Only the chief calls the callbacks. A
            callback ends the training if it sets `model.stop_training` to True.

    Returns:
        The trained `Run`, whose folder contains the best weights, scores and pictures.

    Raises:
        UserError: data or settings are invalid, the folder contains a run with other settings, or
            the training fails.
    """
    started = time.monotonic()
    process = start_process(configuration)
    callbacks = Callbacks(callbacks, process)
    with process.until_all_finish(), contextlib.ExitStack() as held:
        run, data, *images = process.chief_first(lambda: prepare_run(configuration, held, process))
        checkpoints = Checkpoints(run, process.chief, started)
        with report_failures(configuration, checkpoints):
            history = train_run(configuration, process, run, images, checkpoints, callbacks)
            del images
            # Several workers always evaluate: on a shared disk they may read different file times,
            # and an evaluation waits for all workers.
            if process.workers == 1 and next_steps.is_evaluated(run, data):
                next_steps.print_finished(run)
            else:
                scores = evaluate(
                    run, EvaluationSettings(), data=data, history=history, process=process
                )
                next_steps.print_meanings(scores or {})
        next_steps.print_commands(run, data)
    return run


def start_process(configuration):
    """Set up the training devices. Call this function before any TensorFlow operation.

    Returns:
        `Process`.

    Raises:
        UserError: `batch_size` is less than the number of replicas, or TF_CONFIG makes this process
            an evaluator.
    """
    if configuration.distribution in ("auto", "workers") and is_evaluator():
        raise UserError(
            "TF_CONFIG: expected a task of type chief or worker, received evaluator; start only "
            "the chief and the workers, because the chief evaluates."
        )
    process = Process(make_strategy(configuration.distribution))
    # With several workers, the deterministic order of operations deadlocks their communication.
    if process.workers == 1:
        tf.config.experimental.enable_op_determinism()
    if process.replicas.total > configuration.batch_size:
        raise UserError(
            f"batch_size: expected at least one image for each of {process.replicas.total} "
            f"replicas, received {configuration.batch_size}; increase it."
        )
    return process


def train_run(configuration, process, run, images, checkpoints, callbacks):
    """Set up a training, and train all remaining epochs.

    Args:
        configuration: `Configuration`.
        process: `Process`.
        run: `Run`.
        images: List of two `Images`: one for training, and one for selecting the best weights.
        checkpoints: `Checkpoints`.
        callbacks: `Callbacks`.

    Returns:
        List of one dictionary of metrics per epoch.
    """
    batches = make_batches(configuration, process, run, images[0])
    # Building a backbone draws random numbers, loading it does not. The captioner's initial weights
    # must be the same in both cases.
    keras.utils.set_random_seed(configuration.seed)
    with process.strategy.scope():
        captioner = run.make_captioner(run.random_seed)
    if configuration.start_from and not run.last_file.exists():
        print_progress(WarmStart(configuration.start_from).load(captioner))
    reward = make_reward(configuration, run, images[0])
    with process.strategy.scope():
        steps = -(-batches.batches_per_epoch // configuration.accumulate)
        trainer = Trainer(captioner, configuration, steps, reward=reward)
        generator = CaptionGenerator.from_configuration(captioner, run.vocabulary, configuration)
    progress = checkpoints.restore(trainer)
    process.wait()  # all processes must read the checkpoint before it is replaced
    if checkpoints.step and not progress.stopped:
        print_progress(f"Resuming after step {checkpoints.step}, in epoch {progress.epochs + 1}.")
    epochs = Epochs(process, run, images, batches, trainer, generator, checkpoints, callbacks)
    return epochs.train(progress)


def make_batches(configuration, process, run, images):
    """Return the `CaptionBatches` of the training images, with the columns that losses need."""
    batches = CaptionBatches(
        images,
        run.vocabulary,
        configuration.batch_size,
        configuration.captions_per_image,
        configuration.max_words,
        configuration.flip,
        configuration.crop,
        run.random_seed,
        configuration.train_proposals,
    )
    if configuration.attention_supervision:
        add_phrases(batches, images.examples)
    if configuration.concepts != "none":
        targets = process.chief_first(lambda: concept_targets(run, images.examples))
        batches.add_column("concepts", targets)
    return batches


def make_reward(configuration, run, images):
    """Return the `CaptionReward` of the training images, or None if the run has no stage 3."""
    if not configuration.reward_epochs:
        return None
    return CaptionReward(
        [example.captions for example in images.examples],
        run.vocabulary,
        configuration.reward_cider,
        configuration.reward_bleu,
    )
