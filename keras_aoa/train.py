"""`python train.py` and `python -m keras_aoa.train`: train a captioner."""

from keras_aoa.settings.configuration import Configuration
from keras_aoa.settings.presets import PRESETS
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest


def main(arguments):
    """Train with a preset or a `config.json` (`--config`), changed by the other settings."""
    configuration = parse_configuration(
        "train.py", arguments, "Train a captioner, evaluate it, draw what it looks at."
    )
    from keras_aoa.training.loop import train

    train(configuration)


def parse_configuration(program, arguments, purpose):
    """The `Configuration` that a command's arguments ask for, the same for all commands.

    Args:
        program: Name of the command.
        arguments: List of strings.
        purpose: What the command does, for its help.
    """
    name, rest = take_config(arguments)
    if {"-h", "--help"} & set(rest):
        print(
            f"{purpose}\n"
            f"--config NAME   preset to start from: {', '.join(PRESETS)}; or a config.json. "
            "(default: scenes)\n"
        )
    return parse(Configuration, program, rest, preset(name))


def take_config(arguments, default="scenes"):
    """Split `--config NAME` off a list of arguments: the name, or the default, and the rest."""
    for index, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return argument.partition("=")[2], arguments[:index] + arguments[index + 1 :]
        if argument == "--config":
            if index + 1 == len(arguments):
                raise UserError(
                    f"--config: expected one of {', '.join(PRESETS)}, received nothing."
                )
            return arguments[index + 1], arguments[:index] + arguments[index + 2 :]
    return default, arguments


def preset(name):
    """The configuration of a preset's name or of a `config.json`."""
    if name.endswith(".json"):
        return Configuration.read(name)
    if name not in PRESETS:
        raise UserError(f"--config: unknown preset {name!r}. {closest(name, PRESETS)}")
    return PRESETS[name]


def command():
    """The whole command line."""
    run(main, interrupted="The same command goes on from the last checkpoint.")


if __name__ == "__main__":
    command()
