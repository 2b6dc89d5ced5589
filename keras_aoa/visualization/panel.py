"""Draws panels, which are photographs with highlighted attention.

The part of a photograph outside the network input is pale.
"""

import numpy as np

from keras_aoa.visualization.heat_map import heat_map

# Shaded parts become bluish and highlighted parts slightly yellow. Brightness alone would be hard
# to see in dark and in pale photographs.
SHADE, HIGHLIGHT, TINT = (8.0, 14.0, 34.0), (255.0, 236.0, 190.0), 0.15
SHADED, PALE = 0.28, 0.13  # shares of the brightness that remain in shaded and in pale parts
BLUR = 0.04  # relative to the window's longer side; fills the gaps between cells at strides above 1
OUTLINES, LINE_WIDTH = 3, 3.2
EVIDENT = 5  # relative to uniform attention; if no weight reaches it, all lines are thinner
FAINTEST = 0.25  # relative to the widest line; thinner lines are omitted
SMALL = 120  # side of a window in pixels; smaller windows have thinner lines


class View:
    """A photograph at the size of a panel, and the part of it that the network input covers.

    Args:
        image: The upright original, a uint8 array `(h, w, 3)`.
        window: Part of the image that the network input covers: x0, y0, x1, y1 relative (0..1)
            to the original.
        scale: Panel pixels per image pixel.

    Attributes:
        photograph: uint8 array `(height, width, 3)`. Parts outside the network input are pale.
        is_whole: Whether the network input covers the whole image.
    """

    def __init__(self, image, window, scale):
        small = resize(image, scale)
        self.height, self.width = small.shape[:2]
        # A padded input reaches beyond the image.
        self._window = np.clip(window, 0, 1)
        self._inside = window_slices(self._window, small)
        gray = small.mean(axis=2, keepdims=True)
        self.photograph = (PALE * gray + (1 - PALE) * 255).astype(np.uint8).repeat(3, axis=2)
        self.photograph[self._inside] = small[self._inside]
        self._shaded = gray[self._inside] * SHADED + SHADE
        self.is_whole = small[self._inside].shape == small.shape

    def highlight(self, attention, boxes):
        """Draw a panel for each word: the shaded photograph, highlighted where the word attends.

        Args:
            attention: Attention at each word, `(words, r)`.
            boxes: Corners `(r, 4, 2)` of the regions, relative (0..1) to the upright original.

        Returns:
            List of panels, which are uint8 arrays `(height, width, 3)`.
        """
        import cv2

        start, end = self._window[:2], self._window[2:]
        boxes = (np.asarray(boxes) - start) / (end - start)
        bright = (1 - TINT) * self.photograph[self._inside] + TINT * np.array(HIGHLIGHT)
        rows, columns = bright.shape[:2]
        panels = []
        for heat in heat_map(attention, boxes, max(rows // 2, 1), max(columns // 2, 1)):
            heat = cv2.GaussianBlur(heat, (0, 0), BLUR * max(heat.shape))
            light = cv2.resize(np.sqrt(heat / max(heat.max(), 1e-12)), (columns, rows))[..., None]
            panel = self.photograph.copy()
            panel[self._inside] = self._shaded + light * (bright - self._shaded)
            panels.append(panel)
        return panels

    def outlines(self, attention, boxes):
        """Return the outlines of each word's strongest regions.

        A word has at most `OUTLINES` outlines. The weakest region comes first.

        Args:
            attention, boxes: The same as in `highlight`.

        Returns:
            For each word, a list of `(corners, line width)` in pixels of the panel. The corners are
            `(4, 2)`. The line width is proportional to the region's weight.
        """
        corners = np.asarray(boxes) * self.photograph.shape[1::-1]
        evident = min(1, EVIDENT / max(len(boxes), 1))
        relative = attention / max(attention.max(initial=0), evident)
        widest = LINE_WIDTH * min(1, self._shaded[..., 0].size / SMALL**2)
        return [
            [
                (corners[region], word[region] * widest)
                for region in np.argsort(word)[-OUTLINES:]
                if word[region] >= FAINTEST
            ]
            for word in relative
        ]


def resize(image, scale):
    """Scale `image (h, w, 3)` by `scale`. Both sides of the result have at least one pixel."""
    import cv2

    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def window_pixels(window, image):
    """Convert a window `(4,)` in 0..1 to pixels of `image (h, w, 3)`, without rounding."""
    height, width = image.shape[:2]
    return np.asarray(window, np.float64) * (width, height, width, height)


def window_slices(window, image):
    """Return the slices of rows and columns that cut a window out of `image (h, w, 3)`.

    The slices are never empty.
    """
    left, top, right, bottom = np.round(window_pixels(window, image)).astype(int)
    left, top = min(left, image.shape[1] - 1), min(top, image.shape[0] - 1)
    return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))


def check_image(image, who):
    """Check that `image` is an RGB image of uint8.

    Raises:
        ValueError: `image` is not an RGB image of uint8. The message begins with `who`, the name of
            the caller.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"{who}: expected an RGB image (height, width, 3) of uint8, received shape "
            f"{image.shape} of {image.dtype}."
        )


def regions_of(caption, who):
    """Return attention `(words, r)` and boxes `(r, 4, 2)` of the regions that are not padding.

    Raises:
        ValueError: the caption has no attention, or its arrays have invalid shapes or values. The
            message begins with `who`, the name of the caller.
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
    """Return the part of the image that the network input covers.

    If the window of the network input is unknown, the whole image is returned.
    """
    return (0.0, 0.0, 1.0, 1.0) if caption.window is None else caption.window
