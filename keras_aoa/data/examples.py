"""What a captioning data set is made of, whatever file format it came in."""

from dataclasses import dataclass, field

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class NamedObject:
    """Something in the picture, with every word that may name or describe it.

    `box` is `(x0, y0, x1, y1)` in 0..1 of the upright original image.
    """

    nouns: frozenset[str]
    adjectives: frozenset[str]
    box: Box


@dataclass(frozen=True)
class Phrase:
    """Words `first` to `last - 1` of the tokenized `captions[caption]` name what is in `box`.

    What is in several boxes has a phrase for each.
    """

    caption: int
    first: int
    last: int
    box: Box


@dataclass(frozen=True)
class Example:
    """One image file with its captions."""

    image_id: int | str
    path: str
    captions: tuple[str, ...]
    phrases: tuple[Phrase, ...] = ()
    objects: tuple[NamedObject, ...] = ()


@dataclass(frozen=True)
class CaptionData:
    """A data set: its name and the examples of each split (`train`, `val`, `test`)."""

    name: str
    splits: dict[str, tuple[Example, ...]] = field(default_factory=dict)
