"""Measures how many images per second a run captions, in shards and one image at a time.

The two methods alternate, so that other load on the machine affects both methods.
"""

import json
import pathlib
import tempfile
import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro

from keras_aoa.caption import image_files
from keras_aoa.utils.command_line import parse, run


@dataclass(frozen=True)
class Arguments:
    """Caption the same images in a shard and one by one."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run."""
    images: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of images."""
    count: int = 64
    """Number of images per turn."""
    turns: int = 5
    """Number of turns. Each turn captions different images. The results are medians."""
    batch_size: int = 32
    """Number of images in a batch when a shard is captioned."""
    json: bool = False
    """Print json."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.collection", arguments)
    files = image_files([settings.images])
    from keras_aoa.collection.captioner import ShardCaptioner
    from keras_aoa.collection.folder import OutputFolder
    from keras_aoa.collection.shards import Shard
    from keras_aoa.inference.batches import BatchCaptioner
    from keras_aoa.inference.image_captioner import ImageCaptioner

    single = ImageCaptioner(settings.run)
    many = ShardCaptioner(BatchCaptioner(single, settings.batch_size))
    rates = []
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        folder = OutputFolder(temporary / "captions", {"run": settings.run})
        for turn in range(settings.turns + 1):
            first = turn * settings.count
            images = [files[(first + n) % len(files)] for n in range(settings.count)]
            shard = Shard(str(temporary / f"{turn}.txt"))
            pathlib.Path(shard.path).write_text("".join(f"{image}\n" for image in images))
            times = [time.perf_counter()]
            many.caption(shard, folder)
            times.append(time.perf_counter())
            for image in images:
                single.caption(image)
            times.append(time.perf_counter())
            rates.append(settings.count / np.diff(times))
    rates = np.array(rates[1:])  # the first turn compiles the graphs
    many, single = np.median(rates, axis=0)
    ratio = np.median(rates[:, 0] / rates[:, 1])
    if settings.json:
        print(json.dumps({"shards": many, "one_by_one": single, "ratio": ratio}))
        return
    print(
        f"images per second: {many:.1f} in batches of {settings.batch_size}, {single:.1f} one by "
        f"one; ratio {ratio:.2f}; medians of {settings.turns} turns of {settings.count} images."
    )


if __name__ == "__main__":
    run(main)
