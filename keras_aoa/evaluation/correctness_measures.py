"""Attention correctness: how much of the attention for a word lies on what the word names.

Sources: Liu et al., "Attention Correctness in Neural Image Captioning", AAAI 2017,
arXiv:1605.09553; Pedersoli et al., arXiv:1612.01033, table 3. Pointing: Zhang et al., "Top-down
Neural Attention by Excitation Backprop", ECCV 2016, arXiv:1608.00507. All corners and boxes are
in 0..1 of the network's input.
"""

import numpy as np

from keras_aoa.data.images.preprocessing import from_original, to_original
from keras_aoa.evaluation.grounding import mean, share_inside
from keras_aoa.visualization.heat_map import heat_map, signed_areas

MEASURES = ("region", "pixel", "pointing", "localization")
# A word's attention is that of the state which predicts it, or of the state after it was fed; of a
# phrase's words, each by its own state, the best counts.
COLUMNS = ("model", "model_phrase", "model_after_word", "uniform", "center_prior")
COUNTS = (
    "words",
    "captions",
    "captions_without_match",
    "nouns_not_in_image",
    "words_out_of_view",
)
MAP_SIDE = 64  # pixels of an attention map
THRESHOLD = 0.2  # of the map's maximum: what is above is the word's box
OVERLAP = 0.5  # least intersection over union of two boxes that are the same
CENTER_DEVIATION = 0.25  # of the center prior, in sides of the original image
TIED = 1 - 1e-6  # of the maximum: rounding parts no two pixels of one region

WHOLE = ((0.0, 0.0, 1.0, 1.0),)


def measure(attention, maps, corners, boxes):
    """How well attentions agree with the boxes of what a word names.

    Args:
        attention: p(r), `(k, r)`: of several states, models or priors.
        maps: Their `attention_maps`, `(k, side, side)`.
        corners: Of the regions, `(r, 4, 2)`.
        boxes: x0, y0, x1, y1 of what the word names, one or more; their union counts.

    Returns:
        `{measure: (k,)}`, each in 0..1. `region`: attention inside the boxes, where a region's
        weight is spread evenly over it. `pixel`: the same where each pixel of a region takes the
        whole weight, over the sum of all pixels, as in the authors' code: large regions count
        more. `pointing`: whether the map's maximum lies in a box; of several equal pixels, the
        share that does. `localization`: whether the box around the largest connected part of the
        map above `THRESHOLD` of its maximum is one of the boxes, by `OVERLAP`.
    """
    return {
        "region": attention @ share_inside(corners, boxes),
        "pixel": pixel_correctness(attention, corners, boxes),
        "pointing": np.array([pointing(each, boxes) for each in maps]),
        "localization": np.array([localization(each, boxes) for each in maps]),
    }


def pixel_correctness(attention, corners, boxes):
    """Attention inside boxes, not divided by the regions' areas, `(k,)`; 0 if none is visible."""
    areas = np.abs(signed_areas(np.asarray(corners, np.float64)))
    inside = attention @ (areas * share_inside(corners, np.clip(boxes, 0, 1)))
    everywhere = attention @ (areas * share_inside(corners, WHOLE))
    return np.divide(inside, everywhere, out=np.zeros_like(inside), where=everywhere > 0)


def attention_maps(attention, corners):
    """Where on the network's input attention `(k, r)` lies: `(k, side, side)`."""
    return heat_map(attention, corners, MAP_SIDE, MAP_SIDE)


def pointing(heat, boxes):
    """Share of the pixels at a map's maximum whose centers lie in a box; 0 of an empty map."""
    if not heat.any():
        return 0.0
    rows, columns = np.nonzero(heat >= TIED * heat.max())
    x, y = (columns + 0.5) / heat.shape[1], (rows + 0.5) / heat.shape[0]
    inside = [(x0 < x) & (x < x1) & (y0 < y) & (y < y1) for x0, y0, x1, y1 in boxes]
    return float(np.any(inside, axis=0).mean())


def localization(heat, boxes):
    """1 if the map's own box is one of the boxes, else 0; an empty map has none."""
    if not heat.any():
        return 0.0
    box = box_of_map(heat)
    return float(max(overlap(box, other) for other in boxes) >= OVERLAP)


def box_of_map(heat):
    """x0, y0, x1, y1 around the largest connected part of a map above the threshold, 0..1."""
    import cv2

    above = (heat >= THRESHOLD * heat.max()).astype(np.uint8)
    _, _, parts, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    largest = parts[1:][np.argmax(parts[1:, cv2.CC_STAT_AREA])]
    left, top, width, height = largest[:4]
    sides = np.array([heat.shape[1], heat.shape[0]] * 2)
    return np.array([left, top, left + width, top + height]) / sides


