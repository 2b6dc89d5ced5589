"""Measures the peak memory of a training step, a search, commands and an epoch, and their growth.

Each point is the peak memory of a new process, including TensorFlow itself. One size changes at a
time. Processes run side by side, because other load does not change their memory. The training step
and the search use random image features, as in `benchmarks.decoder` and `benchmarks.search`.
"""

import functools
import os
import pathlib
import tempfile
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool

from benchmarks.measure import in_new_process, print_row
from benchmarks.photo import photo_file
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest

WORDS, REGIONS = (1000, 6325, 50000), (49, 196, 1000)
# The base sizes of each kind of process, and the values of each size that changes.
KINDS = {
    "step": (
        {"images": 10, "captions": 5, "regions": 49, "words": 6325, "steps": 17},
        {"words": WORDS, "regions": REGIONS, "captions": (1, 5, 20), "steps": (5, 17, 40),
         "images": (1, 10, 50)},
    ),
    "search": (
        {"images": 8, "regions": 49, "words": 6325, "steps": 17, "beam": 5},
        {"words": WORDS, "regions": REGIONS, "steps": (5, 17, 40), "images": (1, 8, 64),
         "beam": (1, 5, 10)},
    ),
    "caption": (
        {"photographs": 1, "beam": 5}, {"photographs": (1, 32, 128), "beam": (1, 5, 10)},
    ),
    "export": ({"beam": 5}, {"beam": (1, 5, 10)}),
    "epoch": ({"images": 100}, {"images": (100, 400)}),
}  # fmt: skip


@dataclass(frozen=True)
class Arguments:
    """Measure the peak memory of processes of increasing size."""

    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of processes."""
    captioner: str = "flickr8k"
    """Folder of a run, or a captioner's name, for the commands `caption` and `export`."""
    data: str = ""
    """Folder of captioned photographs for the epoch, which is left out if this is empty."""
    backbone: str = "EfficientNetLite2"
    """Network of the epoch, as for train.py."""
    processes: int = 0
    """Number of processes side by side. 0 means one per core."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.peaks", arguments)
    for kind in settings.kinds:
        if kind not in KINDS:
            raise UserError(f"kinds: unknown kind {kind!r}. {closest(kind, KINDS)}")
    given = {
        "caption": {"captioner": settings.captioner},
        "export": {"captioner": settings.captioner},
        "epoch": {"data": settings.data, "backbone": settings.backbone},
    }
    kinds = [kind for kind in settings.kinds if kind != "epoch" or settings.data]
    with ThreadPool(settings.processes or os.cpu_count()) as threads:

        @functools.cache
        def start(kind, sizes):
            arguments = {**dict(sizes), **given.get(kind, {})}
            return threads.apply_async(in_new_process, ("benchmarks.peaks", kind), arguments)

        points = [(kind, axis, *point) for kind in kinds for axis, *point in points_of(kind)]
        started = [start(kind, sizes) for kind, _, _, sizes in points]
        before = None
        for (kind, axis, value, _), result in zip(points, started, strict=True):
            row = {"kind": kind, "axis": axis, "value": value, **result.get()}
            text, before = line(row, before), row
            print_row(row, text, settings.json)


def points_of(kind):
    """Yield the axis, its value, and all sizes as a tuple of pairs, for each point of a kind."""
    base, axes = KINDS[kind]
    for axis, values in axes.items():
        for value in values:
            yield axis, value, tuple({**base, axis: value}.items())


def line(row, before=None):
    """Format a row as text, with the growth since the row before if both have the same axis."""
    name = f"{row['kind']:8} {row['axis']:12} {row['value']:6}:"
    if "failed" in row:
        return f"{name} {row['failed']}"
    text = f"{name} {row['peak_gigabytes']:.2f} GB"
    same = before and all(before[key] == row[key] for key in ("kind", "axis"))
    if same and "failed" not in before:
        megabytes = 1000 * (row["peak_gigabytes"] - before["peak_gigabytes"])
        text += f", {megabytes / (row['value'] - before['value']):+.3g} MB each"
    return text


def step(**sizes):
    """Train two steps on random features."""
    from benchmarks.decoder import Size, make_step, random_batch

    train, batch = make_step(sizes["words"]), random_batch(Size(**sizes))
    for _ in range(2):
        train(batch)
    return {}


def search(beam, steps, **sizes):
    """Search twice on random features, for captions with `steps` words, STOP included."""
    import tensorflow as tf

    from benchmarks.decoder import Size, make_captioner, random_batch
    from keras_aoa.models.search import search

    captioner = make_captioner(sizes["words"])

    @functools.partial(tf.function, autograph=False)
    def find(features):
        return tuple(search(captioner, captioner.encode_features(features), beam, steps - 1))

    features = random_batch(Size(**sizes))["features"]
    for _ in range(2):
        find(features)
    return {}


def caption(captioner, photographs, beam):
    """Caption copies of a drawn scene, as `keras-aoa caption` does."""
    from keras_aoa.caption import main as command

    with tempfile.TemporaryDirectory() as folder:
        content = photo_file()
        for number in range(photographs):
            (pathlib.Path(folder) / f"{number}.jpg").write_bytes(content)
        command([captioner, folder, "--beam", str(beam)])
    return {}


def export(captioner, beam):
    """Export a captioner, as `keras-aoa export` does."""
    from keras_aoa.export import main as command

    with tempfile.TemporaryDirectory() as folder:
        command([captioner, folder, "--beam", str(beam)])
    return {}


def epoch(data, backbone, images):
    """Train for an epoch of the preset `flickr8k`, and validate."""
    from dataclasses import replace

    from benchmarks.epoch import configuration, few_images
    from benchmarks.measure import train_with_callback

    with tempfile.TemporaryDirectory() as folder, few_images(images, images):
        settings = replace(configuration(folder, data, backbone), rnn_epochs=1)
        train_with_callback(settings, lambda trainer: None)
    return {}


if __name__ == "__main__":
    run(main)
