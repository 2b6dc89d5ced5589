"""`python export/saved_model.py RUN OUT`: a run as a SavedModel for TensorFlow Serving."""

import math
import time
from dataclasses import dataclass
from typing import Annotated

import tyro

from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError


@dataclass(frozen=True)
class Arguments(SearchSettings):
    """Export a trained run as OUT/<version>: files of images in, captions with their areas out."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run; comma-separated runs form an ensemble."""
    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder of all versions of the model."""
    version: int | None = None
    """Number of this version. None: one more than the largest there."""
    max_megapixels: float = 50.0
    """Larger images are refused; one takes up to 30 bytes a pixel while it is read (those with
    transparency; others up to 7), and several are read at once, one a core."""

    def __post_init__(self):
        super().__post_init__()
        if self.version is not None and self.version < 1:
            raise UserError(f"version: expected at least 1, received {self.version}.")
        if not 0 < self.max_megapixels < math.inf:
            raise UserError(
                f"max_megapixels: expected a finite number above 0, received {self.max_megapixels}."
            )


def main(arguments):
    """Export what the arguments name, and say what was made."""
    settings = parse(Arguments, "export/saved_model.py", arguments)
    started = time.perf_counter()
    from keras_aoa.runs.ensemble import open_run

    found = open_run(settings.run)
    print("export: loading the run and drawing its graph ...", flush=True)
    from keras_aoa.serving.save import export_run

    max_pixels = round(settings.max_megapixels * 1e6)
    exported = export_run(found, settings.output, settings, settings.version, max_pixels)
    for line in exported.description:
        print(line)
    seconds = time.perf_counter() - started
    print(f"{exported.folder}: {exported.megabytes:.1f} MB, {seconds:.0f} s.")


if __name__ == "__main__":
    run(main)