def overlap(box, other):
    """Intersection over union of two boxes."""
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (box, other)]
    return width * height / (sum(areas) - width * height)


def uniform_attention(mask):
    """Equal weights of all regions that are none of padding, `(r,)`."""
    return mask / mask.sum()


def center_attention(original, mask):
    """A Gaussian over the regions' centers about the image's middle, `(r,)`; sums to 1.

    Args:
        original: The regions' corners in 0..1 of the original image, `(r, 4, 2)`.
        mask: False for padding, `(r,)`.
    """
    distances = np.sum((np.mean(original, axis=1) - 0.5) ** 2, axis=-1)
    weights = np.where(mask, np.exp(-distances / (2 * CENTER_DEVIATION**2)), 0.0)
    return weights / weights.sum()


class Picture:
    """An image's regions, on which the words of all its captions are measured.

    Args:
        corners: Of the regions, in 0..1 of the network's input, `(r, 4, 2)`.
        mask: False for padding, `(r,)`.
        window: What the network sees of the original, `(4,)`, as of `data.images.window`.

    Attributes:
        priors: `uniform_attention` and `center_attention`, `(2, r)`.
        prior_maps: Their maps.
    """

    def __init__(self, corners, mask, window):
        self.corners, self.window = np.asarray(corners, np.float64), np.asarray(window, np.float64)
        center = center_attention(to_original(self.corners, self.window), mask)
        self.priors = np.stack([uniform_attention(mask), center])
        self.prior_maps = attention_maps(self.priors, self.corners)

    def in_view(self, boxes):
        """Boxes in 0..1 of the original, in 0..1 of the input; None if it shows no part of them."""
        boxes = from_original(np.asarray(boxes, np.float64), self.window)
        shown = np.clip(boxes, 0, 1)
        return boxes if np.any(np.all(shown[:, :2] < shown[:, 2:], axis=1)) else None


class Tally:
    """The measures of the words of many captions, and counts of what could not be measured."""

    def __init__(self):
        self.counts = dict.fromkeys(COUNTS, 0)
        self._values = {column: {name: [] for name in MEASURES} for column in COLUMNS}

    def add_captions(self, picture, attention, mentions):
        """Measure the words of captions of one image.

        Args:
            picture: `Picture`.
            attention: p(r | h) of the states that predict each word and STOP, `(c, t + 1, r)`:
                the state after a word is the one that predicts the next.
            mentions: The `Mention`s of each caption.
        """
        measured = []
        for caption, named in enumerate(mentions):
            words = list(self._in_view(picture, caption, named))
            self.counts["captions"] += 1
            self.counts["captions_without_match"] += not words
            measured += words
        if not measured:
            return
        self.counts["words"] += len(measured)
        states = sorted({state for *of_words, _ in measured for state in _states(*of_words)})
        row_of = {state: row for row, state in enumerate(states)}
        captions, steps = np.array(states).T
        own = attention[captions, steps]
        own_maps = attention_maps(own, picture.corners)
        for *of_words, boxes in measured:
            rows = [row_of[state] for state in _states(*of_words)]
            found = measure(
                np.concatenate([own[rows], picture.priors]),
                np.concatenate([own_maps[rows], picture.prior_maps]),
                picture.corners,
                boxes,
            )
            for name, (*phrase, word, after, uniform, center) in found.items():
                values = word, max([*phrase, word]), after, uniform, center
                for column, value in zip(COLUMNS, values, strict=True):
                    self._values[column][name].append(float(value))

    def _in_view(self, picture, caption, mentions):
        """Caption, word's place, its phrase's length and boxes in the input, where measurable."""
        for mention in mentions:
            boxes = picture.in_view(mention.boxes) if mention.boxes else None
            if boxes is not None:
                yield caption, mention.index, mention.length, boxes
            elif mention.boxes:
                self.counts["words_out_of_view"] += 1
            else:
                self.counts["nouns_not_in_image"] += 1

    def content(self):
        """Counts, and each column's means over words; None where there is no word."""
        return self.counts | {
            column: {name: mean(values) for name, values in measures.items()}
            for column, measures in self._values.items()
        }


def _states(caption, index, length):
    """Caption and step of the states that predict a phrase's words, and of the one after."""
    return [(caption, step) for step in range(index - length + 1, index + 2)]
