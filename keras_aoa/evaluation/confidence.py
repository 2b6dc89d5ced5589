"""Compares the scores of captions with high and with low confidence."""

from collections.abc import Mapping, Sequence

import numpy as np

THIRDS = ("most", "middle", "least")


def cider_by_confidence(
    confidences: Sequence[float], ciders: Sequence[float]
) -> Mapping[str, float]:
    """Return the mean CIDEr of each third of the captions, sorted by confidence.

    Args:
        confidences: Confidence of each caption.
        ciders: CIDEr of each caption.

    Returns:
        Dictionary of the mean CIDEr of each third, `CIDEr_most_confident`, `CIDEr_middle_confident`
        and `CIDEr_least_confident`. `confidence_most` and `confidence_middle` are the smallest
        confidences of the first and the second third. With fewer than three captions, the
        dictionary is empty.
    """
    if len(ciders) < 3:
        return {}
    order = np.argsort(-np.asarray(confidences), kind="stable")
    thirds = dict(zip(THIRDS, np.array_split(order, 3), strict=True))
    means = {
        f"CIDEr_{name}_confident": float(np.mean(np.asarray(ciders)[own]))
        for name, own in thirds.items()
    }
    limits = {
        f"confidence_{name}": float(np.min(np.asarray(confidences)[thirds[name]]))
        for name in THIRDS[:2]
    }
    return {**means, **limits}
