"""Compares this project with what users would pick instead, in one measuring run.

1. A training step of our decoder beside a step of Att2in2 in PyTorch, at the same sizes.
2. A caption of our captioner beside captions of BLIP-base, GIT-base and ViT-GPT2: from JPEG to the
   word ids, batch 1, on two cores (`--cores`). The peers have the published architecture with
   random weights, and all captions have the same number of words.

Each implementation runs in its own process, and the processes alternate. The peers need an
environment of their own, which `make .venv-peers/installed` creates.
"""

import contextlib
import os
import pathlib
import sys
import tempfile
from dataclasses import asdict, dataclass

from benchmarks.decoder import WIDTH, Size
from benchmarks.measure import in_new_process, print_row
from benchmarks.photo import photo_file
from benchmarks.workers import ROOT, Worker, alternate
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError

OWN, PEER = "benchmarks.own_worker", "benchmarks.peer_worker"
PEERS = ("BLIP-base", "GIT-base", "ViT-GPT2")


@dataclass(frozen=True)
class Arguments:
    """Time our training step and our captioner beside other implementations."""

    checkout: str = ""
    """Clone of github.com/ruotianluo/ImageCaptioning.pytorch. Without it, only captions are
    timed."""
    captions: bool = True
    """Also time captions."""
    sizes: tuple[str, ...] = ("10x5/49", "10x5/196", "50x5/49")
    """Sizes of the training step: images x captions per image / regions."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    """Dtypes of the training step's matrix products. The peer uses autocast for bfloat16."""
    captioner: str = "flickr8k"
    """Folder of our run, or a captioner's name."""
    peers: tuple[str, ...] = PEERS
    """Captioners to compare with."""
    beams: tuple[int, ...] = (1, 3)
    """Beam sizes."""
    words: int = 12
    """Number of words of all captions."""
    image: str = ""
    """Photograph to caption; by default a drawn scene of 640 x 480 pixels as JPEG."""
    cores: int = 2
    """Number of processor cores for captions. Training steps use all cores."""
    turns: int = 5
    """Number of turns. The results are medians of all calls."""
    python: str = ".venv-peers/bin/python"
    """Python interpreter with PyTorch and Transformers."""
    json: bool = False
    """Print json lines."""

    def __post_init__(self):
        for name in self.peers:
            if name not in PEERS:
                raise UserError(f"peers: expected {', '.join(PEERS)}, received {name!r}.")
        for text in self.sizes:
            size_of(text)
        if self.cores < 1 or self.turns < 1:
            raise UserError(
                f"cores and turns: expected at least 1, received {self.cores} and {self.turns}."
            )


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.peers", arguments)
    python = ROOT / settings.python
    if not python.exists():
        raise UserError(
            f"{settings.python}: expected the environment of the peers, found none; run make "
            ".venv-peers/installed."
        )
    if settings.checkout:
        model = pathlib.Path(settings.checkout) / "captioning/models/AttModel.py"
        if not model.is_file():
            raise UserError(
                f"checkout: expected a clone of ruotianluo/ImageCaptioning.pytorch, found no "
                f"{model}; run git clone https://github.com/ruotianluo/ImageCaptioning.pytorch."
            )
        for text in settings.sizes:
            for dtype in settings.dtypes:
                for row in step_rows(settings, python, text, dtype):
                    print_row(row, step_line(row), settings.json)
    if settings.captions:
        for row in caption_rows(settings, python):
            print_row(row, caption_line(row), settings.json)


def size_of(text):
    """Return the `Size` that a text such as `10x5/49` describes.

    Raises:
        UserError: the text has another form.
    """
    try:
        batch, regions = text.split("/")
        images, captions = batch.split("x")
        return Size(int(images), int(captions), int(regions))
    except ValueError:
        raise UserError(
            f"sizes: expected IMAGESxCAPTIONS/REGIONS such as 10x5/49, received {text!r}."
        ) from None


