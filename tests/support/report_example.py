"""A report made by hand: known pictures, words and areas, and texts that try to break the page."""

import numpy as np

from keras_aoa.evaluation.report import Report, ReportCaption, ReportImage, Summary, Word

HOSTILE = "<script>alert('&amp;\"')</script><img src=x onerror=alert(1)>"
LONG = "hippopotamus" * 20
WHOLE = np.array([0.0, 0.0, 1.0, 1.0])
LEFT = np.array([[0.0, 0.0], [0.25, 0.0], [0.25, 1.0], [0.0, 1.0]])
DIAMOND = np.array([[0.75, 0.25], [0.95, 0.5], [0.75, 0.75], [0.55, 0.5]])


def word(text, *areas):
    """A word of `(weight, corners)`, strongest first."""
    weights, corners = zip(*areas, strict=True)
    return Word(text, np.array(weights), np.array(corners), 4, False)


def even(text):
    """A word with equal weights on four areas."""
    return Word(text, np.full(4, 0.25), np.array([LEFT] * 4), 4, True)


def shown(number, *captions, file="", references=("a white square", "nothing")):
    """A white image with the words of each caption."""
    found = tuple(
        ReportCaption(tuple(words), -1.5, WHOLE, 1.25 - 0.5 * place)
        for place, words in enumerate(captions)
    )
    pixels = np.full((300, 400, 3), 255, np.uint8)
    return ReportImage(number, file or f"{number}.png", pixels, references, found)


def example(hostile=False):
    """A `Report` of three runs on three images."""
    text = HOSTILE if hostile else "square"
    first = (word("left", (0.8, LEFT)), word("right", (0.6, DIAMOND), (0.1, LEFT)), even("the"))
    second = (word(text, (0.5, DIAMOND)), word(LONG if hostile else "big", (0.5, LEFT)))
    images = (
        shown(1, first, second, first),
        shown(HOSTILE if hostile else 2, first, second, (), file=text, references=(text, LONG)),
        shown(3, first, (), second),
    )
    runs = tuple(
        Summary(
            label,
            kind,
            text,
            {"beam": 3, "stride": 1},
            {
                "CIDEr": 1.5 - place,
                "Bleu_4": 0.25 + place,
                "phrases_correct": None,
                "attention_on_object": None,
            },
            (),
        )
        for place, (label, kind) in enumerate(
            [("one", "grid"), (text, "transformer"), ("three", "proposals")]
        )
    )
    sections = {"best": images[:1], "middle": images[1:2], "worst": images[2:]}
    return Report(text, text, 30, "PTB", runs, sections)
