"""Formats captioned images as lines of text, of json, or of a table (csv)."""

import json
import math

from keras_aoa.utils.text import printable

COLUMNS = ("image", "rank", "caption", "confidence", "log_prob", "error")


def text_lines(image):
    """Return the lines of text for a `CaptionedImage`: one for each caption."""
    name = printable(image.name)
    if not image.captions:
        return [f"{name}: {left_out(image)}"]
    if not image.several:
        caption = image.captions[0]
        return [f"{name}: {caption.text} ({caption.log_prob:.2f})"]
    return [
        f"{name}: {rank}. {caption.text} ({caption.log_prob:.2f}, confidence "
        f"{caption.confidence:.2f})"
        for rank, caption in zip(image.ranks, image.captions, strict=True)
    ]


def left_out(image):
    """Return why a `CaptionedImage` has no captions."""
    return f"no caption; the largest confidence is {image.best_confidence:.2f}"


def json_line(image):
    """Return a `CaptionedImage` as a line of json.

    The line describes the best caption. If several captions were asked for, `captions` describes
    all captions. If the image cannot be read, the line contains an error instead. If no caption has
    enough confidence, `caption` is null, and `confidence` is the largest confidence.
    """
    if image.error:
        return json.dumps({"image": image.name, "error": image.error})
    if not image.captions:
        return json.dumps(
            {"image": image.name, "caption": None, "confidence": image.best_confidence}
        )
    described = [described_caption(caption) for caption in image.captions]
    ranked = [{"rank": rank, **own} for rank, own in zip(image.ranks, described, strict=True)]
    every = {"captions": ranked} if image.several else {}
    return json.dumps({"image": image.name, **described[0], **every})


def described_caption(caption):
    """Return a dictionary of a `Caption` with attention, for json.

    The dictionary contains the probability of each word, and the word's strongest region.
    """
    strongest = caption.attention.argmax(axis=1) if caption.words else []
    words = [
        {
            "word": word,
            "prob": prob,
            "weight": float(weights[region]),
            "corners": caption.boxes[region].tolist(),
        }
        for word, prob, weights, region in zip(
            caption.words, caption.word_probs, caption.attention, strongest, strict=True
        )
    ]
    return {
        "caption": caption.text,
        # json has no infinite numbers
        "log_prob": caption.log_prob if math.isfinite(caption.log_prob) else None,
        "confidence": caption.confidence,
        "words": words,
    }


def table_rows(image):
    """Return the rows of a table for a `CaptionedImage`, with the values of `COLUMNS`."""
    if image.error:
        return [(image.name, "", "", "", "", image.error)]
    if not image.captions:
        return [(image.name, "", "", "", "", left_out(image))]
    return [
        (image.name, rank, caption.text, f"{caption.confidence:.4f}", f"{caption.log_prob:.4f}", "")
        for rank, caption in zip(image.ranks, image.captions, strict=True)
    ]
