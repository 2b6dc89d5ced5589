"""What every command shares: settings from the command line, mistakes told in one line."""

import contextlib
import io
import os
import re
import sys

from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest, first_line


def parse(settings_class, program, arguments, default=None):
    """Read command-line arguments into a dataclass; its field docstrings are the help.

    As `parse_known`, but nothing may be left over.

    Raises:
        UserError: also an unknown argument (with the nearest known one).
    """
    settings, unknown = parse_known(settings_class, program, arguments, default)
    if unknown:
        known = [name.replace("_", "-") for name in settings_class.__dataclass_fields__]
        name = unknown[0].lstrip("-").split("=")[0]
        if not unknown[0].startswith("-"):
            raise UserError(f"{program}: unexpected argument {unknown[0]!r}; see {program} --help.")
        raise UserError(
            f"{program}: unknown setting {unknown[0]!r}. {closest(name.replace('_', '-'), known)}"
        )
    return settings


def parse_known(settings_class, program, arguments, default=None):
    """Read what a dataclass knows of command-line arguments.

    Args:
        settings_class: A dataclass.
        program: Name of the command.
        arguments: List of strings.
        default: An instance whose values are the defaults; the class's own if None.

    Returns:
        The instance, and the arguments left over.

    Raises:
        UserError: a value of a wrong type.
    """
    import tyro

    options = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                settings_class, prog=program, args=arguments, return_unknown_args=True, **options
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(f"{program}: {_first_sentence(said.getvalue())}") from None


def run(main, arguments=None, interrupted=""):
    """Call a command's `main(arguments)`; ends the process with 0, or 2 for a user's mistake.

    Args:
        main: Function of a list of strings.
        arguments: They; the process's own if None.
        interrupted: What to say to a user who interrupts it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        main(sys.argv[1:] if arguments is None else arguments)
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(_out_of_memory(str(error)), file=sys.stderr)
        sys.exit(2)
    except OSError as mistake:
        if mistake.strerror is None:
            raise
        where = f"{mistake.filename}: " if mistake.filename else ""
        print(f"{where}{mistake.strerror}; choose another path or free it.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\nInterrupted. {interrupted}".rstrip(), file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        # TensorFlow's own, by name: to import it takes seconds.
        if type(error).__name__ != "ResourceExhaustedError":
            raise
        print(_out_of_memory(error.message), file=sys.stderr)
        sys.exit(2)


def _out_of_memory(message):
    """What to say when there is no more memory."""
    reason = first_line(message, "no more could be had")
    return (
        f"out of memory ({reason}); lower what the command has of batch_size, beam, regions, "
        "image_size and cache_gigabytes, or give it more."
    )


def _first_sentence(box):
    """The text of a framed message, up to its first rule, as one line."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in box.splitlines()[1:]]
    text = []
    for line in lines:
        if line.startswith("─"):
            break
        text.append(line)
    return " ".join(text)
