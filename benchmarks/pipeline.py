"""Measures the cost of reading images, and the time that cached features of the CNN save.

The CNN is a frozen network of keras.applications with random weights. The captioner is the full
model with 512 units and the vocabulary of the data. The kinds of epochs alternate. The first epoch
of each kind is not timed.
"""

import json
import pathlib
import tempfile
import time
from dataclasses import dataclass, replace

import numpy as np

from keras_aoa.utils.command_line import parse, run


@dataclass(frozen=True)
class Arguments:
    """Time training epochs with JPEG files, with pixels in memory, and with cached features."""

    data: str = "scenes"
    """'scenes' (drawn, and saved as JPEG files of 320 x 320 pixels), or a folder of captioned
    photographs."""
    backbone: str = "VGG16"
    """Network of keras.applications."""
    images: int = 60
    """Number of training images."""
    turns: int = 2
    """Number of timed epochs of each kind. The results are medians."""
    json: bool = False
    """Print json."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.pipeline", arguments)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(settings, pathlib.Path(folder))
    if settings.json:
        print(json.dumps(results))
        return
    for name, seconds in results["seconds"].items():
        print(f"{name:28} {seconds:6.1f} s")
    print(f"time with files / time with pixels in memory: {results['files_over_memory']:.3f}")
    print(
        f"speedup from cached features: {results['gain']:.2f}, "
        f"{100 * results['share_of_gain']:.0f} % of the largest possible speedup, "
        f"(CNN + RNN) / RNN = {results['gain_there']:.2f}"
    )


def measure(settings, folder):
    """Return the median seconds of each kind of epoch, and ratios computed from these seconds."""
    from keras_aoa.data.caption_batches import CaptionBatches
    from keras_aoa.data.images.preprocessing import ImageSettings
    from keras_aoa.data.images.split_images import Images
    from keras_aoa.data.text.vocabulary import Vocabulary
    from keras_aoa.models.backbones import make_backbone
    from keras_aoa.models.build import backbone_settings, make_captioner
    from keras_aoa.runs.run import Run
    from keras_aoa.settings.configuration import Configuration
    from keras_aoa.training.frozen import frozen_features
    from keras_aoa.training.trainer import Trainer

    configuration = Configuration(
        output=str(folder), backbone=settings.backbone, backbone_weights="none",
        feature_cache="float16",
    )  # fmt: skip
    examples = read_examples(settings, folder)
    captions = [text for example in examples for text in example.captions]
    vocabulary = Vocabulary.from_captions(captions, 1)
    backbone = make_backbone(backbone_settings(configuration))
    captioner = make_captioner(configuration, backbone, len(vocabulary))

    sources = {
        "JPEG files": Images("train", examples, ImageSettings(), 0.0),
        "pixels in memory": Images("train", examples, ImageSettings(), 4.0),
    }
    run = Run.create(configuration, vocabulary, backbone)
    features = frozen_features(run, captioner, sources["JPEG files"])
    sources["features in files"] = features
    batches = {name: CaptionBatches(images, vocabulary, 10) for name, images in sources.items()}
    trainer = Trainer(captioner, configuration, batches["JPEG files"].batches_per_epoch)
    times = {name: [] for name in (*sources, "CNN alone", "RNN alone")}
    in_memory = list(batches["features in files"].epoch(0))
    pixels = list(batches["pixels in memory"].epoch(0))
    extract = compiled(captioner.extract_features)
    for turn in range(settings.turns + 1):
        kinds = {
            **{
                name: lambda source=source, turn=turn: train(trainer, source.epoch(turn))
                for name, source in batches.items()
            },
            "CNN alone": lambda: [extract(batch)["vector"].numpy() for batch in pixels],
            "RNN alone": lambda: train(trainer, in_memory),
        }
        for name, function in kinds.items():
            started = time.perf_counter()
            function()
            if turn:
                times[name].append(time.perf_counter() - started)
    seconds = {name: float(np.median(values)) for name, values in times.items()}
    gain = seconds["pixels in memory"] / seconds["features in files"]
    possible_gain = (seconds["CNN alone"] + seconds["RNN alone"]) / seconds["RNN alone"]
    return {
        "seconds": seconds,
        "files_over_memory": seconds["JPEG files"] / seconds["pixels in memory"],
        "gain": gain,
        "gain_there": possible_gain,
        "share_of_gain": gain / possible_gain,
    }


def train(trainer, batches):
    """Train for an epoch of stage 1."""
    for batch in batches:
        trainer.step(batch, stage=1)


def compiled(function):
    """Compile a function into one graph per batch size."""
    import tensorflow as tf

    return tf.function(function, autograph=False, reduce_retracing=True)


def read_examples(settings, folder):
    """Return examples whose images are JPEG files: photographs, or drawn scenes saved as JPEG."""
    import cv2

    from keras_aoa.data.build import load_data

    drawn = settings.data == "scenes"
    data = load_data(
        settings.data, cache=folder, scenes_images=settings.images, image_size=320 if drawn else 96
    )
    examples = data.splits["train"][: settings.images]
    if not drawn:
        return examples
    jpegs = []
    for example in examples:
        path = str(pathlib.Path(example.path).with_suffix(".jpg"))
        cv2.imwrite(path, cv2.imread(example.path))
        jpegs.append(replace(example, path=path))
    return jpegs


if __name__ == "__main__":
    run(main)
