"""Do captions name what is in the picture, and look at it while they name it?"""

from dataclasses import dataclass

import numpy as np

from keras_aoa.data.text.mentions import find_noun_phrases, matching_objects, naming_words
from keras_aoa.visualization.heat_map import SMALLEST, signed_areas, signed_coverage


@dataclass(frozen=True)
class Grounding:
    """Shares in 0..1 over all noun phrases of all captions.

    `objects`: phrases whose noun and adjectives fit an object of the picture. `nouns`: those
    whose noun alone does. `attention`: mean mass of p(r | h) inside the named object's box when
    its noun is said; `uniform`: the same for equal weights. `phrases`: how many there were.
    """

    objects: float
    nouns: float
    attention: float
    uniform: float
    phrases: int


def ground(captions, examples, to_original):
    """Measure `Grounding` of generated captions on examples that have objects.

    Args:
        captions: `{index: Generated}` with attention.
        examples: Examples, by those indices.
        to_original: From corners in the network's input and an example's index to corners in
            the original image.

    Returns:
        `Grounding`, or None when no example has objects.
    """
    nouns, adjectives = naming_words(examples)
    if not nouns:
        return None
    fits, noun_fits, masses, uniforms = [], [], [], []
    for index, generated in captions.items():
        objects = examples[index].objects
        boxes = to_original(generated.boxes, index)
        for named in find_noun_phrases(generated.words, nouns, adjectives):
            matching = matching_objects(named, objects)
            fits.append(bool(matching))
            noun_fits.append(any(named.noun in item.nouns for item in objects))
            if not matching:
                continue
            inside = share_inside(boxes, [item.box for item in matching])
            masses.append(float(generated.attention[named.index] @ inside))
            uniforms.append(float(inside[generated.mask].mean()))
    return Grounding(
        objects=mean(fits),
        nouns=mean(noun_fits),
        attention=mean(masses),
        uniform=mean(uniforms),
        phrases=len(fits),
    )


def share_inside(regions, boxes):
    """Share of each region `(r, 4, 2)` covered by boxes `(x0, y0, x1, y1)`: `(r,)`.

    A region's mass is spread evenly over it; one without area has no share. Several boxes
    (objects that fit the same words) count as their union, by the grid of all their edges.
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
    """Arithmetic mean; None where there is nothing to measure."""
    return float(np.mean(numbers)) if numbers else None
