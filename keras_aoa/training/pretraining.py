"""Pretrains a small network on drawn scenes, as other networks are pretrained on ImageNet.

The network learns to predict which words occur in an image's captions. No captioner trains on the
scenes of the pretraining.
"""

import pathlib
from dataclasses import asdict, dataclass

import keras
import numpy as np
from keras import ops

from keras_aoa.data import scenes
from keras_aoa.data.images.preprocessing import ImageSettings
from keras_aoa.data.images.split_images import Images, batched
from keras_aoa.data.text.attributes import word_flags
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.models.backbones import load_backbone
from keras_aoa.models.scenes_network import scenes_backbone
from keras_aoa.utils.files import atomic_write, settings_digest

SEED_OFFSET = 1000  # difference between the seeds of the backbone's and the captioner's scenes
FORMAT_VERSION = 1  # increase it when a change of the code changes the network


@dataclass(frozen=True)
class PretrainingSettings:
    """Settings of the pretraining: scenes and their seed, epochs, batch size and learning rate."""

    image_size: int = 96
    scenes_seed: int = SEED_OFFSET
    images: int = 7500
    epochs: int = 4
    batch_size: int = 20
    learning_rate: float = 3e-3
    seed: int = 0

    @classmethod
    def of(cls, configuration):
        """Return the settings for a `Configuration`.

        The scenes of the pretraining differ from the captioner's scenes.
        """
        return cls(configuration.image_size, SEED_OFFSET + configuration.scenes_seed)


def pretrained_file(folder, settings):
    """Return the file of the pretrained network. If the file is missing, pretrain the network.

    Args:
        folder: Folder of drawn scenes and networks.
        settings: `PretrainingSettings`.

    Returns:
        Path of a `.keras` file. The network in this file includes the preprocessing of pixels.
    """
    digest = settings_digest({"format": FORMAT_VERSION, **asdict(settings)})
    path = pathlib.Path(folder) / f"scenes-backbone-{digest}.keras"
    if not path.exists():
        print(
            f"{path}: pretraining a network on {settings.images} drawn scenes for "
            f"{settings.epochs} epochs; this happens once."
        )
        backbone = pretrain(folder, settings)
        with atomic_write(path) as temporary:
            backbone.save(temporary)
    return path


def pretrained_backbone(folder, settings):
    """Load the pretrained network. If the file of the network is missing, pretrain it."""
    return load_backbone(pretrained_file(folder, settings))


def pretrain(folder, settings):
    """Train a backbone to predict which words occur in an image's captions.

    Each cell of the activation map has a score for each word. The image's score for a word is the
    soft maximum of the cells' scores. In this way, a word is learned by the cells that show it.
    """
    # One image is the least that the unused split may have.
    drawn = scenes.ScenesSettings(
        settings.scenes_seed, settings.images, test=1, size=settings.image_size
    )
    data = scenes.prepare(folder, drawn)
    captions = [text for example in data.splits["train"] for text in example.captions]
    vocabulary = Vocabulary.from_captions(captions, minimum_count=10)
    keras.utils.set_random_seed(settings.seed)
    backbone = scenes_backbone()
    scores = keras.layers.Conv2D(len(vocabulary), 1)(backbone.output["map"])
    scores = keras.layers.Lambda(_soft_maximum)(scores)
    model = keras.Model(backbone.input, scores)
    batches = {
        split: word_batches(data.splits[split], vocabulary, settings, split == "train")
        for split in ("train", "val")
    }
    steps = settings.epochs * len(batches["train"])
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=settings.learning_rate, warmup_steps=50
    )
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.AUC(curve="PR", from_logits=True, name="precision_recall_area")],
    )
    model.fit(
        batches["train"],
        validation_data=batches["val"],
        epochs=settings.epochs,
        verbose=2,
        shuffle=False,
    )
    return backbone


def word_batches(examples, vocabulary, settings, shuffle):
    """Return batches of images, with flags for the words that occur in each image's captions."""
    images = Images("pretraining", examples, ImageSettings(settings.image_size, "stretch"))
    words = word_flags(examples, vocabulary, range(len(vocabulary))).astype(np.float32)
    columns = {"index": images.readable.astype(np.int32), "words": words[images.readable]}
    rows = images.dataset(columns)
    if shuffle:
        rows = rows.shuffle(len(examples), seed=settings.seed)
    batches = batched(rows, settings.batch_size)
    return batches.map(lambda batch: (batch["images"], batch["words"]))


def _soft_maximum(scores):
    cells = ops.cast(ops.shape(scores)[1] * ops.shape(scores)[2], scores.dtype)
    return ops.logsumexp(scores, axis=(1, 2)) - ops.log(cells)
