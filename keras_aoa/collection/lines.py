"""Formats captions as lines of json."""

import json


def caption_line(image, caption):
    """Return a caption, and the strongest region of each word, as a line of json.

    Args:
        image: Name of the image.
        caption: `Caption` with attention.
    """
    strongest = caption.attention.argmax(axis=1) if caption.words else []
    words = [
        {"word": word, "weight": float(weights[region]), "corners": caption.boxes[region].tolist()}
        for word, weights, region in zip(caption.words, caption.attention, strongest, strict=True)
    ]
    return json.dumps(
        {"image": image, "caption": caption.text, "log_prob": caption.log_prob, "words": words}
    )


def error_line(image, error):
    """Return a line of json with the error of an image that could not be captioned."""
    return json.dumps({"image": image, "error": error})
