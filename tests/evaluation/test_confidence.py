"""CIDEr by confidence, against sorting by hand."""

import pytest

from keras_aoa.evaluation.confidence import cider_by_confidence


def test_thirds_are_sorted_by_confidence():
    confidences = [0.3, 0.9, 0.1, 0.8, 0.5, 0.6, 0.2]
    ciders = [1.0, 6.0, 0.5, 5.0, 3.0, 9.0, 0.25]
    found = cider_by_confidence(confidences, ciders)
    assert found == {
        "CIDEr_most_confident": pytest.approx((6 + 5 + 9) / 3),
        "CIDEr_middle_confident": pytest.approx((3 + 1) / 2),
        "CIDEr_least_confident": pytest.approx((0.25 + 0.5) / 2),
        "confidence_most": 0.6,
        "confidence_middle": 0.3,
    }


def test_two_captions_have_no_thirds():
    assert cider_by_confidence([0.1, 0.2], [1.0, 2.0]) == {}
