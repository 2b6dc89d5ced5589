"""A caption as a line of json."""

import json


def caption_line(image, generated, boxes):
    """A caption, and for each word its strongest region.

    Args:
        image: The image's name.
        generated: `Generated` with its attention.
        boxes: Its regions' corners in 0..1 of the upright image, `(r, 4, 2)`.
    """
    strongest = generated.attention.argmax(axis=1) if generated.words else []
    regions = [
        {"word": word, "weight": float(weights[region]), "corners": boxes[region].tolist()}
        for word, weights, region in zip(
            generated.words, generated.attention, strongest, strict=True
        )
    ]
    return json.dumps(
        {
            "image": image,
            "caption": generated.caption,
            "log_prob": generated.log_prob,
            "words": regions,
        }
    )


def error_line(image, error):
    """An image without a caption, and why."""
    return json.dumps({"image": image, "error": error})
