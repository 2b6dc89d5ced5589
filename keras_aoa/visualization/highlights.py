"""HTML of pictures: a word below a picture highlights its areas, with CSS and without scripts."""

import base64
import functools
import pathlib
import uuid

import numpy as np

from keras_aoa.visualization.areas import noticeable_areas
from keras_aoa.visualization.panel import resize, window_of

TEMPLATES = pathlib.Path(__file__).parent / "templates"
SIDE = 480  # longer side of a picture in SVG units; also the maximum in pixels
QUALITY = 82  # JPEG quality
OUTLINES = 3  # maximum number of areas per word with an outline and a label
FAINTEST = 0.25  # relative to the word's largest weight; weaker areas have no outline
LABEL_WIDTH, LABEL_HEIGHT = 60, 26  # for the larger font on phones
SMALL = 60  # height of an area; a label inside a smaller area would hide the area


def caption_html(captions, pixels):
    """Return HTML that shows captions of an image and highlights the areas of a selected word.

    The HTML is a part of a page. The HTML contains its own styles and needs no scripts. Words react
    to the mouse, to taps and to the arrow keys.

    Args:
        captions: Sequence of `Caption` with attention.
        pixels: The upright original, `(h, w, 3)` in uint8.
    """
    size = size_of(pixels)
    panels = [
        {
            **highlights(noticeable_areas(caption, "caption_html"), window_of(caption), size),
            **{name: getattr(caption, name) for name in ("log_prob", "confidence", "word_probs")},
        }
        for caption in captions
    ]
    html = template("caption.html").render(
        identity=f"k{uuid.uuid4().hex[:12]}",  # several captions may be on one page
        panels=panels,
        picture=data_uri(pixels),
        size=size,
        most_words=max(len(panel["words"]) for panel in panels),
    )
    return encodable(html)


@functools.cache
def environment():
    """Return the Jinja environment of all pages."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        # Captions, names and words come from untrusted files.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = number
    made.filters["percent"] = percent
    made.filters["short"] = short
    return made


def template(name):
    """Return the Jinja template with a file name."""
    return environment().get_template(name)


def encodable(html):
    """Replace lone surrogates in HTML. File names and JSON may contain lone surrogates."""
    return html.encode(errors="replace").decode()


def size_of(pixels):
    """Return width and height of a picture in SVG units."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    return round(width * scale, 1), round(height * scale, 1)


def highlights(words, window, size):
    """Return the template's variables for the words of a caption.

    Args:
        words: Sequence of `Word`.
        window: Part of the image that the network input covers.
        size: Width and height of the picture.
    """
    return {
        "caption": " ".join(word.text for word in words),
        "words": [highlight(word, size) for word in words],
        "outside": outside_window(window, size),
    }


def highlight(word, size):
    """Return the template's variables for a word and its areas.

    Returns:
        A dictionary with the values for the note below the picture, and with three lists. `holes`
        and `outlines` contain `(path, weight relative to the largest weight)`. `labels` contains
        `(x, y, weight)`.
    """
    values = {
        "text": word.text,
        "regions": word.regions,
        "is_even": word.is_even,
        "drawn": len(word.weights),
        "drawn_weight": float(word.weights.sum()),
        "strongest": [float(weight) for weight in word.weights[:OUTLINES]],
        "holes": [],
        "outlines": [],
        "labels": [],
    }
    if word.is_even:
        return values
    corners = word.corners * size
    shares = word.weights / word.weights[0]
    values["holes"] = [(path(points), share) for points, share in zip(corners, shares, strict=True)]
    strongest = [index for index in range(len(shares[:OUTLINES])) if shares[index] >= FAINTEST]
    # Later outlines cover earlier outlines; the strongest area must stay visible.
    values["outlines"] = [values["holes"][index] for index in strongest[::-1]]
    for index in strongest:
        x, y = label_position(corners[index], size)
        if all(
            abs(x - other_x) >= LABEL_WIDTH or abs(y - other_y) >= LABEL_HEIGHT
            for other_x, other_y, _ in values["labels"]
        ):
            values["labels"].append((x, y, float(word.weights[index])))
    return values


def label_position(corners, size):
    """Return the position of an area's label.

    The label is in the top left corner of the area. If the area is small, the label is above or
    below the area.
    """
    left, top = corners.min(axis=0)
    bottom = corners[:, 1].max()
    baseline = top + LABEL_HEIGHT - 4
    if bottom - top < SMALL:
        baseline = top - 6 if top >= LABEL_HEIGHT else bottom + LABEL_HEIGHT - 4
    x = min(max(left + 4, 4), size[0] - LABEL_WIDTH)
    y = min(max(baseline, LABEL_HEIGHT - 4), size[1] - 6)
    return round(float(x)), round(float(y))


def path(corners):
    """Return a short SVG path around `corners (n, 2)`, in relative integer steps."""
    points = np.round(corners).astype(int)
    steps = " ".join(f"{x} {y}" for x, y in np.diff(points, axis=0))
    return f"M{points[0, 0]} {points[0, 1]}l{steps}z".replace(" -", "-")


def outside_window(window, size):
    """Return an SVG path around the part of a picture outside the network input.

    If the network input covers the whole picture, the path is empty.
    """
    left, top, right, bottom = (min(max(float(value), 0.0), 1.0) for value in window)
    if (left, top, right, bottom) == (0, 0, 1, 1):
        return ""
    width, height = size
    left, right, top, bottom = left * width, right * width, top * height, bottom * height
    return f"M0 0H{width}V{height}H0zM{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}V{top:.1f}z"


def data_uri(pixels):
    """Encode a picture `(h, w, 3)` as the data URI of a small JPEG."""
    import cv2

    scale = SIDE / max(pixels.shape[:2])
    small = resize(pixels, scale) if scale < 1 else pixels
    jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"


def number(value, digits=1):
    """Format a number with a typographic minus sign. Zero has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def short(share):
    """Format a share for CSS, such as `.37` or `1`."""
    return f"{share:.2f}".rstrip("0").rstrip(".").lstrip("0") or "0"


def percent(value):
    """Format a share in whole percent. Small positive shares become "<1 %"."""
    return "<1 %" if 0 < value < 0.005 else f"{100 * value:.0f} %"
