"""A whole training: data, run folder, epochs, the best checkpoint, the scores at the end."""

import contextlib
import gc
import time

import keras
import numpy as np
import tensorflow as tf

from keras_aoa.data.image_sets import Images
from keras_aoa.data.pipeline import CaptionBatches
from keras_aoa.data.vocabulary import Vocabulary
from keras_aoa.distribution import Process, make_strategy
from keras_aoa.errors import UserError
from keras_aoa.evaluation.evaluate import EvaluationSettings, caption_split, evaluate
from keras_aoa.evaluation.generate import Generator
from keras_aoa.evaluation.metrics import cider
from keras_aoa.files import check_writable, only_one, remove_leftovers
from keras_aoa.models import weights
from keras_aoa.models.backbones import PRETRAINED_SCENES, make_backbone
from keras_aoa.models.build import backbone_settings, make_captioner
from keras_aoa.progress import progress_bar, say
from keras_aoa.run import Run, image_settings, proposal_view, read_data
from keras_aoa.training.checkpoints import Checkpoints
from keras_aoa.training.frozen import frozen_features
from keras_aoa.training.logs import SAMPLES, TensorBoard
from keras_aoa.training.pretraining import PretrainingSettings, pretrained_backbone
from keras_aoa.training.stopping import StopRequest, not_finite, told_in_a_line
from keras_aoa.training.trainer import Trainer
from keras_aoa.training.warm_start import WarmStart


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
    with process.lost_workers_told(), contextlib.ExitStack() as held:
        run, data, *images = process.chief_first(lambda: prepare_run(configuration, held, process))
        checkpoints = Checkpoints(run, process.chief, started)
        with told_in_a_line(configuration, checkpoints):
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
        say(WarmStart(configuration.start_from).load(captioner))
    with process.strategy.scope():
        trainer = Trainer(captioner, configuration, batches.batches_per_epoch)
        generator = Generator.of(captioner, run.vocabulary, configuration)
    progress = checkpoints.restore(trainer)
    process.wait()  # until all have read it, and it may be replaced
    if checkpoints.step:
        say(f"Going on after step {checkpoints.step}, in epoch {progress.epochs + 1}.")
    board = TensorBoard(run.folder / "tensorboard", process.chief)
    if configuration.feature_cache != "none" and progress.epochs < configuration.rnn_epochs:
        mirrored = batches.mirrored_places
        training_features, select_images = process.chief_first(
            lambda: (
                frozen_features(run, captioner, training_images, mirrored),
                frozen_features(run, captioner, select_images),
            )
        )
        batches.show(training_features)
    for epoch in range(progress.epochs, configuration.epochs):
        if progress.stopped:
            break
        joint = epoch >= configuration.rnn_epochs
        if joint:
            batches.show(training_images)
            select_images = images[1]
        train_epoch(trainer, process, batches, progress, joint, board, checkpoints)
        facts = {"epoch": epoch + 1, "loss": progress.loss_sum / progress.steps}
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
                    weights.save_arrays(run.best_file, arrays, run.facts)
            # What a search over images leaves are rings of many megabytes, and Python, which counts
            # objects, not bytes, would let them pile up.
            gc.collect()
        progress.history.append(facts)
        progress.epochs, progress.stopped = epoch + 1, last
        progress.steps, progress.loss_sum = 0, 0.0
        checkpoints.save(trainer, progress)
        say(describe(facts, configuration, progress.seconds))
    return progress.history


def prepare_run(configuration, held, process=None):
    """Make the run's folder, or open the one that is there; nothing is made of bad input.

    Args:
        configuration: `Configuration`.
        held: `contextlib.ExitStack` that holds the folder for the chief as long as it lasts.
        process: `Process`; alone by default. The chief makes it, the others open it.

    Returns:
        The `Run`, its data, and the readable `Images` of training and of selection.
    """
    folder, process = configuration.folder, process or Process()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder's name, found a file; choose another --name.")
    if process.chief:
        check_writable(folder)
    if (folder / "config.json").exists():
        if process.chief:
            hold(folder, held)
        run = Run(folder)
        different = run.configuration.differences(configuration)
        if different:
            raise UserError(
                f"{folder}: holds a run of other settings ({', '.join(different)}); "
                "choose another --name, or remove the folder to start anew."
            )
        say(f"The run is in {folder}.")
        data = run.load_data()
        return run, data, *load_images(configuration, data, run.proposal_view)
    if not process.chief:
        raise UserError(
            f"{folder}: expected the run that worker 0 made, found none; set output to a folder on "
            "a disk that all workers share."
        )
    view = proposal_view(configuration, folder.parent)
    start = WarmStart(configuration.start_from) if configuration.start_from else None
    if start:
        start.check_settings(configuration)
    data = read_data(configuration, folder.parent)
    captions = [text for example in data.splits["train"] for text in example.captions]
    vocabulary = Vocabulary.from_captions(captions, configuration.minimum_count)
    if start:
        start.check_vocabulary(vocabulary)
    keras.utils.set_random_seed(configuration.seed)
    backbone = start_backbone(configuration)
    captioner = make_captioner(configuration, backbone, len(vocabulary))
    if start:
        start.load(captioner)
    # Loaded for the backbone, which the run keeps, and to refuse what does not fit.
    del captioner
    images = load_images(configuration, data, view)
    folder.mkdir(parents=True, exist_ok=True)
    hold(folder, held)
    if (folder / "config.json").exists():
        raise UserError(
            f"{folder}: another training made it meanwhile; choose another --name, or go on with "
            "that one by its command."
        )
    run = Run.create(configuration, vocabulary, backbone)
    counts = {split: len(examples) for split, examples in data.splits.items()}
    say(f"{folder}: {data.name}, images {counts}, vocabulary of {len(vocabulary)} words.")
    return run, data, *images


def hold(folder, held):
    """Keep other trainings out of a run's folder, and sweep what killed ones left there."""
    held.enter_context(only_one(folder))
    remove_leftovers(folder)


def start_backbone(configuration):
    """The network that a configuration asks for, pretrained first if it is that of the scenes."""
    if configuration.backbone == PRETRAINED_SCENES:
        folder = configuration.folder.parent / "data"
        return pretrained_backbone(folder, PretrainingSettings.of(configuration))
    return make_backbone(backbone_settings(configuration))


def load_images(configuration, data, view):
    """The readable `Images` of training and of the split that selects the checkpoint.

    Args:
        configuration: `Configuration`.
        data: `CaptionData`.
        view: `ProposalView`, where object proposals are the regions.

    Raises:
        UserError: there is no such split, or nothing readable in it.
    """
    settings = image_settings(configuration)
    splits = "train", configuration.selecting_split
    for split in splits:
        if not data.splits.get(split):
            raise UserError(
                f"{data.name}: expected a split {split!r}, found {', '.join(data.splits)}; set "
                "select_images to hold out training images, or select_split to one of these."
            )
    return [
        Images(split, data.splits[split], settings, configuration.cache_gigabytes, view)
        for split in splits
    ]


def train_epoch(trainer, process, batches, progress, joint, board, checkpoints):
    """What is left of a pass over the training images; `progress` has the sum of its losses.

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
                say(f"Saved after step {trainer.steps}.")
                raise KeyboardInterrupt


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
