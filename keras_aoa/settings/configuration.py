"""The configuration of a run: all settings, their checks, and the file `config.json`."""

import dataclasses
import json
import pathlib
from dataclasses import dataclass
from typing import get_args

from keras_aoa.settings.effects import without_effect
from keras_aoa.settings.groups import (
    UNIFORM_VARIANTS,
    DataSettings,
    DecoderSettings,
    ImageInputSettings,
    NetworkSettings,
    RegionSettings,
    RunSettings,
)
from keras_aoa.settings.training_groups import RewardSettings, SearchDefaults, TrainingSettings
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest

FORMAT_VERSION = 1

GROUPS = {
    "run": RunSettings,
    "data": DataSettings,
    "images": ImageInputSettings,
    "network": NetworkSettings,
    "regions": RegionSettings,
    "decoder": DecoderSettings,
    "training": TrainingSettings,
    "reward": RewardSettings,
    "search": SearchDefaults,
}

# A run may be resumed with other values of these settings.
ANY_TIME = ("name", "output", "checkpoint_steps", "distribution")


# In reverse order, because a dataclass lists the fields of its last base class first.
@dataclass(frozen=True)
class Configuration(
    SearchDefaults,
    RewardSettings,
    TrainingSettings,
    DecoderSettings,
    RegionSettings,
    NetworkSettings,
    ImageInputSettings,
    DataSettings,
    RunSettings,
):
    """All settings of a run. The base classes of `Configuration` describe each setting.

    Raises:
        UserError: a value is out of range, or two values cannot be combined.
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
            raise UserError("crop: regions 'proposals' need whole images; set crop to 1.")
        if self.edge_model and self.proposal_method != "edge_boxes":
            raise UserError(
                f"edge_model: proposal_method {self.proposal_method!r} uses no edges, received "
                f"{self.edge_model!r}; leave it out, or set proposal_method to 'edge_boxes'."
            )
        if not self.epochs:
            raise UserError(
                "rnn_epochs, joint_epochs, reward_epochs: all are 0; set one of them to 1 or more."
            )
        if self.reward_epochs == self.epochs and not self.start_from:
            raise UserError(
                "reward_epochs: stage 3 needs a captioner that was trained before; set rnn_epochs "
                "or joint_epochs to 1 or more, or start_from."
            )
        if self.feature_cache != "none" and self.joint_epochs == self.epochs:
            raise UserError(
                "feature_cache: needs epochs with a frozen network, but rnn_epochs and "
                "reward_epochs are 0; set feature_cache to 'none'."
            )
        if self.feature_cache != "none" and (self.crop < 1) != (self.cached_views > 1):
            raise UserError(
                "cached_views, crop: a feature cache holds one view of whole images, or several "
                f"views with crop below 1; received {self.cached_views} views and crop {self.crop}."
            )
        if self.feature_cache == "none" and self.cached_views > 1:
            raise UserError(
                f"cached_views: needs a feature cache, received {self.cached_views} views; set "
                "feature_cache, or cached_views to 1."
            )
        for name in ("attention_supervision", "attention_coverage"):
            uniform = self.variant in UNIFORM_VARIANTS or self.regions == "mean"
            if getattr(self, name) and uniform:
                raise UserError(
                    f"{name}: needs attention to regions, but with variant {self.variant!r} and "
                    f"regions {self.regions!r} all regions have equal weights; set it to 0."
                )
        if self.variant == "conditional" and not self.tied:
            raise UserError("tied: variant 'conditional' needs tied embeddings, received False.")
        if self.attention_gate and self.variant not in ("soft", "hard"):
            raise UserError(
                f"attention_gate: needs variant 'soft' or 'hard', received {self.variant!r}; "
                "set it to False."
            )
        if self.review_words and self.variant != "review":
            raise UserError(
                f"review_words: needs variant 'review', received variant {self.variant!r}; "
                "set it to 0."
            )
        if self.variant == "semantic" and self.concepts != "attributes":
            raise UserError(
                "concepts: variant 'semantic' attends to attributes, received "
                f"{self.concepts!r}; set concepts to 'attributes'."
            )
        if self.image_first and self.image_each_step:
            raise UserError(
                "image_first, image_each_step: the image vector is either the first input or an "
                "input at every step, received both; set one of them to False."
            )

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
        """Total number of epochs in all stages."""
        return self.rnn_epochs + self.joint_epochs + self.reward_epochs

    def stage(self, epoch):
        """Return the number, 1 to 3, of the stage of an epoch. Epochs are counted from 0."""
        if epoch < self.rnn_epochs:
            return 1
        return 2 if epoch < self.rnn_epochs + self.joint_epochs else 3

    def differences(self, other):
        """Return the names of the settings that differ.

        Settings in `ANY_TIME` and settings that have no effect in either configuration are left
        out.
        """
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.name not in ANY_TIME
            and getattr(self, field.name) != getattr(other, field.name)
            and not (without_effect(self, field.name) and without_effect(other, field.name))
        ]

    def to_json(self):
        """Return the configuration as the text of a `config.json`."""
        settings = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(settings, indent=2) + "\n"

    @classmethod
    def read(cls, path):
        """Read a `config.json`. Settings that are missing in the file have their default values.

        Raises:
            UserError: the file does not exist, is not json, has another `format_version`, or
                contains an unknown setting or a value of the wrong type.
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
        """Create a configuration from a dictionary of settings.

        Args:
            settings: Dictionary that maps the names of settings to values.
            source: Origin of the settings, for error messages.

        Raises:
            UserError: a setting is unknown, has a value of the wrong type, or is out of range.
        """
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
