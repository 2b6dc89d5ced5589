"""A whole training: data, run folder, epochs, the best checkpoint, the scores at the end."""

import time

import keras
import numpy as np
import tensorflow as tf

from keras_aoa.data.image_sets import Images
from keras_aoa.data.pipeline import CaptionBatches
from keras_aoa.data.vocabulary import Vocabulary
from keras_aoa.errors import UserError
from keras_aoa.evaluation.evaluate import EvaluationSettings, caption_split, evaluate
from keras_aoa.evaluation.generate import Generator
from keras_aoa.evaluation.metrics import cider
from keras_aoa.models import weights
from keras_aoa.models.backbones import PRETRAINED_SCENES, make_backbone
from keras_aoa.models.build import backbone_settings, make_captioner
from keras_aoa.progress import progress_bar
from keras_aoa.run import Run, image_settings, proposal_view, read_data
from keras_aoa.training.frozen import frozen_features
from keras_aoa.training.logs import SAMPLES, TensorBoard
from keras_aoa.training.pretraining import PretrainingSettings, pretrained_backbone
from keras_aoa.training.trainer import Trainer, check_loss
from keras_aoa.training.warm_start import WarmStart


def train(configuration):
    """Train a captioner, or go on where a run of the same settings stopped; then evaluate it.

    Args:
        configuration: `Configuration`.

    Returns:
        The `Run`, with its best weights, scores and pictures in its folder.

    Raises:
        UserError: bad data or settings; the run's folder holds a run of other settings.
    """
    started = time.monotonic()
    tf.config.experimental.enable_op_determinism()
    run, data, training_images, select_images = prepare_run(configuration)
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
    captioner = run.make_captioner()
    if configuration.start_from and not run.last_file.exists():
        print(WarmStart(configuration.start_from).load(captioner))
    trainer = Trainer(captioner, configuration, batches.batches_per_epoch)
    generator = Generator.of(captioner, run.vocabulary, configuration)
    progress = restore(run, trainer)
    board = TensorBoard(run.folder / "tensorboard")
    pixels = training_images, select_images
    if configuration.feature_cache != "none" and progress["epochs"] < configuration.rnn_epochs:
        mirrored = batches.mirrored_places
        batches.show(frozen_features(run, captioner, training_images, mirrored))
        select_images = frozen_features(run, captioner, select_images)
    for epoch in range(progress["epochs"], configuration.epochs):
        if progress["stopped"]:
            break
        joint = epoch >= configuration.rnn_epochs
        if joint:
            batches.show(pixels[0])
            select_images = pixels[1]
        facts = {"epoch": epoch + 1, "loss": train_epoch(trainer, batches, epoch, joint, board)}
        last = epoch + 1 == configuration.epochs or time_is_up(configuration, started)
        if last or (epoch + 1) % configuration.validate_every == 0:
            found = captions_for_validation(trainer, generator, select_images)
            facts["CIDEr"] = validation_cider(select_images, found)
            board.validation(trainer.steps, facts["CIDEr"], select_images, found)
            if facts["CIDEr"] > progress["best"]:
                progress["best"] = facts["CIDEr"]
                weights.save_arrays(run.best_file, trainer.evaluated_weights(), run.facts)
        progress["history"].append(facts)
        progress["epochs"], progress["stopped"] = epoch + 1, last
        save(run, trainer, progress)
        print(describe(facts, configuration, started))
    del training_images, select_images, batches, pixels
    evaluate(run, EvaluationSettings(), data=data, history=progress["history"])
    return run


def prepare_run(configuration):
    """Make the run's folder, or open the one that is there; nothing is made of bad input.

    Args:
        configuration: `Configuration`.

    Returns:
        The `Run`, its data, and the readable `Images` of training and of selection.
    """
    folder = configuration.folder
    if (folder / "config.json").exists():
        run = Run(folder)
        different = run.configuration.differences(configuration)
        if different:
            raise UserError(
                f"{folder}: holds a run of other settings ({', '.join(different)}); "
                "choose another --name, or remove the folder to start anew."
            )
        print(f"Going on with {folder}.")
        data = run.load_data()
        return run, data, *load_images(configuration, data, run.proposal_view)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder's name, found a file; choose another --name.")
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
    run = Run.create(configuration, vocabulary, backbone)
    counts = {split: len(examples) for split, examples in data.splits.items()}
    print(f"{folder}: {data.name}, images {counts}, vocabulary of {len(vocabulary)} words.")
    return run, data, *images


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


def train_epoch(trainer, batches, epoch, joint, board):
    """One pass over the training images; returns the mean loss in nats a word."""
    losses = []
    stage = "both" if joint else "RNN"
    with progress_bar(
        batches.epoch(epoch),
        total=batches.batches_per_epoch,
        desc=f"epoch {epoch + 1} ({stage})",
        unit="step",
    ) as bar:
        for batch in bar:
            loss = float(trainer.step(batch, joint))
            check_loss(loss, trainer.steps, batches.names(batch["index"].numpy()))
            losses.append(loss)
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", refresh=False)
            board.step(trainer.steps, loss, trainer.rate_factor())
    return float(np.mean(losses))


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


def save(run, trainer, progress):
    """Write all that the next epoch depends on."""
    facts = {**run.facts, "steps": trainer.steps, "progress": progress}
    weights.save_arrays(run.last_file, trainer.state(), facts)


def restore(run, trainer):
    """Go on from the last checkpoint, if there is one; returns the progress made."""
    if not run.last_file.exists():
        return {"epochs": 0, "stopped": False, "best": -1.0, "history": []}
    arrays, facts = weights.load_arrays(run.last_file)
    run.check(facts, run.last_file)
    trainer.restore(arrays, facts["steps"], run.last_file)
    return facts["progress"]


def time_is_up(configuration, started):
    """Whether the run has used its minutes."""
    return configuration.minutes and time.monotonic() - started > 60 * configuration.minutes


def describe(facts, configuration, started):
    """A line about an epoch."""
    score = f", CIDEr {100 * facts['CIDEr']:.1f}" if "CIDEr" in facts else ""
    minutes = (time.monotonic() - started) / 60
    return (
        f"epoch {facts['epoch']}/{configuration.epochs}: loss {facts['loss']:.3f}{score} "
        f"({minutes:.1f} minutes)"
    )
