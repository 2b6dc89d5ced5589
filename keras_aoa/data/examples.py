"""Data classes of a captioning data set, independent of its file format."""

from dataclasses import dataclass, field

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class NamedObject:
    """An object in an image, with every word that may name or describe it.

    Attributes:
        nouns: Words that name the object.
        adjectives: Words that describe the object.
        box: `(x0, y0, x1, y1)` relative (0..1) to the upright original image.
    """

    nouns: frozenset[str]
    adjectives: frozenset[str]
    box: Box


@dataclass(frozen=True)
class Phrase:
    """A phrase of a caption, and the box of the object that the phrase names.

    The phrase consists of words `first` to `last - 1` of the tokenized `captions[caption]`. If
    several boxes belong to a phrase, there is one `Phrase` for each box.
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
    """A data set: its name, and the examples of each split (`train`, `val`, `test`)."""

    name: str
    splits: dict[str, tuple[Example, ...]] = field(default_factory=dict)
