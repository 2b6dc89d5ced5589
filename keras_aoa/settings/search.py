"""The search settings of evaluation, captioning and export."""

import math
import numbers
from dataclasses import dataclass
from typing import Annotated

import tyro

from keras_aoa.utils.errors import UserError

MAX_PROPOSALS = 2000  # per image


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Search settings that replace a run's search settings. None keeps the run's value.

    Raises:
        UserError: a value is out of range.
    """

    beam: int | None = None
    """Beam size: number of hypotheses kept per image; 1 is greedy search. None: the run's beam."""
    max_words: int | None = None
    """Maximum length of a caption in words. None: the run's max_words."""
    length_penalty: float | None = None
    """Exponent p of the length in the score that ranks captions, log-probability / length^p. None:
    the run's length_penalty."""
    stride: int | None = None
    """Distance between neighboring regions, in cells of the activation map. None: the run's
    test_stride."""
    proposals: Annotated[int | None, tyro.conf.arg(aliases=["--regions"])] = None
    """Number of highest-scoring object proposals per image. None: the run's test_proposals."""

    def __post_init__(self):
        penalty = self.length_penalty
        is_number = isinstance(penalty, numbers.Real) and math.isfinite(penalty)
        if penalty is not None and not is_number:
            raise UserError(f"length_penalty: expected a finite number, received {penalty!r}.")
        for name in ("beam", "max_words", "stride", "proposals"):
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                whole = isinstance(number, numbers.Integral) and not isinstance(number, bool)
                if number is not None and not whole:
                    raise UserError(f"{name}: expected a whole number, received {number!r}.")
                if number is not None and number < 1:
                    raise UserError(f"{name}: expected at least 1, received {number}.")
                if name == "proposals" and number is not None and number > MAX_PROPOSALS:
                    raise UserError(
                        f"proposals: expected at most {MAX_PROPOSALS}, received {number}."
                    )

    @property
    def changes(self):
        """Dictionary of the settings that are not None."""
        names = ("beam", "max_words", "length_penalty", "stride", "proposals")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def of(self, configuration):
        """Return the search settings of a run.

        Settings that are None here come from `configuration`.

        Returns:
            Dictionary of `beam`, `max_words` and `length_penalty`. It also contains `proposals` if
            the regions are proposals, else `stride`.

        Raises:
            UserError: a change does not apply to the configuration's kind of regions.
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
        return own | self.changes
