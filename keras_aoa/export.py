"""`keras-aoa export RUN OUT`: export a run as a SavedModel for TensorFlow Serving."""

import time
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from keras_aoa.cli import start
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.command_line import parse
from keras_aoa.utils.errors import UserError, require_positive
from keras_aoa.utils.keras_settings import use_keras_defaults


@dataclass(frozen=True)
class Arguments(SearchSettings):
    """Export a trained run as the SavedModel OUT/<version>, from image files to captions."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, or a captioner's name such as flickr8k; comma-separated runs form an
    ensemble."""
    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder that contains all versions of the model."""
    version: int | None = None
    """Number of the exported version. None uses the largest existing number plus 1."""
    max_megapixels: float = 50.0
    """Maximum image size; larger images are refused. Each core decodes one image at a time.
    Decoding needs up to 7 bytes of memory per pixel, or 30 bytes with transparency."""
    weights: Literal["exact", "float16", "int8"] = "exact"
    """Format in which large arrays of weights are stored. 'exact' stores an array in 16 bits if
    this changes none of its numbers. 'float16' and 'int8' round the weights, so that captions may
    change. The server computes in 32 bits."""

    def __post_init__(self):
        super().__post_init__()
        if self.version is not None and self.version < 1:
            raise UserError(f"version: expected at least 1, received {self.version}.")
        require_positive("max_megapixels", self.max_megapixels)


def main(arguments):
    """Export the run that the arguments name, and print the signatures."""
    settings = parse(Arguments, "export/saved_model.py", arguments)
    started = time.perf_counter()
    use_keras_defaults()
    from keras_aoa.runs.ensemble import open_run

    opened = open_run(settings.run)
    print("export: loading the run and tracing its graph ...", flush=True)
    from keras_aoa.serving.save import export_run

    max_pixels = round(settings.max_megapixels * 1e6)
    exported = export_run(
        opened, settings.output, settings, settings.version, max_pixels, settings.weights
    )
    for line in exported.description:
        print(line)
    seconds = time.perf_counter() - started
    print(f"{exported.folder}: {exported.megabytes:.1f} MB, {seconds:.0f} s.")


if __name__ == "__main__":
    start("export")
