"""A report as one file of HTML and CSS: no script, nothing loaded from anywhere."""

import base64
import functools
import pathlib

import numpy as np

from keras_aoa.visualization.panel import resize

TEMPLATES = pathlib.Path(__file__).parent / "templates"
SIDE = 480  # of a picture's longer side, in the units of areas, and pixels at most
QUALITY = 82  # of a JPEG
OUTLINES = 3  # a word's strongest areas have a line around them, and their weight
FAINTEST = 0.25  # of the largest weight: what is less has no line
LABEL_WIDTH, LABEL_HEIGHT = 60, 26  # as large as on a phone
SMALL = 60  # height of an area that its weight would hide
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
    "phrases_correct": "phrases correct, %",
    "attention_on_object": "attention on object, %",
}


def render(report):
    """The page of a `Report`, as text."""
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
        is_partly_unseen=any(each["unseen"] for each in panels),
        kinds=KINDS,
    )
    # Half a pair of UTF-16, from a file's name or from json, cannot be written.
    return page.encode(errors="replace").decode()


@functools.cache
def _template():
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        # Captions, names and words come from anyone's files.
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
    """Rows of the table of scores: a name, and for each run its value, x 100, and if it is best."""
    rows = []
    for name, title in METRICS.items():
        values = [run.scores.get(name) for run in runs]
        known = [value for value in values if value is not None]
        if known:
            best = max(known) if len(known) > 1 else None
            rows.append((title, [(value, value is not None and value == best) for value in values]))
    return rows


def card(shown):
    """An image with its panels, one of each run, as the template shows it."""
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
    """A caption's words with their areas; `size`: width and height of the picture, in units."""
    return {
        "caption": " ".join(word.text for word in captioned.words),
        "log_prob": captioned.log_prob,
        "score": captioned.score,
        "difference": difference,
        "words": [lit(word, size) for word in captioned.words],
        "unseen": unseen(captioned.window, size),
    }


def lit(word, size):
    """A word with the paths of its areas.

    Returns:
        `holes`: of `(path, share of the largest weight)`; `outlines`: of `(path, share)`;
        `labels`: of `(x, y, weight)`; and what tells the same in words.
    """
    found = {
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
        return found
    corners = word.corners * size
    shares = word.weights / word.weights[0]
    found["holes"] = [(path(points), share) for points, share in zip(corners, shares, strict=True)]
    strongest = [place for place in range(len(shares[:OUTLINES])) if shares[place] >= FAINTEST]
    # The strongest last, so that it lies on top.
    found["outlines"] = [found["holes"][place] for place in strongest[::-1]]
    for place in strongest:
        x, y = label_place(corners[place], size)
        if all(
            abs(x - other_x) >= LABEL_WIDTH or abs(y - other_y) >= LABEL_HEIGHT
            for other_x, other_y, _ in found["labels"]
        ):
            found["labels"].append((x, y, float(word.weights[place])))
    return found


def label_place(corners, size):
    """Where an area's weight is written: in its top left, or above where it would hide the area."""
    left, top = corners.min(axis=0)
    bottom = corners[:, 1].max()
    baseline = top + LABEL_HEIGHT - 4
    if bottom - top < SMALL:
        baseline = top - 6 if top >= LABEL_HEIGHT else bottom + LABEL_HEIGHT - 4
    x = min(max(left + 4, 4), size[0] - LABEL_WIDTH)
    y = min(max(baseline, LABEL_HEIGHT - 4), size[1] - 6)
    return round(float(x)), round(float(y))


def path(corners):
    """SVG's path around `corners (n, 2)`, in whole units, each from the one before: short."""
    points = np.round(corners).astype(int)
    steps = " ".join(f"{x} {y}" for x, y in np.diff(points, axis=0))
    return f"M{points[0, 0]} {points[0, 1]}l{steps}z".replace(" -", "-")


def unseen(window, size):
    """SVG's path around what a network does not see of an image; empty where it sees all."""
    left, top, right, bottom = (min(max(float(value), 0.0), 1.0) for value in window)
    if (left, top, right, bottom) == (0, 0, 1, 1):
        return ""
    width, height = size
    left, right, top, bottom = left * width, right * width, top * height, bottom * height
    return f"M0 0H{width}V{height}H0zM{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}V{top:.1f}z"


def data_uri(pixels):
    """A picture `(h, w, 3)` as a small JPEG that stands in the page itself."""
    import cv2

    scale = SIDE / max(pixels.shape[:2])
    small = resize(pixels, scale) if scale < 1 else pixels
    jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"


def number(value, digits=1):
    """A number with a minus sign of its own, and none before a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def short(share):
    """A share for CSS: .37, 1."""
    return f"{share:.2f}".rstrip("0").rstrip(".").lstrip("0") or "0"


def percent(value):
    """A share in whole percent; a little is not nothing."""
    return "<1 %" if 0 < value < 0.005 else f"{100 * value:.0f} %"
