"""`keras-aoa pack RUN FOLDER`: pack a trained run into a small captioner to share."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from keras_aoa.cli import start
from keras_aoa.utils.command_line import parse
from keras_aoa.utils.keras_settings import use_keras_defaults


@dataclass(frozen=True)
class Arguments:
    """Pack a trained run: settings, vocabulary, scores, and weights in 16 bits."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run."""
    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder to create. Captioning, evaluation and export accept this folder in place of a run."""
    name: str = ""
    """Name of the captioner. Default: the name of the folder."""
    card: str = ""
    """Markdown file that describes the captioner; it is copied to README.md in the folder."""


def main(arguments):
    """Pack the run that the arguments name."""
    settings = parse(Arguments, "keras_aoa.pack", arguments)
    use_keras_defaults()
    from keras_aoa.runs.named import run_folder
    from keras_aoa.runs.packing import pack
    from keras_aoa.runs.run import Run

    opened = Run(run_folder(settings.run))
    folder, megabytes = pack(opened, settings.output, settings.name, settings.card)
    print(f"{folder}: {megabytes:.1f} MB.")


if __name__ == "__main__":
    start("pack")
