"""Draws pages of photographs, outlines and text. No display is needed."""

import bisect
import contextlib
import functools
import re
import warnings
from typing import NamedTuple

import numpy as np

from keras_aoa.utils.files import atomic_write

DOTS_PER_INCH = 64  # a power of two, so that sizes in inches are exact and no pixel is lost
FONTS = (
    "DejaVu Sans",  # comes with matplotlib; the other fonts cover more scripts
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Thai",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Hiragino Sans",
)
SMALLEST_TEXT = 10
LINE_HEIGHT = 1.35  # relative to the font size
BLOCK_GAP = 5

# Color-blind readers can distinguish these colors. The blue and the vermilion are from Okabe and
# Ito, the amber is from IBM.
INK, GRAY = "#1a1a1a", "#6e6e6e"
BLUE, VERMILION, AMBER = "#0072b2", "#d55e00", "#ffb000"


class Style(NamedTuple):
    """Style of a text: size in pixels, weight and color."""

    size: float
    weight: str = "normal"
    color: str = INK


class Page:
    """A white page. Lengths are in pixels; positions are measured from the top left corner.

    Args:
        width, height: Size of the page.
    """

    def __init__(self, width, height):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.transforms import Affine2D

        self.height = height
        self.figure = Figure((width / DOTS_PER_INCH, height / DOTS_PER_INCH), DOTS_PER_INCH)
        self.figure.patch.set_facecolor("white")
        self.canvas = FigureCanvasAgg(self.figure)
        self._downward = Affine2D().scale(1, -1).translate(0, height)

    def place(self, picture, left, top):
        """Place a uint8 `picture (h, w, 3)` with its top left corner at `left, top`."""
        self.figure.figimage(picture, left, self.height - top - len(picture), origin="upper")

    def write(self, text, left, baseline, style):
        """Write one line of text."""
        self.figure.text(
            left,
            baseline,
            _drawable(text),
            transform=self._downward,
            va="baseline",
            color=style.color,
            fontproperties=_font(style),
            parse_math=False,
        )

    def write_blocks(self, blocks, left, top):
        """Write blocks of text from top to bottom. A block is `(lines, style)`."""
        for texts, style in blocks:
            for number, text in enumerate(texts):
                baseline = top + number * style.size * LINE_HEIGHT + style.size
                self.write(text, left, baseline, style)
            top += blocks_height([(texts, style)])

    def outline(self, corners, line_width, frame):
        """Outline the polygon `corners (n, 2)`, and clip the outline to `frame`.

        `frame` contains left, top, right and bottom.
        """
        from matplotlib.patches import Polygon
        from matplotlib.transforms import Bbox

        left, top, right, bottom = frame
        for width, color in ((line_width + 1.2, INK), (line_width, AMBER)):
            polygon = Polygon(
                corners,
                fill=False,
                edgecolor=color,
                linewidth=_points(width),
                joinstyle="miter",
                transform=self._downward,
            )
            self.figure.add_artist(polygon, clip=False)
            polygon.set_clip_box(Bbox([[left, self.height - bottom], [right, self.height - top]]))

    def plot(self, points, frame, label, color, span, best=None):
        """Draw a curve.

        Args:
            points: List of `(x, y)`. If the list is empty, the text "not measured yet" is written.
            frame: Left, top, width and height of the axes.
            label, color: Label and color of the curve.
            span: Smallest and largest x of the axis, integers.
            best: Point `(x, y)` to label with its y value, or None.
        """
        from matplotlib.ticker import MaxNLocator

        left, top, width, height = frame
        page_width = self.canvas.get_width_height()[0]
        self.write(label, left, top - 20, Style(15, "bold"))
        if not points:
            self.write("not measured yet", left, top + 20, Style(13, color=GRAY))
            return
        bottom = self.height - top - height
        axes = self.figure.add_axes(
            (left / page_width, bottom / self.height, width / page_width, height / self.height)
        )
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=color, linewidth=2.2, marker="o", markersize=4)
        if best:
            axes.plot(*best, color=color, marker="o", markersize=9)
            axes.annotate(
                f"{best[1]:.1f}",
                best,
                (0, 9),
                textcoords="offset points",
                ha="center",
                color=color,
                fontproperties=_font(Style(14, "bold")),
            )
        axes.set_xlim(span[0] - 0.5, span[1] + 0.5)
        axes.margins(y=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.grid(axis="y", color="#e4e4e4", linewidth=1)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color("#b0b0b0")
        axes.tick_params(colors=GRAY, length=0, pad=6)
        small = _font(Style(13))
        axes.set_xlabel("epoch", fontproperties=small, color=GRAY)
        for tick in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            tick.set_fontproperties(small)

    def finish(self, path=None):
        """Render the page, and write it to a PNG file if `path` is given.

        Returns:
            The picture, a uint8 array `(height, width, 3)`.

        Raises:
            OSError: the file cannot be written. No partial file remains.
        """
        with _quiet_about_glyphs():
            self.canvas.draw()
        picture = np.asarray(self.canvas.buffer_rgba())[..., :3].copy()
        if path is not None:
            write_png(picture, path)
        return picture


def write_png(picture, path):
    """Write `picture (h, w, 3)` as a PNG file. A failed write leaves no partial file."""
    import cv2

    content = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def text_width(text, style):
    """Return the width of one line of text in pixels."""
    with _quiet_about_glyphs():
        return _renderer().get_text_width_height_descent(
            _drawable(text), _font(style), ismath=False
        )[0]


def blocks_height(blocks):
    """Return the height of text blocks `(lines, style)`, including the gap below each block."""
    return sum(
        round(len(texts) * style.size * LINE_HEIGHT) + BLOCK_GAP for texts, style in blocks if texts
    )


def wrap(text, style, width, max_lines):
    """Break `text` at spaces into at most `max_lines` lines that are not wider than `width`.

    If the text does not fit, its end is replaced by "…".
    """
    words, lines = text.split(), []
    while words:
        if len(lines) == max_lines - 1:
            return [*lines, shorten(" ".join(words), style, width)]
        count = bisect.bisect_left(
            range(2, len(words) + 1),
            True,
            key=lambda count: text_width(" ".join(words[:count]), style) > width,
        )
        lines.append(shorten(" ".join(words[: count + 1]), style, width))
        words = words[count + 1 :]
    return lines


def shorten(text, style, width):
    """Return `text`. Text that is wider than `width` is truncated and ends with "…"."""
    if text_width(text, style) <= width:
        return text
    kept = bisect.bisect_left(
        range(1, len(text)),
        True,
        key=lambda count: text_width(text[:count] + "…", style) > width,
    )
    return text[:kept].rstrip() + "…"


def shrink(text, style, width):
    """Fit `text` into one line with a smaller font and, if necessary, by truncation.

    Returns:
        The text and its style.
    """
    fitting = int(style.size * width / max(text_width(text, style), 1))
    style = style._replace(size=max(min(style.size, fitting), SMALLEST_TEXT))
    return shorten(text, style, width), style


@contextlib.contextmanager
def _quiet_about_glyphs():
    """Suppress warnings about characters that no font contains.

    Such characters are drawn as boxes.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _drawable(text):
    """Replace characters that no font can draw: control characters and lone surrogates."""
    return re.sub("[\0-\x1f\ud800-\udfff]", "?", text)


def _points(pixels):
    return pixels * 72 / DOTS_PER_INCH


@functools.cache
def _font(style):
    from matplotlib.font_manager import FontProperties, fontManager

    installed = set(fontManager.get_font_names())
    family = [name for name in FONTS if name in installed]
    return FontProperties(family=family, size=_points(style.size), weight=style.weight)


@functools.cache
def _renderer():
    """Return the renderer that measures text for all pages."""
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, DOTS_PER_INCH)
