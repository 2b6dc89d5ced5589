"""Captions and errors as json lines."""

import json


def caption_line(image, generated, boxes):
    """Return the json line of a caption: its words, each with the region of highest weight.

    Args:
        image: Name of the image.
        generated: `Generated`, with attention.
        boxes: Corners of the regions in 0..1 of the upright image, `(r, 4, 2)`.
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
    """Return the json line of an image that could not be captioned, with the reason."""
    return json.dumps({"image": image, "error": error})
