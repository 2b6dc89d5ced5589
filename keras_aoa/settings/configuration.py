"""The configuration of a run: all settings, checked when it is created, and its json file."""

import dataclasses
import json
import pathlib
from dataclasses import dataclass
from typing import get_args

from keras_aoa.settings.groups import (
    GROUPS,
    DataSettings,
    DecoderSettings,
    ImageInputSettings,
    NetworkSettings,
    RegionSettings,
    RunSettings,
    SearchDefaults,
    TrainingSettings,
)
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest

FORMAT_VERSION = 1

# Settings that may change when a run is resumed.
ANY_TIME = ("name", "output", "checkpoint_steps", "distribution")


# Dataclasses collect the fields of their bases from the last to the first.
@dataclass(frozen=True)
class Configuration(
    SearchDefaults,
    TrainingSettings,
    DecoderSettings,
    RegionSettings,
    NetworkSettings,
    ImageInputSettings,
    DataSettings,
    RunSettings,
):
    """All settings of a run; see `groups.py` for each.

    Raises:
        UserError: a value is out of range, or two values exclude each other.
    """

    def __post_init__(self):
        for group in GROUPS.values():
            group.check(self)
        for field in dataclasses.fields(self):
            choices, value = get_args(field.type), getattr(self, field.name)
            if choices and value not in choices:
                raise UserError(
                    f"{field.name}: expected one of {', '.join(choices)}, received {value!r}."
                )
        if self.regions == "proposals" and self.crop < 1:
            raise UserError("crop: regions 'proposals' need whole images; set it to 1.")
        if self.feature_cache != "none" and not self.rnn_epochs:
            raise UserError(
                "feature_cache: with rnn_epochs of 0 the network is always trained; set it to "
                "'none'."
            )
        if self.feature_cache != "none" and self.crop < 1:
            raise UserError(
                "crop: a feature cache holds whole images; set it to 1 or feature_cache to 'none'."
            )
        if self.variant == "conditional" and not self.tied:
            raise UserError("tied: variant 'conditional' needs tied embeddings, received False.")

    @property
    def folder(self):
        """Folder of the run."""
        return pathlib.Path(self.output) / self.name

    @property
    def selecting_split(self):
        """Name of the split that selects the checkpoint."""
        return "select" if self.select_images else self.select_split

    @property
    def epochs(self):
        """Number of epochs of both stages."""
        return self.rnn_epochs + self.joint_epochs

    def differences(self, other):
        """Return the names of the settings that differ, except those in `ANY_TIME`."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.name not in ANY_TIME
            and getattr(self, field.name) != getattr(other, field.name)
        ]

    def to_json(self):
        """Return the text of a run's `config.json`."""
        settings = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(settings, indent=2) + "\n"

    @classmethod
    def read(cls, path):
        """Read a `config.json`; settings that it does not contain take their defaults.

        Raises:
            UserError: the file does not exist or is not json, or it has another version, an
                unknown setting or a wrong type.
        """
        try:
            settings = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path}: expected a run's configuration, found no file.") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: expected json, received {error}.") from None
        version = settings.pop("format_version", None) if isinstance(settings, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path}: expected format_version {FORMAT_VERSION}, received {version}."
            )
        return cls.from_settings(settings, source=str(path))

    @classmethod
    def from_settings(cls, settings, source):
        """Create a configuration from a mapping; refuses unknown names and wrong types."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in settings.items():
            if name not in fields:
                raise UserError(f"{source}: unknown setting {name!r}. {closest(name, fields)}")
            expected = type(fields[name].default)
            if expected is float and type(value) is int:
                continue
            if type(value) is not expected:
                raise UserError(
                    f"{source}: {name} must be {expected.__name__}, received {value!r}."
                )
        return cls(**settings)
