"""A whole training: data, run folder, epochs, the best checkpoint, the scores at the end."""

import time

import keras
import numpy as np
import tensorflow as tf

from keras_aoa.data.pipeline import CaptionBatches, Images, image_batches
from keras_aoa.data.vocabulary import Vocabulary
from keras_aoa.errors import UserError
from keras_aoa.evaluation.evaluate import EvaluationSettings, evaluate
from keras_aoa.evaluation.generate import Generator, generate
from keras_aoa.evaluation.metrics import cider
from keras_aoa.models import weights
from keras_aoa.models.backbones import BackboneSettings, make_backbone
from keras_aoa.progress import progress_bar
from keras_aoa.run import Run, read_data
from keras_aoa.training.logs import TensorBoard
from keras_aoa.training.trainer import Trainer, check_loss

SELECT = "select"


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
    keras.utils.set_random_seed(configuration.seed)
    tf.config.experimental.enable_op_determinism()
    run, data = prepare_run(configuration)
    select_split = SELECT if configuration.select_images else configuration.select_split
    require_splits(data, ("train", select_split))
    training_images = load_images(run, data, "train")
    select_images = load_images(run, data, select_split)
    batches = CaptionBatches(
        training_images,
        run.vocabulary,
        configuration.batch_size,
        configuration.captions_per_image,
        configuration.max_words,
        configuration.flip,
        configuration.seed,
    )
    captioner = run.make_captioner()
    trainer = Trainer(captioner, configuration, batches.batches_per_epoch)
    generator = Generator.of(captioner, run.vocabulary, configuration)
    progress = restore(run, trainer)
    board = TensorBoard(run.folder / "tensorboard")
    for epoch in range(progress["epochs"], configuration.epochs):
        if progress["stopped"]:
            break
        joint = epoch >= configuration.rnn_epochs
        facts = {"epoch": epoch + 1, "loss": train_epoch(trainer, batches, epoch, joint, board)}
        last = epoch + 1 == configuration.epochs or time_is_up(configuration, started)
        if last or (epoch + 1) % configuration.validate_every == 0:
            found = trainer.with_evaluated_weights(
                lambda: caption_images(generator, select_images, select_split)
            )
            facts["CIDEr"] = validation_cider(select_images, found)
            board.validation(trainer.steps, facts["CIDEr"], select_images, found)
            if facts["CIDEr"] > progress["best"]:
                progress["best"] = facts["CIDEr"]
                weights.save_arrays(run.best_file, trainer.evaluated_weights(), run.facts())
        progress["history"].append(facts)
        progress["epochs"], progress["stopped"] = epoch + 1, last
        save(run, trainer, progress)
        print(describe(facts, configuration, started))
    del training_images, batches
    split = configuration.test_split if configuration.test_split in data.splits else select_split
    evaluate(run, EvaluationSettings(split=split), data=data, history=progress["history"])
    return run


def prepare_run(configuration):
    """Make the run's folder, or open the one that is there: the `Run` and its data."""
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
        return run, run.load_data()
    data = read_data(configuration, folder.parent)
    require_splits(data, ("train",))
    captions = [text for example in data.splits["train"] for text in example.captions]
    vocabulary = Vocabulary.from_captions(captions, configuration.minimum_count)
    backbone = make_backbone(
        BackboneSettings(
            configuration.backbone,
            configuration.image_size,
            configuration.preprocessing,
            configuration.map_layer,
            configuration.vector_layer,
            configuration.backbone_weights,
        )
    )
    run = Run.create(configuration, vocabulary, backbone)
    images = {split: len(examples) for split, examples in data.splits.items()}
    print(f"{folder}: {data.name}, images {images}, vocabulary of {len(vocabulary)} words.")
    return run, data


def require_splits(data, splits):
    """Refuse data that lack a split.

    Raises:
        UserError: with the splits there are.
    """
    for split in splits:
        if not data.splits.get(split):
            raise UserError(
                f"{data.name}: expected a split {split!r}, found {', '.join(data.splits)}; set "
                "select_images to hold out training images, or select_split to one of these."
            )


def load_images(run, data, split):
    """The readable images of a split."""
    return Images(split, data.splits[split], run.image_settings, run.configuration.cache_gigabytes)


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


def caption_images(generator, images, split):
    """Captions of a split's readable images, with attention: `{index: Generated}`."""
    return generate(
        generator, image_batches(images, 32), len(images.readable), f"captions of {split}", True
    )


def validation_cider(images, found):
    """CIDEr of generated captions."""
    references = {index: images.examples[index].captions for index in found}
    return cider(references, {index: generated.caption for index, generated in found.items()})


def save(run, trainer, progress):
    """Write all that the next epoch depends on."""
    facts = {**run.facts(), "steps": trainer.steps, "progress": progress}
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
