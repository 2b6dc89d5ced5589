"""Attention correctness: share of a word's attention on the object that the word names.

Sources: Liu et al., "Attention Correctness in Neural Image Captioning", AAAI 2017,
arXiv:1605.09553; Pedersoli et al., arXiv:1612.01033, table 3. Source of `pointing`: Zhang et al.,
"Top-down Neural Attention by Excitation Backprop", ECCV 2016, arXiv:1608.00507.

Corners and boxes are relative (0..1) to the network input, unless their description names the
original image.
"""

import numpy as np

from keras_aoa.data.images.preprocessing import from_original, to_original
from keras_aoa.evaluation.grounding import mean, share_inside
from keras_aoa.visualization.heat_map import heat_map, signed_areas

MEASURES = ("region", "pixel", "pointing", "localization")
# "model" measures the state that predicts the word. "model_after_word" measures the next state.
# "model_phrase" is the best value among the words of the phrase. Each of these words is measured
# at the state that predicts the word.
COLUMNS = ("model", "model_phrase", "model_after_word", "uniform", "center_prior")
COUNTS = (
    "words",
    "captions",
    "captions_without_match",
    "nouns_not_in_image",
    "words_out_of_view",
)
MAP_SIDE = 64  # side of an attention map in pixels
THRESHOLD = 0.2  # relative to the map's maximum; weaker pixels do not count for the word's box
OVERLAP = 0.5  # smallest intersection over union at which two boxes match
CENTER_DEVIATION = 0.25  # standard deviation of the center prior, relative to the image's sides
TIED = 1 - 1e-6  # relative to the maximum, because rounding makes pixels of one region differ

WHOLE = ((0.0, 0.0, 1.0, 1.0),)


def measure(attention, maps, corners, boxes):
    """Measure how well attention agrees with the boxes of the object that a word names.

    Args:
        attention: Attention p(r), `(k, r)`. Each row belongs to a state or to a prior.
        maps: Output of `attention_maps` for `attention`, `(k, side, side)`.
        corners: Corners of the regions, `(r, 4, 2)`.
        boxes: A box `(x0, y0, x1, y1)` for each object that the word names.

    Returns:
        `{measure: values}`. The values of a measure are an array `(k,)` in 0..1.

        `region` is the attention inside the union of the boxes. Each region's weight is spread
        evenly over the region. `pixel` gives every pixel of a region the region's whole weight and
        normalizes over all pixels, as in the authors' code. Large regions therefore count more.
        `pointing` is 1 if the map's maximum lies in a box, else 0. If several pixels share the
        maximum, `pointing` is the share of these pixels that lie in a box. `localization` keeps the
        pixels above `THRESHOLD` times the map's maximum and draws a box around their largest
        connected part. `localization` is 1 if the drawn box matches one of `boxes`, else 0. Two
        boxes match if their intersection over union is at least `OVERLAP`.
    """
    return {
        "region": attention @ share_inside(corners, boxes),
        "pixel": pixel_correctness(attention, corners, boxes),
        "pointing": np.array([pointing(each, boxes) for each in maps]),
        "localization": np.array([localization(each, boxes) for each in maps]),
    }


def pixel_correctness(attention, corners, boxes):
    """Weight attention by the regions' areas, and return the share inside boxes, `(k,)`.

    The share is 0 if all attended regions lie outside the network input.
    """
    areas = np.abs(signed_areas(np.asarray(corners, np.float64)))
    inside = attention @ (areas * share_inside(corners, np.clip(boxes, 0, 1)))
    everywhere = attention @ (areas * share_inside(corners, WHOLE))
    return np.divide(inside, everywhere, out=np.zeros_like(inside), where=everywhere > 0)


def attention_maps(attention, corners):
    """Convert attention `(k, r)` to heat maps of the network input, `(k, side, side)`."""
    return heat_map(attention, corners, MAP_SIDE, MAP_SIDE)


def pointing(heat, boxes):
    """Return the share of a map's strongest pixels that lie in a box.

    The strongest pixels are all pixels with the maximum value. The share is 0 for an empty map.
    """
    if not heat.any():
        return 0.0
    rows, columns = np.nonzero(heat >= TIED * heat.max())
    x, y = (columns + 0.5) / heat.shape[1], (rows + 0.5) / heat.shape[0]
    inside = [(x0 < x) & (x < x1) & (y0 < y) & (y < y1) for x0, y0, x1, y1 in boxes]
    return float(np.any(inside, axis=0).mean())


def localization(heat, boxes):
    """Return 1 if the output of `box_of_map` matches one of `boxes`, else 0.

    An empty map has no box, and the result is 0.
    """
    if not heat.any():
        return 0.0
    box = box_of_map(heat)
    return float(max(overlap(box, other) for other in boxes) >= OVERLAP)


