"""Grounding: whether captions name objects in the image, and attend to the named objects.

Grounding can be measured only on data with annotated objects, such as the drawn scenes.
"""

from dataclasses import dataclass

import numpy as np

from keras_aoa.data.text.mentions import find_noun_phrases, matching_objects, naming_words
from keras_aoa.visualization.heat_map import SMALLEST, signed_areas, signed_coverage


@dataclass(frozen=True)
class Grounding:
    """Means over the noun phrases of all captions, in 0..1.

    A mean is None if there are no values to average.

    Attributes:
        phrases_correct: Share of phrases whose noun and adjectives fit an object of the image.
        nouns_correct: Share of phrases whose noun fits an object of the image.
        attention_on_object: Attention inside the box of the named object, at the state that
            predicts the noun.
        uniform_attention_on_object: Value of `attention_on_object` if all regions had equal
            weights.
        phrases: Number of phrases.
    """

    phrases_correct: float | None
    nouns_correct: float | None
    attention_on_object: float | None
    uniform_attention_on_object: float | None
    phrases: int


def ground(captions, examples):
    """Measure the `Grounding` of generated captions on examples that have objects.

    Args:
        captions: `{index: Caption}` with attention.
        examples: Examples by index.

    Returns:
        `Grounding`, or None if no example has objects.
    """
    nouns, adjectives = naming_words(examples)
    if not nouns:
        return None
    phrase_fits, noun_fits, masses, uniforms = [], [], [], []
    for index, caption in captions.items():
        objects = examples[index].objects
        for named in find_noun_phrases(caption.words, nouns, adjectives):
            matching = matching_objects(named, objects)
            phrase_fits.append(bool(matching))
            noun_fits.append(any(named.noun in item.nouns for item in objects))
            if not matching:
                continue
            inside = share_inside(caption.boxes, [item.box for item in matching])
            masses.append(float(caption.attention[named.index] @ inside))
            uniforms.append(float(inside[caption.mask].mean()))
    return Grounding(
        phrases_correct=mean(phrase_fits),
        nouns_correct=mean(noun_fits),
        attention_on_object=mean(masses),
        uniform_attention_on_object=mean(uniforms),
        phrases=len(phrase_fits),
    )


def share_inside(regions, boxes):
    """Return the share of each region's area that lies inside the union of boxes, `(r,)`.

    The share of a region without area is 0.

    Args:
        regions: Corners of the regions, `(r, 4, 2)`.
        boxes: Boxes `(x0, y0, x1, y1)` of the objects that fit the same words.
    """
    xs = np.unique([edge for box in boxes for edge in (box[0], box[2])])
    ys = np.unique([edge for box in boxes for edge in (box[1], box[3])])
    x, y = (xs[:-1] + xs[1:]) / 2, ((ys[:-1] + ys[1:]) / 2)[:, None]
    covered = np.any(
        [(box[0] < x) & (x < box[2]) & (box[1] < y) & (y < box[3]) for box in boxes], axis=0
    )
    regions = np.asarray(regions, np.float64)
    areas = signed_areas(regions)
    inside = np.where(covered, signed_coverage(regions, ys, xs), 0).sum(axis=(1, 2))
    has_area = np.abs(areas) > SMALLEST
    return np.where(has_area, np.abs(inside / np.where(has_area, areas, 1)), 0.0)


def mean(numbers):
    """Return the arithmetic mean, or None for an empty list."""
    return float(np.mean(numbers)) if numbers else None