def step_rows(settings, python, text, dtype):
    """Time a training step of a size, and return a row for each implementation."""
    size = size_of(text)
    options = {**asdict(size), "dtype": dtype}
    checkout = str(pathlib.Path(settings.checkout).resolve())
    peer_options = {**options, "width": WIDTH, "checkout": checkout}
    with contextlib.ExitStack() as stack:
        own = started(stack, sys.executable, OWN, step=options)
        peer = started(stack, python, PEER, step=peer_options)
        asked = {"ours": (own, "step"), "Att2in2": (peer, "step")}
        results = alternate(asked, settings.turns, calls=2)
    rows = []
    for name, result in results.items():
        row = {"size": text, "dtype": dtype, "model": name, **result}
        if "failed" not in result:
            row["captions_a_second"] = size.images * size.captions / result["seconds"]
            if "failed" not in results["Att2in2"]:
                row["times_as_fast"] = results["Att2in2"]["seconds"] / result["seconds"]
        rows.append(row)
    return rows


def caption_rows(settings, python):
    """Time the captioners, and yield a row for each captioner and beam size."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: settings.cores])  # the workers inherit the cores
    try:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            image = pathlib.Path(folder) / "photo.jpg"
            image.write_bytes(photo_file(settings.image))
            yield from _caption_rows(settings, python, stack, image)
    finally:
        os.sched_setaffinity(0, cores)


def _caption_rows(settings, python, stack, image):
    common = {"beams": settings.beams, "words": settings.words}
    exports = in_new_process(
        OWN, "export", run=settings.captioner, output=str(image.parent / "export"), **common
    )
    workers = {}
    if "failed" not in exports:
        exported = {"folders": exports["folders"], "image": str(image)}
        workers["ours, exported"] = started(stack, sys.executable, OWN, exported=exported)
    live = {"run": settings.captioner, "image": str(image), **common}
    workers["ours, live"] = started(stack, sys.executable, OWN, live=live)
    for name in settings.peers:
        options = {"name": name, "image": str(image), **common}
        workers[name] = started(stack, python, PEER, captioner=options)
    for beam in settings.beams:
        asked = {name: (worker, str(beam)) for name, worker in workers.items()}
        results = alternate(asked, settings.turns, calls=1)
        if "failed" in exports:
            results = {"ours, exported": exports, **results}
        else:
            results["ours, exported"] |= {
                name: exports[name] for name in ("parameters", "megabytes")
            }
        own = results["ours, exported"].get("seconds")
        for name, result in results.items():
            row = {"captioner": name, "beam": beam, **result}
            if own and "seconds" in result:
                row["times_our_export"] = result["seconds"] / own
            yield row


def started(stack, python, module, **options):
    """Start a `Worker`, which ends with the stack."""
    return stack.enter_context(contextlib.closing(Worker(python, module, options)))


def spread(row):
    """Format the median and the spread of a row's times."""
    median, fastest, slowest = (1000 * row[name] for name in ("seconds", "fastest", "slowest"))
    return f"{median:7.0f} ms ({fastest:.0f} to {slowest:.0f})"


def step_line(row):
    """Format a row of a training step as text."""
    name = f"step {row['size']:9} {row['dtype']:8} {row['model']:8}"
    if "failed" in row:
        return f"{name} failed: {row['failed']}"
    text = f"{name} {spread(row)}, {row['captions_a_second']:6.1f} captions/s"
    if "times_as_fast" in row:
        text += f", {row['times_as_fast']:.2f} times as fast as Att2in2"
    return f"{text}, {row['peak_gigabytes']:.1f} GB"


def caption_line(row):
    """Format a row of a captioner as text."""
    name = f"caption, beam {row['beam']} {row['captioner']:14}"
    if "failed" in row:
        return f"{name} failed: {row['failed']}"
    text = f"{name} {spread(row)}"
    if "times_our_export" in row:
        text += f", {row['times_our_export']:5.1f} times our export"
    return (
        f"{text}; {row['parameters'] / 1e6:.1f} million parameters, {row['megabytes']:.0f} MB, "
        f"{row['peak_gigabytes']:.1f} GB of memory"
    )


if __name__ == "__main__":
    run(main)
