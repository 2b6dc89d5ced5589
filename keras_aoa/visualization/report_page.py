"""Renders a report as one HTML file with CSS, without scripts or external resources."""

import base64
import functools
import pathlib

import numpy as np

from keras_aoa.visualization.panel import resize

TEMPLATES = pathlib.Path(__file__).parent / "templates"
SIDE = 480  # longer side of a picture in SVG units; also the maximum in pixels
QUALITY = 82  # JPEG quality
OUTLINES = 3  # maximum number of areas per word with an outline and a label
FAINTEST = 0.25  # relative to the word's largest weight; weaker areas have no outline
LABEL_WIDTH, LABEL_HEIGHT = 60, 26  # for the larger font on phones
SMALL = 60  # height of an area; a label inside a smaller area would hide the area
KINDS = {
    "grid": "grid cells",
    "transformer": "transformed boxes",
    "proposals": "object proposals",
    "mean": "the whole image",
}
METRICS = {
    "Bleu_1": "BLEU-1",
    "Bleu_2": "BLEU-2",
    "Bleu_3": "BLEU-3",
    "Bleu_4": "BLEU-4",
    "METEOR": "METEOR",
    "ROUGE_L": "ROUGE-L",
    "CIDEr": "CIDEr",
    "phrases_correct": "correct phrases, %",
    "attention_on_object": "attention on the object, %",
}


def render(report):
    """Render a `Report` as HTML text."""
    sections = [
        (name, [card(shown) for shown in images])
        for name, images in report.sections.items()
        if images
    ]
    panels = [each for _, cards in sections for shown in cards for each in shown["panels"]]
    page = _template().render(
        report=report,
        sections=sections,
        scores=score_rows(report.runs),
        most_words=max(len(each["words"]) for each in panels),
        has_outside=any(each["outside"] for each in panels),
        kinds=KINDS,
    )
    # Lone surrogates in file names or json cannot be encoded.
    return page.encode(errors="replace").decode()


@functools.cache
def _template():
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        # Captions, names and words come from untrusted files.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["percent"] = percent
    environment.filters["short"] = short
    return environment.get_template("report.html")


def score_rows(runs):
    """Return the rows of the score table. A row is a title and `(value, is_best)` for each run."""
    rows = []
    for name, title in METRICS.items():
        values = [run.scores.get(name) for run in runs]
        known = [value for value in values if value is not None]
        if known:
            best = max(known) if len(known) > 1 else None
            rows.append((title, [(value, value is not None and value == best) for value in values]))
    return rows


def card(shown):
    """Return the template's variables for an image, with one panel per run."""
    height, width = shown.pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = (round(width * scale, 1), round(height * scale, 1))
    first = shown.captions[0].score
    return {
        "image_id": str(shown.image_id),
        "file": shown.file,
        "picture": data_uri(shown.pixels),
        "size": size,
        "references": shown.references,
        "panels": [panel(each, size, each.score - first) for each in shown.captions],
    }


def panel(captioned, size, difference):
    """Return the template's variables for a caption.

    `size` is the width and height of the picture.
    """
    return {
        "caption": " ".join(word.text for word in captioned.words),
        "log_prob": captioned.log_prob,
        "score": captioned.score,
        "difference": difference,
        "words": [highlight(word, size) for word in captioned.words],
        "outside": outside_window(captioned.window, size),
    }


def highlight(word, size):
    """Return the template's variables for a word and its areas.

    Returns:
        A dictionary with the values of the note below the picture, and three lists. `holes` and
        `outlines` contain `(path, weight relative to the largest weight)`. `labels` contains
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

    If there is no such part, the path is empty.
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
