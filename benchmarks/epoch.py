"""Measures an epoch of the preset `flickr8k`: decoder, input, validation, and feature cache.

The benchmark runs `train` with the first images of the training split, the vocabulary of the whole
split, and all images of the validation split. Rates are then scaled to the whole training split.
After each epoch, the trainer repeats the steps of the epoch with the same batches, which are then
in memory. After each file of the cache, the network repeats the images of the file with pixels in
memory. Other load therefore affects both sides of a ratio. The first epoch and the first file are
not timed, because they compile graphs. Nor are files that are not full.
"""

import contextlib
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np

from benchmarks.measure import train_with_callback
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError


@dataclass(frozen=True)
class Arguments:
    """Time epochs of training with cached features of a network that stays as it is."""

    data: str = "data/flickr8k"
    """Folder of captioned photographs."""
    backbone: str = "EfficientNetLite2"
    """Network, as for train.py."""
    preprocessing: str = ""
    """Pixel format that a .keras network expects, as for train.py."""
    image_size: int = 260
    """Side of the network's input, in pixels."""
    images: int = 520
    """Number of training images, more than 512: two files of the cache."""
    validation_images: int = 0
    """Number of images of the validation. 0 means all images of its split. The time is scaled to
    all images, with its fixed costs such as pictures, so a small number makes it too large."""
    turns: int = 2
    """Number of timed epochs. The results are medians."""
    json: bool = False
    """Print json."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.epoch", arguments)
    if settings.images <= 512 or settings.turns < 1:
        raise UserError("epoch: expected more than 512 --images and at least 1 --turns.")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(settings, folder)
    print(json.dumps(results) if settings.json else text(results))


def measure(settings, folder):
    """Train in `folder`, and return the results as in `summary`."""
    preset = configuration(folder, settings.data, settings.backbone)
    preset = replace(preset, preprocessing=settings.preprocessing, image_size=settings.image_size)
    # Two validations: the first compiles the search.
    short = replace(preset, rnn_epochs=settings.turns + 1, validate_every=settings.turns)
    sizes, seconds = train_timed(short, settings.images, settings.validation_images or None)
    return summary(sizes, seconds, preset)


def configuration(folder, data, backbone):
    """Return the configuration of the preset `flickr8k` with other data and another network."""
    from keras_aoa.settings.presets import PRESETS

    return replace(PRESETS["flickr8k"], output=str(folder), data=data, backbone=backbone)


@contextlib.contextmanager
def few_images(count, validation=None):
    """Within this context, train with `count` images. The vocabulary is that of the whole split.

    Args:
        count: Number of training images, rounded down to whole batches.
        validation: Number of images of the validation, or None for the whole split.

    Yields:
        Dictionary with the results of loading: the numbers of images of both splits, `train` and
        `validation`, the number `validated` in each validation, and the seconds `reading` of `read`
        images.
    """
    from keras_aoa.training import preparation

    load, loaded = preparation.load_images, {}

    def load_few(configuration, data, view):
        names = ("train", configuration.selecting_split)
        whole, batch = [data.splits[name] for name in names], configuration.batch_size
        few = [whole[0][: count // batch * batch], whole[1][:validation]]
        loaded.update(train=len(whole[0]), validation=len(whole[1]))
        loaded.update(validated=len(few[1]), read=len(few[0]) + len(few[1]))
        splits = {**data.splits, **dict(zip(names, few, strict=True))}
        started = time.perf_counter()
        images = load(configuration, replace(data, splits=splits), view)
        loaded["reading"] = time.perf_counter() - started
        return images

    with mock.patch.object(preparation, "load_images", load_few):
        yield loaded


def train_timed(configuration, images, validation=None):
    """Train and validate with the numbers of images of `few_images`.

    Returns:
        The dictionary of `few_images` with the number of `steps` of an epoch, and a dictionary of
        lists of seconds. The lists `training`, `decoder` and `memory` have one number per timed
        epoch: the whole epoch, its steps, and the same steps with batches in memory. The list
        `validation` has one number per validation. The lists `written` and `network` have the
        seconds per image of each timed file of the cache that is full.
    """
    from keras_aoa.data.features import BATCH, SHARD, FeatureFiles
    from keras_aoa.training import epochs as training

    seconds, batches, ends = defaultdict(list), [], []
    write, step, epoch = FeatureFiles._write, training.Trainer.step, training.train_epoch
    describe = training.describe

    def write_timed(files, images, columns, stem, network):
        if len(columns["index"]) < SHARD:  # its last batch would compile another graph
            return write(files, images, columns, stem, network)
        written = elapsed(lambda: write(files, images, columns, stem, network))
        pixels = list(images.batches(columns, BATCH))
        alone = elapsed(lambda: [network(batch)["vector"].numpy() for batch in pixels])
        seconds["written"].append(written / SHARD)
        seconds["network"].append(alone / SHARD)
        return None

    def step_timed(trainer, batch, *arguments):
        started = time.perf_counter()
        result = step(trainer, batch, *arguments)
        batches.append((time.perf_counter() - started, batch))
        return result

    def epoch_timed(trainer, *arguments):
        batches.clear()
        started = time.perf_counter()
        means = epoch(trainer, *arguments)
        seconds["training"].append(time.perf_counter() - started)
        seconds["decoder"].append(sum(taken for taken, _ in batches))
        again = elapsed(lambda: [step(trainer, batch, 1) for _, batch in batches])
        seconds["memory"].append(again)
        ends.append(time.perf_counter())
        return means

    def describe_timed(metrics, *arguments):
        if "CIDEr" in metrics:
            seconds["validation"].append(time.perf_counter() - ends[-1])
        return describe(metrics, *arguments)

    with (
        few_images(images, validation) as sizes,
        mock.patch.object(FeatureFiles, "_write", write_timed),
        mock.patch.object(training.Trainer, "step", step_timed),
        mock.patch.object(training, "train_epoch", epoch_timed),
        mock.patch.object(training, "describe", describe_timed),
    ):
        train_with_callback(configuration, lambda trainer: None)
    timed = {
        name: values if name == "validation" else values[1:] for name, values in seconds.items()
    }
    return {**sizes, "steps": len(batches)}, timed


def elapsed(function):
    """Return the seconds of a call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def summary(sizes, seconds, preset):
    """Return the results as a dictionary.

    Args:
        sizes, seconds: Dictionaries, as returned by `train_timed`.
        preset: `Configuration` that determines the steps of an epoch and the validations.
    """
    arrays = {name: np.array(values) for name, values in seconds.items()}
    cached, decoder, memory = (
        float(np.median(arrays[name])) / sizes["steps"]
        for name in ("training", "decoder", "memory")
    )
    steps = -(-sizes["train"] // preset.batch_size)
    validation = seconds["validation"][-1] * sizes["validation"] / sizes["validated"]
    written, network = (1 / float(np.median(arrays[name])) for name in ("written", "network"))
    return {
        "images": sizes["train"],
        "validation_images": sizes["validation"],
        "validate_every": preset.validate_every,
        "measured_steps": sizes["steps"] * len(seconds["training"]),
        "step_from_cache": cached,
        "step_in_memory": memory,
        "share_of_decoder": float(np.median(arrays["memory"] / arrays["training"])),
        "epoch": steps * cached,
        "epoch_decoder": steps * decoder,
        "epoch_input": steps * (cached - decoder),
        "validation": validation,
        "measured_images": sizes["validated"],
        "measured_validations": seconds["validation"],
        "validation_share": validation / (preset.validate_every * steps * cached),
        "reading_rate": sizes["read"] / sizes["reading"],
        "extraction_rate": written,
        "network_rate": network,
        "share_of_network": float(np.median(arrays["network"] / arrays["written"])),
    }


def text(row):
    """Return the results of `summary` as text."""
    return (
        f"epoch of {row['images']} images: {row['epoch']:.0f} s: decoder "
        f"{row['epoch_decoder']:.0f} s, input {row['epoch_input']:.1f} s\n"
        f"step: {1000 * row['step_from_cache']:.0f} ms from the cache, "
        f"{1000 * row['step_in_memory']:.0f} ms from memory, "
        f"{100 * row['share_of_decoder']:.0f} % of the decoder's own rate "
        f"({row['measured_steps']} steps each)\n"
        f"validation of {row['validation_images']} images: {row['validation']:.1f} s, every "
        f"{row['validate_every']} epochs, {100 * row['validation_share']:.1f} % of the time of "
        f"these epochs ({row['measured_images']} images measured: the first time "
        f"{row['measured_validations'][0]:.1f} s, then {row['measured_validations'][-1]:.1f} s)\n"
        f"reading: {row['reading_rate']:.0f} images/s\n"
        f"features: {row['extraction_rate']:.1f} images/s into the cache, "
        f"{row['network_rate']:.1f} images/s from pixels in memory, "
        f"{100 * row['share_of_network']:.0f} % of the network's own rate"
    )


if __name__ == "__main__":
    run(main)
