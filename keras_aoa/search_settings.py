"""How captions are searched for: what evaluation, captioning and their commands share."""

from dataclasses import dataclass

from keras_aoa.errors import UserError


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

    def __post_init__(self):
        for name in ("beam", "max_words", "stride"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name}: expected at least 1, received {value}.")

    @property
    def changes(self):
        """The settings that are given, by name."""
        names = ("beam", "max_words", "length_penalty", "stride")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
