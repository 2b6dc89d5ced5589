"""The areas of a picture that a word attends to noticeably."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_aoa.visualization.panel import regions_of

NOTICEABLE = 0.05  # smallest weight shown, relative to the word's largest weight
MAX_AREAS = 200  # per word; limits the size of the page
EVEN = 1.2  # relative to uniform; if the largest weight is smaller, no area stands out


@dataclass(frozen=True)
class Word:
    """A word of a caption and its noticeable areas, in order of decreasing weight.

    Attributes:
        text: The word.
        weights: Weights of the areas, `(k,)`.
        corners: Corners `(k, 4, 2)` of the areas, relative (0..1) to the upright original. Corners
            may lie outside the original.
        regions: Number of all regions, including regions that are not noticeable.
        is_even: Whether the attention is so even that no area stands out.
    """

    text: str
    weights: Any
    corners: Any
    regions: int
    is_even: bool


def noticeable_areas(caption, who):
    """Return a `Word` for each word of a `Caption` with attention.

    Raises:
        ValueError: as raised by `regions_of`. The message begins with `who`.
    """
    attention, boxes = regions_of(caption, who)
    return tuple(
        noticeable(text, weights, boxes)
        for text, weights in zip(caption.words, attention, strict=True)
    )


def noticeable(text, weights, corners):
    """Return a `Word` with the noticeable regions.

    Args:
        text: The word.
        weights: Weights of all regions, `(r,)`.
        corners: Corners of all regions, `(r, 4, 2)`.
    """
    order = np.argsort(-weights, kind="stable")[:MAX_AREAS]
    order = order[weights[order] >= NOTICEABLE * weights.max()]
    is_even = len(weights) > 1 and weights.max() * len(weights) < EVEN
    return Word(text, weights[order], corners[order], len(weights), bool(is_even))