def box_of_map(heat):
    """Return the box around the largest connected part of a map's strong pixels.

    Strong pixels have at least `THRESHOLD` times the map's maximum. The box is relative (0..1) to
    the map.
    """
    import cv2

    above = (heat >= THRESHOLD * heat.max()).astype(np.uint8)
    _, _, parts, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    largest = parts[1:][np.argmax(parts[1:, cv2.CC_STAT_AREA])]
    left, top, width, height = largest[:4]
    sides = np.array([heat.shape[1], heat.shape[0]] * 2)
    return np.array([left, top, left + width, top + height]) / sides


def overlap(box, other):
    """Return the intersection over union of two boxes."""
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (box, other)]
    return width * height / (sum(areas) - width * height)


def uniform_attention(mask):
    """Return weights `(r,)`: 0 for padding, and equal for all other regions."""
    return mask / mask.sum()


def center_attention(original, mask):
    """Return weights `(r,)` of the regions from a Gaussian around the image's center.

    The weights sum to 1.

    Args:
        original: Corners `(r, 4, 2)` of the regions, relative (0..1) to the original image.
        mask: Booleans `(r,)`, false for regions that are padding.
    """
    distances = np.sum((np.mean(original, axis=1) - 0.5) ** 2, axis=-1)
    weights = np.where(mask, np.exp(-distances / (2 * CENTER_DEVIATION**2)), 0.0)
    return weights / weights.sum()


class ImageRegions:
    """The regions of an image, and two attention priors with which the model is compared.

    Args:
        corners: Corners `(r, 4, 2)` of the regions, relative (0..1) to the network input.
        mask: Booleans `(r,)`, false for regions that are padding.
        window: Part of the original image that the network input covers, `(4,)`, as returned by
            `data.images.preprocessing.window`.

    Attributes:
        priors: Array `(2, r)` with the outputs of `uniform_attention` and `center_attention`.
        prior_maps: Output of `attention_maps` for the priors.
    """

    def __init__(self, corners, mask, window):
        self.corners, self.window = np.asarray(corners, np.float64), np.asarray(window, np.float64)
        center = center_attention(to_original(self.corners, self.window), mask)
        self.priors = np.stack([uniform_attention(mask), center])
        self.prior_maps = attention_maps(self.priors, self.corners)

    def to_input(self, boxes):
        """Convert boxes from coordinates of the original image to the network input.

        If all boxes lie outside the network input, the result is None.
        """
        boxes = from_original(np.asarray(boxes, np.float64), self.window)
        shown = np.clip(boxes, 0, 1)
        return boxes if np.any(np.all(shown[:, :2] < shown[:, 2:], axis=1)) else None


class Tally:
    """Collects measures for the words of many captions, and counts words without a measure."""

    def __init__(self):
        self.counts = dict.fromkeys(COUNTS, 0)
        self._values = {column: {name: [] for name in MEASURES} for column in COLUMNS}

    def add_captions(self, regions, attention, mentions):
        """Measure the words of one image's captions.

        Args:
            regions: `ImageRegions`.
            attention: Attention p(r | h) at each state, `(c, t + 1, r)`. State i predicts word i.
                The state after the last word predicts STOP.
            mentions: A list of `Mention` for each caption.
        """
        measured = []
        for caption, named in enumerate(mentions):
            words = list(self._measurable(regions, caption, named))
            self.counts["captions"] += 1
            self.counts["captions_without_match"] += not words
            measured += words
        if not measured:
            return
        self.counts["words"] += len(measured)
        states = sorted({state for *phrase, _ in measured for state in _states(*phrase)})
        row_of = {state: row for row, state in enumerate(states)}
        captions, steps = np.array(states).T
        attended = attention[captions, steps]
        maps = attention_maps(attended, regions.corners)
        for *phrase, boxes in measured:
            rows = [row_of[state] for state in _states(*phrase)]
            measures = measure(
                np.concatenate([attended[rows], regions.priors]),
                np.concatenate([maps[rows], regions.prior_maps]),
                regions.corners,
                boxes,
            )
            for name, (*others, word, after, uniform, center) in measures.items():
                values = word, max([*others, word]), after, uniform, center
                for column, value in zip(COLUMNS, values, strict=True):
                    self._values[column][name].append(float(value))

    def _measurable(self, regions, caption, mentions):
        """Yield a tuple for each word that can be measured, and count all other words.

        The tuple contains the caption, the word's index, the phrase's length, and boxes.
        """
        for mention in mentions:
            boxes = regions.to_input(mention.boxes) if mention.boxes else None
            if boxes is not None:
                yield caption, mention.index, mention.length, boxes
            elif mention.boxes:
                self.counts["words_out_of_view"] += 1
            else:
                self.counts["nouns_not_in_image"] += 1

    def content(self):
        """Return the counts, and the mean of each column over words.

        If no word was measured, the means are None.
        """
        return self.counts | {
            column: {name: mean(values) for name, values in measures.items()}
            for column, measures in self._values.items()
        }


def _states(caption, index, length):
    """Return the states that predict the words of a phrase and the word after the phrase.

    A state is a tuple `(caption, step)`.
    """
    return [(caption, step) for step in range(index - length + 1, index + 2)]
