"""`keras-aoa COMMAND`: one program for the commands of this package.

`train.py`, `evaluate.py`, the files in `export/` and `python -m keras_aoa.NAME` start the same
commands.
"""

import functools
import importlib
import sys
from typing import NamedTuple

from keras_aoa import __version__
from keras_aoa.utils.command_line import program, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest

PROGRAM = "keras-aoa"


class Command(NamedTuple):
    """A command.

    Attributes:
        module: Module whose function `main(arguments)` runs the command. The module is imported
            only when the command runs.
        purpose: One line of the program's help.
        first: Arguments that come before the user's arguments.
        interrupted: Message to print after Ctrl-C.
        extra: Comma-separated pip extras that install the packages of the command.
    """

    module: str
    purpose: str
    first: tuple[str, ...] = ()
    interrupted: str = ""
    extra: str = ""


COMMANDS = {
    "train": Command(
        "keras_aoa.train",
        "train a captioner on drawn scenes or captioned photographs",
        interrupted="The same command resumes from the last checkpoint.",
    ),
    "evaluate": Command("keras_aoa.evaluate", "score a run, or a file of captions"),
    "caption": Command(
        "keras_aoa.caption",
        "caption images with a run, or with the captioner flickr8k",
        interrupted="Captions that were printed or written are complete. With --shards, the same "
        "command resumes.",
    ),
    "report": Command(
        "keras_aoa.evaluate",
        "write a page that shows the attended regions of each word",
        first=("--report",),
    ),
    "export": Command("keras_aoa.export", "export a run as a SavedModel", extra="train,export"),
    "demo": Command("keras_aoa.demo", "open a page that captions the photographs dropped on it"),
    "serve": Command("keras_aoa.serve", "serve an exported run over HTTP", extra="serve"),
    "reproduce": Command(
        "keras_aoa.reproduce",
        "train the runs of a table or figure of the paper",
        interrupted="The same command resumes; finished runs are kept.",
    ),
    "pretrain": Command("keras_aoa.pretrain", "pretrain the network of drawn scenes"),
    "propose": Command(
        "keras_aoa.propose",
        "find the object proposals of a data set before training",
        interrupted="The same command resumes.",
    ),
    "pack": Command("keras_aoa.pack", "pack a trained run into a small captioner to share"),
    "download": Command(
        "keras_aoa.data.download", "download COCO or Karpathy's splits", extra="train,download"
    ),
}


def command():
    """Run the command that the process's first argument names, or print the help."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        start(name, named_by_user=True)
    else:
        run(overview)


def start(name, named_by_user=False):
    """Run a command with the process's arguments.

    Args:
        name: A key of `COMMANDS`.
        named_by_user: Whether the process's first argument is the command's name.
    """
    run(
        functools.partial(_call, COMMANDS[name]),
        interrupted=COMMANDS[name].interrupted,
        subcommand=name if named_by_user else "",
        extra=COMMANDS[name].extra,
    )


def _call(chosen, arguments):
    importlib.import_module(chosen.module).main([*chosen.first, *arguments])


def overview(arguments):
    """Print the version or the list of commands.

    Raises:
        UserError: there is no command with the given name.
    """
    name = program(PROGRAM)
    if arguments == ["--version"]:
        print(__version__)
    elif arguments and arguments[0] not in ("-h", "--help", "help"):
        raise UserError(
            f"{name}: unknown command {arguments[0]!r}. {closest(arguments[0], COMMANDS)}"
        )
    else:
        print(f"usage: {name} COMMAND ...\n")
        print("Caption images, and show which regions each word attends to.\n")
        for each, row in COMMANDS.items():
            print(f"  {each:<10} {row.purpose}")
        print(f"\n`{name} COMMAND --help` lists the settings of a command.")
