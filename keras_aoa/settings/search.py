"""How captions are searched for: what evaluation, captioning and their commands share."""

import math
from dataclasses import dataclass

from keras_aoa.utils.errors import UserError

MOST_PROPOSALS = 2000  # of an image that are kept


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Search; None is the run's own setting.

    Raises:
        UserError: a value out of its range.
    """

    beam: int | None = None
    """Hypotheses kept for an image in search; 1 is greedy. None: the run's own setting."""
    max_words: int | None = None
    """Longest caption, in words. None: the run's own setting."""
    length_penalty: float | None = None
    """Captions are ranked by log-probability over length to this power. None: the run's own."""
    stride: int | None = None
    """Steps between regions on the activation map, in cells. None: the run's test_stride."""
    regions: int | None = None
    """Most object proposals looked at, the best. None: the run's test_proposals."""

    def __post_init__(self):
        if self.length_penalty is not None and not math.isfinite(self.length_penalty):
            raise UserError(
                f"length_penalty: expected a finite number, received {self.length_penalty}."
            )
        for name in ("beam", "max_words", "stride", "regions"):
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and number < 1:
                    raise UserError(f"{name}: expected at least 1, received {number}.")
                if name == "regions" and number is not None and number > MOST_PROPOSALS:
                    raise UserError(
                        f"regions: expected at most {MOST_PROPOSALS}, received {number}."
                    )

    @property
    def changes(self):
        """The settings that are given, by name."""
        names = ("beam", "max_words", "length_penalty", "stride", "regions")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def of(self, configuration):
        """How a run's `Configuration` is searched with these changes, by name.

        Returns:
            `beam`, `max_words`, `length_penalty`, and `stride`, or `regions` where these are
            object proposals.

        Raises:
            UserError: a change that means nothing for the configuration's kind of regions.
        """
        kind = configuration.regions
        wrong, right = ("stride", "regions") if kind == "proposals" else ("regions", "stride")
        if wrong in self.changes:
            raise UserError(
                f"{wrong}: means nothing for regions {kind!r}, received {self.changes[wrong]}; "
                f"set {right} instead."
            )
        own = {name: getattr(configuration, name) for name in ("beam", "max_words")}
        own["length_penalty"] = configuration.length_penalty
        own[right] = (
            configuration.test_proposals if kind == "proposals" else configuration.test_stride
        )
        return own | self.changes
