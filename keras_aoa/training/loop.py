"""The training loop: prepares data and run, trains all epochs, and evaluates the run."""

import contextlib
import gc
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.distribution.process import Process, is_evaluator, make_strategy
from keras_aoa.evaluation.evaluate import evaluate
from keras_aoa.evaluation.metrics import cider
from keras_aoa.evaluation.split import EvaluationSettings, caption_split
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.models import weights
from keras_aoa.runs.run import Run
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training import next_steps
from keras_aoa.training.accumulation import groups
from keras_aoa.training.attention_supervision import add_phrases
from keras_aoa.training.callbacks import Callbacks
from keras_aoa.training.checkpoints import Checkpoints
from keras_aoa.training.concepts import concept_targets
from keras_aoa.training.frozen import frozen_features
from keras_aoa.training.logs import SAMPLES, TensorBoard, describe
from keras_aoa.training.preparation import prepare_run
from keras_aoa.training.reward import CaptionReward, keep_frequencies
from keras_aoa.training.schedule import count_plateaus
from keras_aoa.training.stopping import StopRequest, not_finite, report_failures, why_diverged
from keras_aoa.training.trainer import Trainer
from keras_aoa.training.warm_start import WarmStart
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.progress import print_progress, progress_bar

STAGES = ("RNN", "both", "reward")


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
    """Train all remaining epochs.

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
    training_images, select_images = images
    batches = CaptionBatches(
        training_images,
        run.vocabulary,
        configuration.batch_size,
        configuration.captions_per_image,
        configuration.max_words,
        configuration.flip,
        configuration.crop,
        configuration.seed,
        configuration.train_proposals,
    )
    if configuration.attention_supervision:
        add_phrases(batches, training_images.examples)
    if configuration.concepts != "none":
        targets = process.chief_first(lambda: concept_targets(run, training_images.examples))
        batches.add_column("concepts", targets)
    # Building a backbone draws random numbers, loading it does not. The captioner's initial weights
    # must be the same in both cases.
    keras.utils.set_random_seed(configuration.seed)
    with process.strategy.scope():
        captioner = run.make_captioner()
    if configuration.start_from and not run.last_file.exists():
        print_progress(WarmStart(configuration.start_from).load(captioner))
    reward = make_reward(configuration, run, training_images)
    with process.strategy.scope():
        steps = -(-batches.batches_per_epoch // configuration.accumulate)
        trainer = Trainer(captioner, configuration, steps, reward=reward)
        generator = CaptionGenerator.from_configuration(captioner, run.vocabulary, configuration)
    progress = checkpoints.restore(trainer)
    process.wait()  # all processes must read the checkpoint before it is replaced
    if checkpoints.step and not progress.stopped:
        print_progress(f"Resuming after step {checkpoints.step}, in epoch {progress.epochs + 1}.")
    board = TensorBoard(run.folder / "tensorboard", process.chief)
    stage = None
    epochs = () if progress.stopped else range(progress.epochs, configuration.epochs)
    if epochs:
        callbacks.begin(trainer)

    def validate(epoch_metrics):
        # An interruption during validation must not lose training steps.
        checkpoints.save(trainer, progress)
        captions = captions_for_validation(trainer, generator, select_images)
        score = epoch_metrics["CIDEr"] = validation_cider(select_images, captions)
        board.validation(trainer.steps, score, select_images, captions)
        if score > progress.best:
            progress.best = score
            arrays = trainer.evaluated_weights()
            if process.chief:
                weights.save_arrays(run.best_file, arrays, run.digests)
        # Validation leaves large reference cycles, which Python might free much later.
        gc.collect()

    for epoch in epochs:
        if stage != configuration.stage(epoch):
            stage = configuration.stage(epoch)
            training, select_images = sources(process, run, captioner, batches, images, stage)
            batches.set_source(training)
            if stage == 3:
                frequencies = run.folder / "document_frequencies.npz"
                process.chief_first(
                    lambda file=frequencies: process.chief and keep_frequencies(file, reward)
                )
        trainer.plateaus = count_plateaus(configuration, progress.history)
        callbacks.call("on_epoch_begin", epoch, {})
        metrics = train_epoch(trainer, process, batches, progress, board, checkpoints, callbacks)
        epoch_metrics = {"epoch": epoch + 1, **metrics}
        time_is_up = 0 < 60 * configuration.minutes < checkpoints.seconds()
        diverged = why_diverged(metrics, progress.history) if stage == 3 else ""
        ended = callbacks.ended()
        last = epoch + 1 == configuration.epochs or time_is_up or bool(diverged) or ended
        if last or (epoch + 1) % configuration.validate_every == 0:
            validate(epoch_metrics)
        logs = {name: value for name, value in epoch_metrics.items() if name != "epoch"}
        callbacks.call("on_epoch_end", epoch, logs)
        if not last and callbacks.ended():
            last = ended = True
            if "CIDEr" not in epoch_metrics:
                validate(epoch_metrics)
        progress.history.append(epoch_metrics)
        progress.epochs, progress.stopped = epoch + 1, last
        progress.steps, progress.sums = 0, {}
        checkpoints.save(trainer, progress)
        print_progress(describe(epoch_metrics, configuration, progress.seconds))
        if diverged:
            print_progress(f"Stage 3 ends early: {diverged} The best weights are kept.")
        if ended:
            print_progress("A callback ended the training. The best weights are kept.")
        if last:
            break
    if epochs:
        callbacks.call("on_train_end", logs)
    return progress.history


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


def sources(process, run, captioner, batches, images, stage):
    """Return the images of both splits, or their cached features if the backbone is frozen.

    Args:
        process: `Process`.
        run: `Run`.
        captioner: `Captioner` with the weights from which the stage starts or resumes.
        batches: `CaptionBatches`.
        images: The same as in `train_run`.
        stage: Number of the stage.
    """
    if run.configuration.feature_cache == "none" or stage == 2:
        return images
    mirrored, count = batches.mirrored_indices, run.configuration.cached_views
    views = batches.fixed_views(count) if count > 1 else None
    return process.chief_first(
        lambda: (
            frozen_features(run, captioner, images[0], mirrored, views),
            frozen_features(run, captioner, images[1]),
        )
    )


def train_epoch(trainer, process, batches, progress, board, checkpoints, callbacks):
    """Train the remaining steps of the current epoch.

    Args:
        trainer: `Trainer`.
        process: `Process`.
        batches: `CaptionBatches`.
        progress: `Progress`, updated in place.
        board: `TensorBoard`.
        checkpoints: `Checkpoints`.
        callbacks: `Callbacks`. A callback may end the epoch early.

    Returns:
        The means of the epoch's metrics: `loss`, in nats per word. In stage 3, the metrics are
        `SAMPLE_METRICS` without `loss`.

    Raises:
        KeyboardInterrupt: a stop was requested. The current step was finished and saved.
        UserError: the loss is not finite.
    """
    stage = trainer.configuration.stage(progress.epochs)
    every, size = trainer.configuration.checkpoint_steps, trainer.configuration.accumulate
    total, durations = trainer.steps_per_epoch, []
    parts = batches.epoch(progress.epochs, progress.steps * size, process.replicas)
    with (
        StopRequest() as stop,
        progress_bar(
            groups(process.feed(parts), size),
            total=total,
            initial=progress.steps,
            desc=f"epoch {progress.epochs + 1} ({STAGES[stage - 1]})",
            unit="step",
        ) as bar,
    ):
        for group in bar:
            callbacks.call("on_train_batch_begin", progress.steps, {})
            started = time.monotonic()
            metrics, stopped = trainer.step(group, stage, stop.asked)
            durations.append(time.monotonic() - started)
            if not np.isfinite(metrics["loss"]):
                parts = [part for batch in group for part in process.local(batch["index"])]
                index = np.concatenate([part.numpy() for part in parts])
                names = batches.names(dict.fromkeys(index.tolist()))
                raise not_finite(metrics["loss"], trainer.steps, names, checkpoints)
            if stage == 3:  # this loss does not measure progress: it is 0 on average
                del metrics["loss"]
            progress.add(metrics)
            shown = next(iter(metrics))
            bar.set_postfix({shown: f"{progress.means()[shown]:.3f}"}, refresh=False)
            board.step(trainer.steps, metrics, trainer.rate_factor())
            callbacks.call("on_train_batch_end", progress.steps - 1, metrics)
            if stopped or (trainer.steps % every == 0 and progress.steps < total):
                checkpoints.save(trainer, progress)
            if stopped:
                print_progress(f"Saved after step {trainer.steps}.")
                raise KeyboardInterrupt
            if callbacks.ended():
                break
    if durations:
        progress.step_seconds = float(np.median(durations))
    return progress.means()


def captions_for_validation(trainer, generator, images):
    """Generate captions with the evaluated weights, with attention for the logged pictures."""
    purpose = f"captions of {images.name}"
    return trainer.with_evaluated_weights(
        lambda: caption_split(generator, images, purpose, SAMPLES)
    )


def validation_cider(images, captions):
    """Return the CIDEr score of generated captions."""
    references = {index: images.examples[index].captions for index in captions}
    return cider(references, {index: caption.text for index, caption in captions.items()})
