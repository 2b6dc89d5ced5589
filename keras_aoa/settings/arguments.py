"""Parses the settings of commands into a `Configuration`."""

import dataclasses

from keras_aoa.settings.configuration import GROUPS, Configuration
from keras_aoa.settings.presets import PRESETS
from keras_aoa.utils.command_line import parse, program
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest


def parse_configuration(command, arguments, purpose):
    """Parse a command's arguments into a `Configuration`.

    Args:
        command: Name of the command, as in `parse`.
        arguments: List of strings.
        purpose: Text that describes the command in its help.
    """
    name, rest = take_config(arguments)
    if {"-h", "--help"} & set(rest):
        print(
            f"{purpose}\n\n"
            f"--config NAME   Preset to start from: {', '.join(PRESETS)}; or the path of a "
            "config.json. Default: scenes.\n"
            f"                `{program(command)} --config NAME --help` lists the preset's values "
            "as defaults.\n"
        )
    return parse_settings(command, rest, preset(name))


def parse_settings(command, arguments, default):
    """Parse settings into a `Configuration`.

    Settings that are not given take their values from `default`.

    Raises:
        UserError: a setting is unknown, has a value of the wrong type, or is out of range.
    """
    import tyro

    # One nested dataclass per group, because tyro prints a heading for each nested dataclass.
    groups = [
        (name, tyro.conf.OmitArgPrefixes[group], dataclasses.field(default=part(group, default)))
        for name, group in GROUPS.items()
    ]
    known = [field.name for field in dataclasses.fields(Configuration)]
    nested = parse(dataclasses.make_dataclass("Settings", groups), command, arguments, known=known)
    settings = {}
    for name in GROUPS:
        settings |= dataclasses.asdict(getattr(nested, name))
    return Configuration(**settings)


def part(group, configuration):
    """Return the settings of one group of a `Configuration`."""
    return group(**{f.name: getattr(configuration, f.name) for f in dataclasses.fields(group)})


def take_config(arguments, default="scenes"):
    """Remove `--config NAME` from a list of arguments.

    Returns:
        The preset's name, and the list of the other arguments. Without `--config`, the preset's
        name is the argument `default`.
    """
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
    """Return the `Configuration` of a preset or of a `config.json`.

    Args:
        name: Name of the preset, or path of the `config.json`.

    Raises:
        UserError: the preset is unknown; the message suggests similar names.
    """
    if name.endswith(".json"):
        return Configuration.read(name)
    if name not in PRESETS:
        raise UserError(f"--config: unknown preset {name!r}. {closest(name, PRESETS)}")
    return PRESETS[name]
