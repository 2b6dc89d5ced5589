"""Parses the arguments of all commands, and turns errors into one-line messages."""

import contextlib
import contextvars
import io
import os
import re
import select
import sys

from keras_aoa.utils import quiet_start
from keras_aoa.utils.errors import UserError, system_reason
from keras_aoa.utils.files import require_local
from keras_aoa.utils.text import closest, first_line

# Names that users of Keras, PyTorch and other captioners try first, by the name of the setting.
OTHER_NAMES = {
    "backbone": ("arch", "cnn", "encoder", "model"),
    "batch-size": ("batch", "bs"),
    "beam": ("beam-size", "beam-width", "num-beams"),
    "clip-norm": ("clip", "clipnorm", "grad-clip", "max-grad-norm"),
    "data": ("data-dir", "data-path", "dataset"),
    "distribution": ("device", "devices", "gpu", "gpus", "strategy"),
    "embedding-dim": ("embed-dim", "embed-size", "emb-dim"),
    "image-size": ("img-size", "input-size", "resolution"),
    "images": ("image-dir", "image-folder", "img-dir"),
    "learning-rate": ("lr",),
    "max-words": ("max-len", "max-length", "max-new-tokens"),
    "minimum-count": ("min-freq", "min-word-freq", "vocab-threshold"),
    "name": ("exp-name", "experiment", "run-name"),
    "output": ("logdir", "out", "output-dir", "save-dir"),
    "precision": ("amp", "dtype", "fp16", "mixed-precision"),
    "rnn-epochs": ("epochs", "max-epochs", "num-epochs"),
    "start-from": ("checkpoint", "init-from", "pretrained"),
    "units": ("hidden-dim", "hidden-size"),
    "warmup-steps": ("warmup",),
}


# Packages that may be missing, with the extra that installs them.
EXTRAS = {
    "apache_beam": "beam",
    "cv2": "train",
    "gdown": "download",
    "huggingface_hub": "hub",
    "jinja2": "train",
    "kserve": "serve",
    "matplotlib": "train",
    "pycocoevalcap": "train",
    "pycocotools": "train",
    "tensorflow": "train",
    "tensorflow_serving": "export",
    "tqdm": "train",
    "tyro": "train",
    "werkzeug": "train",
}

_called = contextvars.ContextVar("called", default="")


def program(default):
    """Return the running command as the user called it, such as `keras-aoa train` or `train.py`.

    Args:
        default: The command's name if Python code calls the command without `run`.
    """
    return _called.get() or default


