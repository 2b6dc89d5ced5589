"""What reading images costs a training epoch, and what keeping a frozen network's features saves.

A network of keras.applications with random weights, frozen; full model, widths 512, vocabulary of
the data. Epochs of each kind take turns; the first of each does not count.
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
    """Time training epochs that read JPEG files, pixels in memory, and features in files."""

    data: str = "scenes"
    """'scenes', written as JPEG files of 320 pixels, or a folder of captioned photographs."""
    backbone: str = "VGG16"
    """Network of keras.applications."""
    images: int = 60
    """Training images used."""
    turns: int = 2
    """Epochs timed of each kind; the figures are medians."""
    json: bool = False
    """Print json."""


def main(arguments):
    """Measure and print."""
    settings = parse(Arguments, "benchmarks.pipeline", arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(settings, pathlib.Path(folder))
    if settings.json:
        print(json.dumps(found))
        return
    for name, seconds in found["seconds"].items():
        print(f"{name:28} {seconds:6.1f} s")
    print(f"files over memory: {found['files_over_memory']:.3f}")
    print(
        f"features: {found['gain']:.2f} times as fast; (CNN + RNN) / RNN is "
        f"{found['gain_there']:.2f}, of which {100 * found['share_of_gain']:.0f} %"
    )


def measure(settings, folder):
    """Median seconds of each kind of epoch, and what follows from them."""
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
    see = compiled(captioner.see)
    for turn in range(settings.turns + 1):
        kinds = {
            **{
                name: lambda made=made, turn=turn: train(trainer, made.epoch(turn))
                for name, made in batches.items()
            },
            "CNN alone": lambda: [see(batch)["vector"].numpy() for batch in pixels],
            "RNN alone": lambda: train(trainer, in_memory),
        }
        for name, function in kinds.items():
            started = time.perf_counter()
            function()
            if turn:
                times[name].append(time.perf_counter() - started)
    seconds = {name: float(np.median(values)) for name, values in times.items()}
    gain = seconds["pixels in memory"] / seconds["features in files"]
    there = (seconds["CNN alone"] + seconds["RNN alone"]) / seconds["RNN alone"]
    return {
        "seconds": seconds,
        "files_over_memory": seconds["JPEG files"] / seconds["pixels in memory"],
        "gain": gain,
        "gain_there": there,
        "share_of_gain": gain / there,
    }


def train(trainer, batches):
    """An epoch of stage 1."""
    for batch in batches:
        trainer.step(batch, joint=False)


def compiled(function):
    """As one graph for all batches of a size."""
    import tensorflow as tf

    return tf.function(function, autograph=False, reduce_retracing=True)


def read_examples(settings, folder):
    """Captioned JPEG files: photographs, or scenes written as such."""
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
