"""A whole training: data, run folder, epochs, the best checkpoint, the scores at the end."""

import contextlib
import gc
import time

import keras
import numpy as np
import tensorflow as tf

from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.distribution.process import Process, make_strategy
from keras_aoa.evaluation.evaluate import EvaluationSettings, caption_split, evaluate
from keras_aoa.evaluation.metrics import cider
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.models import weights
from keras_aoa.training.checkpoints import Checkpoints
from keras_aoa.training.frozen import frozen_features
from keras_aoa.training.logs import SAMPLES, TensorBoard
from keras_aoa.training.preparation import prepare_run
from keras_aoa.training.stopping import StopRequest, not_finite, report_failures
from keras_aoa.training.trainer import Trainer
from keras_aoa.training.warm_start import WarmStart
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.progress import print_progress, progress_bar


def train(configuration):
    """Train a captioner, or go on where a run of the same settings stopped; then evaluate it.

    Args:
        configuration: `Configuration`.

    Returns:
        The `Run`, with its best weights, scores and pictures in its folder.

    Raises:
        UserError: bad data or settings; the run's folder holds a run of other settings; what
            stopped the training.
    """
    started = time.monotonic()
    process = start_process(configuration)
    with process.report_lost_workers(), contextlib.ExitStack() as held:
        run, data, *images = process.chief_first(lambda: prepare_run(configuration, held, process))
        checkpoints = Checkpoints(run, process.chief, started)
        with report_failures(configuration, checkpoints):
            history = train_run(configuration, process, run, images, checkpoints)
            del images
            evaluate(run, EvaluationSettings(), data=data, history=history, process=process)
    return run


def start_process(configuration):
    """The devices that train, before TensorFlow runs anything.

    Raises:
        UserError: more replicas than images in a batch.
    """
    process = Process(make_strategy(configuration.distribution))
    # Collective operations wait for each other forever where operations are put in order.
    if process.workers == 1:
        tf.config.experimental.enable_op_determinism()
    if process.replicas.total > configuration.batch_size:
        raise UserError(
            f"batch_size: expected at least one image for each of {process.replicas.total} "
            f"replicas, received {configuration.batch_size}."
        )
    return process


def train_run(configuration, process, run, images, checkpoints):
    """All epochs that are missing; returns the facts of each epoch.

    Args:
        configuration: `Configuration`.
        process: `Process`.
        run: `Run`.
        images: `Images` of training and of selection.
        checkpoints: `Checkpoints`.
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
    # Whether the backbone was just made or loaded, the captioner starts from the same weights.
    keras.utils.set_random_seed(configuration.seed)
    with process.strategy.scope():
        captioner = run.make_captioner()
    if configuration.start_from and not run.last_file.exists():
        print_progress(WarmStart(configuration.start_from).load(captioner))
    with process.strategy.scope():
        trainer = Trainer(captioner, configuration, batches.batches_per_epoch)
        generator = CaptionGenerator.from_configuration(captioner, run.vocabulary, configuration)
    progress = checkpoints.restore(trainer)
    process.wait()  # until all have read it, and it may be replaced
    if checkpoints.step:
        print_progress(f"Going on after step {checkpoints.step}, in epoch {progress.epochs + 1}.")
    board = TensorBoard(run.folder / "tensorboard", process.chief)
    if configuration.feature_cache != "none" and progress.epochs < configuration.rnn_epochs:
        mirrored = batches.mirrored_indices
        training_features, select_images = process.chief_first(
            lambda: (
                frozen_features(run, captioner, training_images, mirrored),
                frozen_features(run, captioner, select_images),
            )
        )
        batches.set_source(training_features)
    for epoch in range(progress.epochs, configuration.epochs):
        if progress.stopped:
            break
        joint = epoch >= configuration.rnn_epochs
        if joint:
            batches.set_source(training_images)
            select_images = images[1]
        loss = train_epoch(trainer, process, batches, progress, joint, board, checkpoints)
        facts = {"epoch": epoch + 1, "loss": loss}
        time_is_up = 0 < 60 * configuration.minutes < checkpoints.seconds()
        last = epoch + 1 == configuration.epochs or time_is_up
        if last or (epoch + 1) % configuration.validate_every == 0:
            # Whoever is stopped in the validation has lost nothing but that.
            checkpoints.save(trainer, progress)
            found = captions_for_validation(trainer, generator, select_images)
            facts["CIDEr"] = validation_cider(select_images, found)
            board.validation(trainer.steps, facts["CIDEr"], select_images, found)
            if facts["CIDEr"] > progress.best:
                progress.best = facts["CIDEr"]
                arrays = trainer.evaluated_weights()
                if process.chief:
                    weights.save_arrays(run.best_file, arrays, run.digests)
            # What a search over images leaves are rings of many megabytes, and Python, which counts
            # objects, not bytes, would let them pile up.
            gc.collect()
        progress.history.append(facts)
        progress.epochs, progress.stopped = epoch + 1, last
        progress.steps, progress.loss_sum = 0, 0.0
        checkpoints.save(trainer, progress)
        print_progress(describe(facts, configuration, progress.seconds))
    return progress.history


def train_epoch(trainer, process, batches, progress, joint, board, checkpoints):
    """What is left of a pass over the training images; returns its mean loss in nats a word.

    Raises:
        KeyboardInterrupt: asked to stop, after the step under way was saved.
        UserError: the loss is no finite number.
    """
    every, total = trainer.configuration.checkpoint_steps, batches.batches_per_epoch
    parts = batches.epoch(progress.epochs, progress.steps, process.replicas)
    stage = "both" if joint else "RNN"
    with (
        StopRequest() as stop,
        progress_bar(
            process.feed(parts),
            total=total,
            initial=progress.steps,
            desc=f"epoch {progress.epochs + 1} ({stage})",
            unit="step",
        ) as bar,
    ):
        for batch in bar:
            loss, stopped = trainer.step(batch, joint, stop.asked)
            if not np.isfinite(loss):
                index = np.concatenate([part.numpy() for part in process.local(batch["index"])])
                names = batches.names(dict.fromkeys(index.tolist()))
                raise not_finite(loss, trainer.steps, names, checkpoints)
            progress.steps += 1
            progress.loss_sum += loss
            bar.set_postfix(loss=f"{progress.loss_sum / progress.steps:.3f}", refresh=False)
            board.step(trainer.steps, loss, trainer.rate_factor())
            if stopped or (trainer.steps % every == 0 and progress.steps < total):
                checkpoints.save(trainer, progress)
            if stopped:
                print_progress(f"Saved after step {trainer.steps}.")
                raise KeyboardInterrupt
    return progress.loss_sum / progress.steps


def captions_for_validation(trainer, generator, images):
    """Captions by the weights that would be kept; attention for the logs' pictures alone."""
    purpose = f"captions of {images.name}"
    return trainer.with_evaluated_weights(
        lambda: caption_split(generator, images, purpose, SAMPLES)
    )


def validation_cider(images, found):
    """CIDEr of generated captions."""
    references = {index: images.examples[index].captions for index in found}
    return cider(references, {index: generated.caption for index, generated in found.items()})


def describe(facts, configuration, seconds):
    """A line about an epoch."""
    score = f", CIDEr {100 * facts['CIDEr']:.1f}" if "CIDEr" in facts else ""
    return (
        f"epoch {facts['epoch']}/{configuration.epochs}: loss {facts['loss']:.3f}{score} "
        f"({seconds / 60:.1f} minutes)"
    )
