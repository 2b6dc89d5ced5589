"""A photograph as a panel: what the network sees of it, and where a word's attention lies."""

import numpy as np

from keras_aoa.visualization.heat_map import heat_map

# Dimmed turns blue and lit a little warm, so that both show in dark and in pale photographs.
NIGHT, LAMP, GLOW = (8.0, 14.0, 34.0), (255.0, 236.0, 190.0), 0.15
DIMMED, PALE = 0.28, 0.13  # how much of the photograph's gray is left where dimmed, where unseen
BLUR = 0.04  # of the window's longer side: bridges the gaps of a strided grid
OUTLINES, LINE_WIDTH = 3, 3.2
EVIDENT = 5  # even shares of attention: where no weight reaches so much, all lines are thinner
FAINTEST = 0.25  # of the widest line: what would be thinner is left out
SMALL = 120  # side of a window, pixels, below which lines get thinner


class View:
    """A photograph at a panel's size, and the part of it that the network sees.

    `photograph (height, width, 3)`, uint8, is pale where the network does not see it.

    Args:
        image: The upright original, `(h, w, 3)`, uint8.
        window: What the network sees, `(4,)`, x0, y0, x1, y1 in 0..1 of the original.
        scale: Pixels of the panel for one of the image.
    """

    def __init__(self, image, window, scale):
        small = resize(image, scale)
        self.height, self.width = small.shape[:2]
        # A padded input reaches beyond the image.
        within = np.clip(window, 0, 1)
        self.window = window_pixels(window, small)
        self._within = within
        self._seen = seen_pixels(within, small)
        gray = small.mean(axis=2, keepdims=True)
        self.photograph = (PALE * gray + (1 - PALE) * 255).astype(np.uint8).repeat(3, axis=2)
        self.photograph[self._seen] = small[self._seen]
        self._dimmed = gray[self._seen] * DIMMED + NIGHT
        self.is_whole = small[self._seen].shape == small.shape

    def lit(self, attention, boxes):
        """The photograph for each word: dimmed, and lit where the word's attention lies.

        Args:
            attention: `(words, r)`.
            boxes: `(r, 4, 2)`, in 0..1 of the upright original.

        Returns:
            List of `(height, width, 3)`, uint8.
        """
        import cv2

        start, end = self._within[:2], self._within[2:]
        boxes = (np.asarray(boxes) - start) / (end - start)
        lamp_lit = (1 - GLOW) * self.photograph[self._seen] + GLOW * np.array(LAMP)
        rows, columns = lamp_lit.shape[:2]
        panels = []
        for heat in heat_map(attention, boxes, max(rows // 2, 1), max(columns // 2, 1)):
            heat = cv2.GaussianBlur(heat, (0, 0), BLUR * max(heat.shape))
            light = cv2.resize(np.sqrt(heat / max(heat.max(), 1e-12)), (columns, rows))[..., None]
            panel = self.photograph.copy()
            panel[self._seen] = self._dimmed + light * (lamp_lit - self._dimmed)
            panels.append(panel)
        return panels

    def outlines(self, attention, boxes):
        """The strongest regions of each word, at most `OUTLINES`, the weakest first.

        Args:
            attention, boxes: As in `lit`.

        Returns:
            For each word a list of corners in pixels of the panel, `(4, 2)`, and line width in
            pixels, which is proportional to the weight.
        """
        corners = np.asarray(boxes) * self.photograph.shape[1::-1]
        evident = min(1, EVIDENT / max(len(boxes), 1))
        relative = attention / max(attention.max(initial=0), evident)
        widest = LINE_WIDTH * min(1, self._dimmed[..., 0].size / SMALL**2)
        return [
            [
                (corners[region], word[region] * widest)
                for region in np.argsort(word)[-OUTLINES:]
                if word[region] >= FAINTEST
            ]
            for word in relative
        ]


def resize(image, scale):
    """`image (h, w, 3)` with `scale` pixels for one, at least one pixel."""
    import cv2

    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def window_pixels(window, image):
    """A window in 0..1 in pixels of `image (h, w, 3)`: `(4,)`, not rounded."""
    height, width = image.shape[:2]
    return np.asarray(window, np.float64) * (width, height, width, height)


def seen_pixels(window, image):
    """The part of `image (h, w, 3)` in a window, at least one pixel: two slices."""
    left, top, right, bottom = np.round(window_pixels(window, image)).astype(int)
    left, top = min(left, image.shape[1] - 1), min(top, image.shape[0] - 1)
    return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))


def check_image(image, who):
    """Refuse what is no RGB picture.

    Raises:
        ValueError: naming `who` was called with it.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"{who}: expected an RGB image (height, width, 3) of uint8, received shape "
            f"{image.shape} of {image.dtype}."
        )


def regions_of(caption, who):
    """Attention `(words, r)` and boxes `(r, 4, 2)` of the regions that are not padding.

    Raises:
        ValueError: there are none, or their shapes do not fit.
    """
    if caption.attention is None:
        raise ValueError(
            f"{who}: '{caption.text}' has no attention; generate it with_attention=True."
        )
    attention = np.asarray(caption.attention, np.float64)
    boxes, mask = np.asarray(caption.boxes, np.float64), np.asarray(caption.mask, bool)
    if attention.shape != (len(caption.words), len(mask)) or boxes.shape != (len(mask), 4, 2):
        raise ValueError(
            f"{who}: expected attention (words, r) and boxes (r, 4, 2) for "
            f"{len(caption.words)} words, received shapes {attention.shape} and {boxes.shape}."
        )
    if not (np.isfinite(attention).all() and np.isfinite(boxes[mask]).all()):
        raise ValueError(f"{who}: attention or boxes of '{caption.text}' are not finite.")
    return attention[:, mask], boxes[mask]


def window_of(caption):
    """Return the part of the image that the network input covers; all of it if unknown."""
    return (0.0, 0.0, 1.0, 1.0) if caption.window is None else caption.window
