"""Renders a report as one HTML file with CSS, without scripts or external resources."""

from keras_aoa.visualization.highlights import data_uri, encodable, highlights, size_of, template

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
    page = template("report.html").render(
        report=report,
        sections=sections,
        scores=score_rows(report.runs),
        most_words=max(len(each["words"]) for each in panels),
        has_outside=any(each["outside"] for each in panels),
        kinds=KINDS,
    )
    return encodable(page)


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
    size = size_of(shown.pixels)
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
        **highlights(captioned.words, captioned.window, size),
        "log_prob": captioned.log_prob,
        "score": captioned.score,
        "difference": difference,
    }
