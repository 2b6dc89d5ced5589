"""Measures the milliseconds from an image file to its caption, and which part takes them.

The total is a call of the exported SavedModel, from the file's content to the text. The parts are
the functions of which the export consists, each compiled and called alone on the output of the part
before:

- read: decode the file and resize the pixels;
- network: compute the activation map and the image vector;
- search: compute the regions and search for the caption;
- rest: the total minus the three parts, e.g. converting word ids to text. If parts overlap in the
  export, the rest is smaller, or even negative.

The measurements alternate, so that other load affects all of them.
"""

import tempfile
import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro

from benchmarks.measure import in_new_process, print_row
from benchmarks.own_worker import exported_functions
from benchmarks.photo import photo_file
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError

PARTS = ("read", "network", "search")


@dataclass(frozen=True)
class Arguments:
    """Time captions of an exported captioner, for each batch size and beam size."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CAPTIONER")] = "flickr8k"
    """Folder of a run without object proposals, or a captioner's name."""
    image: str = ""
    """Photograph to caption; by default a drawn scene of 640 x 480 pixels as JPEG."""
    batches: tuple[int, ...] = (1, 32)
    """Numbers of images per call; all are the same photograph."""
    beams: tuple[int, ...] = (1, 3, 5)
    """Beam sizes."""
    turns: int = 7
    """Number of timed calls. The results are medians."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.caption", arguments)
    content = photo_file(settings.image)
    with tempfile.TemporaryDirectory() as folder:
        exports = in_new_process(
            "benchmarks.own_worker", "export", run=settings.run, output=folder, beams=settings.beams
        )
        if "failed" in exports:
            raise UserError(f"{settings.run}: cannot be exported: {exports['failed']}")
        exported = exported_functions(exports["folders"])
        totals = {("total", int(beam)): caption for beam, caption in exported.items()}
        functions = totals | part_functions(settings)
        for batch in settings.batches:
            for row in rows(functions, [content] * batch, settings):
                print_row(row, line(row), settings.json)


def part_functions(settings):
    """Return the functions of the parts by name, and by `search` and the beam size."""
    import tensorflow as tf

    from keras_aoa.data.images.headers import MAX_PIXELS
    from keras_aoa.data.images.views import NetworkViews, read_batch
    from keras_aoa.models.constraints import search_arguments
    from keras_aoa.models.search import search
    from keras_aoa.runs.ensemble import open_run
    from keras_aoa.settings.search import SearchSettings

    opened = open_run(settings.run)
    if opened.proposal_view:
        raise UserError(f"{settings.run}: expected a run without object proposals.")
    captioner = opened.load_captioner(for_inference=True)
    views = NetworkViews(opened.image_settings)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def read(contents):
        return read_batch(contents, views, views.shapes, MAX_PIXELS)[0]["images"]

    image = tf.TensorSpec((None, *views.shapes["images"]))

    @tf.function(input_signature=[image], autograph=False)
    def network(images):
        return captioner.extract_features({"images": images})

    def searching(beam):
        chosen = SearchSettings(beam=beam).of(opened.configuration)
        arguments = search_arguments(chosen, opened.vocabulary)

        @tf.function(reduce_retracing=True, autograph=False)
        def find(features):
            encoded = captioner.encode_features(features, stride=chosen["stride"])
            return search(captioner, encoded, **arguments)

        return find

    searches = {("search", beam): searching(beam) for beam in settings.beams}
    return {"read": read, "network": network, **searches}


def rows(functions, contents, settings):
    """Time all functions in turn, and return a row of results for each beam size."""
    import tensorflow as tf

    contents = tf.constant(contents)
    images = functions["read"](contents)
    features = functions["network"](images)
    calls = {
        "read": lambda: functions["read"](contents).numpy(),
        "network": lambda: functions["network"](images)["vector"].numpy(),
    }
    for beam in settings.beams:
        calls["search", beam] = lambda beam=beam: functions["search", beam](features).ids.numpy()
        calls["total", beam] = lambda beam=beam: functions["total", beam](contents)
    times = {name: [] for name in calls}
    for turn in range(settings.turns + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn:  # the first call builds the graph
                times[name].append(1000 * (time.perf_counter() - started))
    return [row(times, len(contents), beam) for beam in settings.beams]


def row(times, batch, beam):
    """Return the medians of a beam size, in milliseconds per call.

    Args:
        times: Lists of milliseconds by `read`, `network`, `("search", beam)` and `("total", beam)`.
        batch: Number of images per call.
        beam: Beam size.
    """
    total = times["total", beam]
    parts = {"read": times["read"], "network": times["network"], "search": times["search", beam]}
    medians = {name: float(np.median(parts[name])) for name in PARTS}
    median = float(np.median(total))
    return {
        "batch": batch,
        "beam": beam,
        "milliseconds": median,
        "fastest": min(total),
        "slowest": max(total),
        **medians,
        "rest": median - sum(medians.values()),
    }


def line(row):
    """Format a row as text."""
    parts = ", ".join(f"{name} {row[name]:.1f}" for name in (*PARTS, "rest"))
    return (
        f"batch {row['batch']:2}, beam {row['beam']}: {row['milliseconds']:7.1f} ms "
        f"({row['fastest']:.0f} to {row['slowest']:.0f}), {row['milliseconds'] / row['batch']:.1f} "
        f"per image: {parts} ({100 * row['rest'] / row['milliseconds']:.0f} %)"
    )


if __name__ == "__main__":
    run(main)
