"""The search settings of evaluation, captioning and export."""

import math
import numbers
from dataclasses import dataclass, fields
from typing import Annotated

import tyro

from keras_aoa.utils.errors import UserError

MAX_PROPOSALS = 2000  # per image
MAX_BEAM = 1000
SEVERAL = ("stride", "proposals")  # an evaluation may compare several numbers


# Settings that have an effect only with another setting.
NEEDED = {
    "diversity": "groups",
    "temperature": "sample",
    "top_k": "sample",
    "top_p": "sample",
    "seed": "sample",
}
# The least value of each whole number.
LEAST = {
    "beam": 1,
    "max_words": 1,
    "stride": 1,
    "proposals": 1,
    "min_words": 1,
    "no_repeat": 1,
    "groups": 1,
    "top_k": 1,
    "seed": 0,
}


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Search settings that replace a run's search settings. None keeps the run's value.

    Raises:
        UserError: a value is out of range, or a setting needs another setting that is missing.
    """

    beam: int | None = None
    """Beam size: number of hypotheses kept per image; 1 is greedy search. With --sample: number of
    samples. None uses the run's beam."""
    max_words: int | None = None
    """Maximum length of a caption in words. None uses the run's max_words."""
    length_penalty: float | None = None
    """Exponent p in the score that ranks captions: log-probability / length^p. None uses the run's
    length_penalty."""
    min_words: int | None = None
    """Minimum length of a caption in words."""
    no_repeat: int | None = None
    """Length of the word sequences that a caption must not repeat. 1 forbids repeated words, and 3
    forbids repeated sequences of three words."""
    prefix: str = ""
    """Beginning of all captions, such as "a dog"."""
    avoid: tuple[str, ...] = ()
    """Words that captions do not contain. Words that the captioner does not know are ignored."""
    groups: int | None = None
    """Number of groups of a diverse beam search; the beam is split into groups of equal size."""
    diversity: float | None = None
    """With --groups: strength of the diversity. A higher number makes captions of different groups
    differ more. None uses 0.5."""
    sample: bool = False
    """Sample captions instead of searching for the most probable captions."""
    temperature: float | None = None
    """With --sample: temperature T; word probabilities are raised to the power 1/T. A temperature
    below 1 favors probable words. None uses 1."""
    top_k: int | None = None
    """With --sample: sample each word from this number of most probable words. None uses all
    words."""
    top_p: float | None = None
    """With --sample: sample from the fewest words whose probabilities add up to this number
    (nucleus sampling). None uses 1, which allows all words."""
    seed: int | None = None
    """With --sample: seed of the samples. Equal seeds give equal captions. None uses 0."""
    stride: int | None = None
    """Distance between neighboring regions, in cells of the activation map. None uses the run's
    test_stride."""
    proposals: Annotated[int | None, tyro.conf.arg(aliases=["--regions"])] = None
    """Number of highest-scoring object proposals per image. None uses the run's test_proposals."""

    def __post_init__(self):
        self._check_types()
        for name in ("length_penalty", "diversity", "temperature", "top_p"):
            value = getattr(self, name)
            is_number = isinstance(value, numbers.Real) and math.isfinite(value)
            if value is not None and not is_number:
                raise UserError(f"{name}: expected a finite number, received {value!r}.")
        for name, least in LEAST.items():
            value = getattr(self, name)
            several = name in SEVERAL and isinstance(value, tuple)
            for number in value if several else (value,):
                if number is not None:
                    _check_whole(name, number, least)
        for name, wrong, expected in (
            ("diversity", (self.diversity or 0) < 0, "at least 0"),
            ("temperature", self.temperature is not None and self.temperature <= 0, "more than 0"),
            ("top_p", self.top_p is not None and not 0 < self.top_p <= 1, "0 < top_p <= 1"),
        ):
            if wrong:
                raise UserError(f"{name}: expected {expected}, received {getattr(self, name)}.")
        for name, needed in NEEDED.items():
            if getattr(self, name) is not None and not getattr(self, needed):
                raise UserError(f"{name}: applies only with {needed}, which is missing; add it.")
        if self.groups and self.sample:
            raise UserError("groups: cannot be combined with sample; omit one of the two.")

    def _check_types(self):
        avoid = self.avoid
        if not isinstance(avoid, list | tuple) or not all(isinstance(each, str) for each in avoid):
            raise UserError(f"avoid: expected a list of words, received {avoid!r}.")
        if not isinstance(self.prefix, str):
            raise UserError(f"prefix: expected a text, received {self.prefix!r}.")
        if not isinstance(self.sample, bool):
            raise UserError(f"sample: expected True or False, received {self.sample!r}.")
        if isinstance(self.beam, numbers.Integral) and self.beam > MAX_BEAM:
            raise UserError(f"beam: expected at most {MAX_BEAM}, received {self.beam}.")

    @property
    def changes(self):
        """Dictionary of the settings that have values."""
        values = {field.name: getattr(self, field.name) for field in fields(SearchSettings)}
        return {
            name: value
            for name, value in values.items()
            if value not in (None, "", (), []) and value is not False
        }

    def of(self, configuration):
        """Return the search settings of a run.

        Settings that are None take their values from `configuration`.

        Returns:
            Dictionary of `beam`, `max_words` and `length_penalty`. The dictionary also contains
            `proposals` if the regions are proposals, else `stride`. The dictionary contains other
            settings only if they have values.

        Raises:
            UserError: a change does not apply to the configuration's kind of regions, or two
                settings contradict each other.
        """
        kind = configuration.regions
        wrong, right = ("stride", "proposals") if kind == "proposals" else ("proposals", "stride")
        if wrong in self.changes:
            raise UserError(
                f"{wrong}: does not apply to regions {kind!r}, received {self.changes[wrong]}; "
                f"set {right} instead."
            )
        own = {name: getattr(configuration, name) for name in ("beam", "max_words")}
        own["length_penalty"] = configuration.length_penalty
        own[right] = (
            configuration.test_proposals if kind == "proposals" else configuration.test_stride
        )
        settings = own | self.changes
        beam, groups = settings["beam"], settings.get("groups", 1)
        if beam % groups:
            raise UserError(
                f"groups: expected a divisor of the beam {beam}, received {groups}; change groups "
                "or beam."
            )
        if settings.get("min_words", 0) > settings["max_words"]:
            raise UserError(
                f"min_words: expected at most max_words={settings['max_words']}, received "
                f"{settings['min_words']}."
            )
        return settings


def _check_whole(name, number, least):
    """Check a setting that is a whole number."""
    if not isinstance(number, numbers.Integral) or isinstance(number, bool):
        raise UserError(f"{name}: expected a whole number, received {number!r}.")
    if number < least:
        raise UserError(f"{name}: expected at least {least}, received {number}.")
    if name == "proposals" and number > MAX_PROPOSALS:
        raise UserError(f"proposals: expected at most {MAX_PROPOSALS}, received {number}.")
