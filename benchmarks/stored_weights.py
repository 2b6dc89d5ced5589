"""Measures the size, speed and captions of exports whose weights are stored in fewer bits."""

import json
import pathlib
import tempfile
import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro

from keras_aoa.utils.command_line import parse, run


@dataclass(frozen=True)
class Arguments:
    """Export a run with each kind of storage, and caption a split with each export."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, or a captioner's name."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Folder or file of captioned photographs."""
    split: str = "val"
    """Split to caption."""
    images: int = 1000
    """Number of images, starting with the first image of the split."""
    beam: int | None = None
    """Beam size. Default: the run's beam size."""
    json: bool = False
    """Print json."""


def main(arguments):
    """Measure and print the results. The exports caption each image in turn."""
    settings = parse(Arguments, "benchmarks.stored_weights", arguments)
    import tensorflow as tf

    from keras_aoa.data.build import load_data
    from keras_aoa.evaluation.metrics import cider
    from keras_aoa.runs.ensemble import open_run
    from keras_aoa.serving.save import export_run
    from keras_aoa.serving.stored_weights import STORAGES
    from keras_aoa.settings.search import SearchSettings
    from keras_aoa.utils.progress import progress_bar

    opened = open_run(settings.run)
    data = load_data(settings.data, cache=tempfile.gettempdir())
    examples = data.splits[settings.split][: settings.images]
    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        loaded = {}
        for storage in STORAGES:
            search = SearchSettings(beam=settings.beam)
            exported = export_run(opened, f"{temporary}/{storage}", search, storage=storage)
            loaded[storage] = tf.saved_model.load(str(exported.folder))
            rows[storage] = {"megabytes": exported.megabytes, "milliseconds": [], "texts": []}
        # The first request of an export is slower.
        for example in progress_bar([examples[0], *examples], unit="image"):
            content = tf.constant([pathlib.Path(example.path).read_bytes()])
            for storage, model in loaded.items():
                started = time.perf_counter()
                outputs = model.signatures["serving_default"](image_bytes=content)
                text = outputs["captions"].numpy()[0, 0].decode()
                rows[storage]["milliseconds"].append(1000 * (time.perf_counter() - started))
                rows[storage]["texts"].append(text)
    references = {index: example.captions for index, example in enumerate(examples)}
    own = rows["exact"]["texts"][1:]
    for row in rows.values():
        texts = row.pop("texts")[1:]
        row["milliseconds"] = float(np.median(row["milliseconds"][1:]))
        row["CIDEr"] = 100 * cider(references, dict(enumerate(texts)))
        row["equal_captions"] = float(np.mean([a == b for a, b in zip(texts, own, strict=True)]))
    if settings.json:
        print(json.dumps(rows))
        return
    print(f"{'weights':10}{'MB':>8}{'ms':>8}{'CIDEr':>8}{'equal captions':>16}")
    for storage, row in rows.items():
        print(
            f"{storage:10}{row['megabytes']:8.1f}{row['milliseconds']:8.1f}{row['CIDEr']:8.2f}"
            f"{100 * row['equal_captions']:15.1f}%"
        )


if __name__ == "__main__":
    run(main)