def _called_as():
    """Return the name by which the user started this process."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return os.path.basename(sys.argv[0])


def parse(settings_class, name, arguments, default=None, known=None):
    """Parse command-line arguments into a dataclass, and refuse unknown arguments.

    Args:
        settings_class, name, arguments, default: Arguments of `parse_known`.
        known: Names of known settings, for the error message. The default is the names of the
            fields.

    Raises:
        UserError: A value has the wrong type, or an argument is unknown. For an unknown setting,
            the message suggests similar names.
    """
    settings, unknown = parse_known(settings_class, name, arguments, default)
    called = program(name)
    if unknown:
        known = [field.replace("_", "-") for field in known or settings_class.__dataclass_fields__]
        setting = unknown[0].lstrip("-").split("=")[0].replace("_", "-")
        if not unknown[0].startswith("-"):
            raise UserError(f"{called}: unexpected argument {unknown[0]!r}; see {called} --help.")
        raise UserError(f"{called}: unknown setting {unknown[0]!r}. {_similar(setting, known)}")
    return settings


def _similar(name, known):
    """Return a "Did you mean" sentence for the name of an unknown setting."""
    for setting, others in OTHER_NAMES.items():
        if name in others and setting in known:
            return f"Did you mean {setting}?"
    return closest(name, known)


def parse_known(settings_class, name, arguments, default=None):
    """Parse the command-line arguments that match the fields of a dataclass.

    The docstrings of the class and of its fields are the help text.

    Args:
        settings_class: A dataclass.
        name: Name of the command, if Python code calls it; see `program`.
        arguments: List of strings.
        default: An instance that contains the default values. If `default` is None, the fields have
            their own defaults.

    Returns:
        The parsed instance, and a list of the arguments that match no field.

    Raises:
        UserError: A value has the wrong type.
    """
    import tyro

    options = {} if default is None else {"default": default}
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(
                settings_class,
                prog=program(name),
                args=arguments,
                return_unknown_args=True,
                **options,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(f"{program(name)}: {_first_sentence(stderr.getvalue())}") from None


def run(main, arguments=None, interrupted="", subcommand="", extra=""):
    """Run a command's `main(arguments)` and turn errors into messages and exit codes.

    The exit code is 0 on success, 2 after a user's mistake and 130 after Ctrl-C. If the program
    that reads the output ends early, as in `train.py --help | head -3`, the exit code is 141 and
    there is no message.

    Args:
        main: Function that receives a list of strings.
        arguments: List of strings. The default is the command-line arguments of the process.
        interrupted: Message to print after Ctrl-C.
        subcommand: The first command-line argument if this argument names the command. `main` does
            not receive the argument.
        extra: The extra that installs all packages of the command. The default is the extra of the
            missing package.
    """
    # The user's `keras.json` may select another backend, but the commands need TensorFlow.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # Otherwise TensorFlow takes all GPU memory, and captioning could not run beside a training.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    for stream in (sys.stdout, sys.stderr):
        # A file name or caption with characters that the terminal cannot show must not end a
        # command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if arguments is not None:
        _run(main, arguments, interrupted, extra)
        return
    token = _called.set(f"{_called_as()} {subcommand}".rstrip())
    quiet_start.install()
    try:
        _run(main, sys.argv[2:] if subcommand else sys.argv[1:], interrupted, extra)
    finally:
        _called.reset(token)


def _run(main, arguments, interrupted, extra):
    try:
        try:
            refuse_urls(arguments)
            main(arguments)
        finally:
            sys.stdout.flush()  # a closed pipe must fail here, not when Python exits
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        print(
            f"{program(_called_as())}: needs {package}, which is not installed; run pip install "
            f"'keras-aoa[{extra or EXTRAS[package]}]'.",
            file=sys.stderr,
        )
        sys.exit(2)
    except MemoryError as error:
        print(_out_of_memory(str(error)), file=sys.stderr)
        sys.exit(2)
    except OSError as mistake:
        if isinstance(mistake, BrokenPipeError) and _output_is_closed():
            # Python flushes its output again when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(141)
        if mistake.strerror is None:
            raise
        prefix = f"{mistake.filename}: " if mistake.filename else ""
        print(f"{prefix}{mistake.strerror}; correct this or choose another path.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\nInterrupted. {interrupted}".rstrip(), file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        # Compare TensorFlow's exception by name, because importing TensorFlow takes seconds.
        if type(error).__name__ != "ResourceExhaustedError":
            raise
        # This exception also reports a full disk or too many open files.
        reason = system_reason(error.message)
        text = (
            f"{reason}; correct this and run the command again."
            if reason
            else _out_of_memory(error.message)
        )
        print(text, file=sys.stderr)
        sys.exit(2)


def _output_is_closed():
    """Return whether this process prints to a pipe that no program reads any longer."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def refuse_urls(arguments):
    """Refuse URLs in all arguments except captioners, `--base-url` and `--runner-options`.

    Raises:
        UserError: An argument is a URL.
    """
    name = ""
    for argument in arguments:
        value = argument
        if argument.startswith("--"):
            name, _, value = argument.replace("_", "-").partition("=")
        # `keras_aoa.runs.named` downloads captioners with these names.
        is_captioner = value.startswith("hf://") or "#sha256=" in value
        if name not in ("--base-url", "--runner-options") and not is_captioner:
            require_local(value)


def _out_of_memory(message):
    """Return the one-line message for a failed memory allocation."""
    reason = first_line(message, "allocation failed")
    return (
        f"out of memory ({reason}); lower batch_size, beam, regions, image_size or "
        "cache_gigabytes, or use a machine with more memory."
    )


def _first_sentence(box):
    """Return the text above the first horizontal rule in a framed message, as one line."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in box.splitlines()[1:]]
    text = []
    for line in lines:
        if line.startswith("─"):
            break
        text.append(line)
    return " ".join(text)
