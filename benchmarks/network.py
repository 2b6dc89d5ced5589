"""Measures the image network of a run at inference, with and without folded normalization."""

import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro

from benchmarks.measure import print_row
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.keras_settings import use_keras_defaults


@dataclass(frozen=True)
class Arguments:
    """Time the network that computes a run's activation maps."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = "flickr8k"
    """Folder of a run, or a captioner's name."""
    images: tuple[int, ...] = (1, 8, 32)
    """Batch sizes to measure, in images."""
    turns: int = 10
    """Number of timed batches. The two networks alternate, and the results are medians."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.network", arguments)
    use_keras_defaults()
    import tensorflow as tf

    from keras_aoa.models.folding import fold_batch_normalization
    from keras_aoa.runs.named import run_folder
    from keras_aoa.runs.run import Run

    opened = Run(run_folder(settings.run))
    network, side = opened.load_captioner().backbone, opened.image_settings.side

    def compiled(model):
        return tf.function(lambda images: model(images, training=False)["map"], autograph=False)

    networks = {"plain": compiled(network), "folded": compiled(fold_batch_normalization(network))}
    random = np.random.default_rng(0)
    for count in settings.images:
        pixels = tf.constant(random.uniform(0, 255, (count, side, side, 3)), tf.float32)
        times = {name: [] for name in networks}
        for turn in range(settings.turns + 1):
            for name, call in networks.items():
                started = time.perf_counter()
                call(pixels).numpy()
                if turn:  # the first turn compiles
                    times[name].append(time.perf_counter() - started)
        plain, folded = (1000 * np.median(times[name]) / count for name in networks)
        row = {"images": count, "plain_ms": plain, "folded_ms": folded}
        text = f"{count:2} images: {plain:.1f} ms per image, folded {folded:.1f} ms"
        print_row(row, text, settings.json)


if __name__ == "__main__":
    run(main)
