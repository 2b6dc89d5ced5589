"""An example report with known pictures, words and areas, and optionally with hostile texts."""

import numpy as np

from keras_aoa.evaluation.report import Report, ReportCaption, ReportImage, Summary
from keras_aoa.visualization.areas import Word

HOSTILE = "<script>alert('&amp;\"')</script><img src=x onerror=alert(1)>"
LONG = "hippopotamus" * 20
WHOLE = np.array([0.0, 0.0, 1.0, 1.0])
LEFT = np.array([[0.0, 0.0], [0.25, 0.0], [0.25, 1.0], [0.0, 1.0]])
DIAMOND = np.array([[0.75, 0.25], [0.95, 0.5], [0.75, 0.75], [0.55, 0.5]])


def word(text, *areas):
    """Create a word from its areas, `(weight, corners)`, strongest first."""
    weights, corners = zip(*areas, strict=True)
    return Word(text, np.array(weights), np.array(corners), 4, False)


def uniform(text):
    """Create a word with equal weights on four areas."""
    return Word(text, np.full(4, 0.25), np.array([LEFT] * 4), 4, True)


def image(number, *captions, file="", references=("a white square", "nothing")):
    """Create a white image with captions, each given by its words."""
    report_captions = tuple(
        ReportCaption(tuple(words), -1.5, WHOLE, 1.25 - 0.5 * index)
        for index, words in enumerate(captions)
    )
    pixels = np.full((300, 400, 3), 255, np.uint8)
    return ReportImage(number, file or f"{number}.png", pixels, references, report_captions)


def example(hostile=False):
    """Create a `Report` of three runs on three images."""
    text = HOSTILE if hostile else "square"
    first = (word("left", (0.8, LEFT)), word("right", (0.6, DIAMOND), (0.1, LEFT)), uniform("the"))
    second = (word(text, (0.5, DIAMOND)), word(LONG if hostile else "big", (0.5, LEFT)))
    images = (
        image(1, first, second, first),
        image(HOSTILE if hostile else 2, first, second, (), file=text, references=(text, LONG)),
        image(3, first, (), second),
    )
    runs = tuple(
        Summary(
            label,
            kind,
            text,
            {"beam": 3, "stride": 1},
            {
                "CIDEr": 1.5 - index,
                "Bleu_4": 0.25 + index,
                "phrases_correct": None,
                "attention_on_object": None,
            },
            (),
        )
        for index, (label, kind) in enumerate(
            [("one", "grid"), (text, "transformer"), ("three", "proposals")]
        )
    )
    sections = {"best": images[:1], "middle": images[1:2], "worst": images[2:]}
    return Report(text, text, 30, "PTB", runs, sections)
