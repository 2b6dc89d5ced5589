"""A run on object proposals exported as a SavedModel: the boxes are given with the images."""

import numpy as np
import pytest
import tensorflow as tf
from export_answers import ask, assert_row_equals
from pictures_of_all_kinds import good_files

from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.serving.save import export_run
from keras_aoa.settings.search import SearchSettings


@pytest.fixture(scope="module")
def of_proposals(trained_proposals, tmp_path_factory):
    found = export_run(trained_proposals, tmp_path_factory.mktemp("out"), SearchSettings())
    return tf.saved_model.load(str(found.folder))


def test_object_proposals_are_given_with_the_image(of_proposals, trained_proposals):
    from keras_aoa.data.images.split_images import padded
    from keras_aoa.data.proposals.cache import propose

    live = ImageCaptioner(trained_proposals.folder)
    files = list(good_files().values())
    captions = [live.captions(file) for file in files]
    boxes = [propose(found[0].image, live.proposal_view.search)[:5] for found in captions]
    assert {len(found) for found in boxes} > {5}
    rows = [row for row, found in enumerate(boxes) if len(found)]
    assert len(rows) > 5
    answers = ask(of_proposals, files, proposals=padded(boxes))
    for row in rows:
        assert_row_equals(answers, row, captions[row])


def test_more_proposals_than_the_run_looks_at_are_left_out(of_proposals, trained_proposals):
    most = trained_proposals.configuration.test_proposals
    random = np.random.default_rng(0)
    boxes = np.sort(random.random((1, most + 4, 2, 2)), axis=2).reshape(1, -1, 4)
    boxes = np.float32(boxes[..., [0, 1, 2, 3]])
    file = [good_files()["jpeg"]]
    expected = ask(of_proposals, file, proposals=boxes[:, :most])
    found = ask(of_proposals, file, proposals=boxes)
    assert found["boxes"].shape[1] == most
    assert found["captions"].tolist() == expected["captions"].tolist()
    np.testing.assert_array_equal(found["log_probs"], expected["log_probs"])


def test_proposals_that_are_no_boxes_are_left_out(of_proposals):
    file = [good_files()["jpeg"]]
    good, bad = [0.1, 0.1, 0.6, 0.8], [[np.nan, 0, 1, 1], [0, 0, np.inf, 1], [0.5, 0, 0.1, 1]]
    expected = ask(of_proposals, file, proposals=np.array([[good, [0] * 4]], np.float32))
    for box in bad:
        found = ask(of_proposals, file, proposals=np.array([[good, box]], np.float32))
        np.testing.assert_array_equal(found["log_probs"], expected["log_probs"])
        assert np.isfinite(found["boxes"]).all()


@pytest.mark.parametrize("rows", [1, 3])
def test_proposals_need_a_row_for_each_image(of_proposals, rows):
    boxes = np.full((rows, 2, 4), [0.1, 0.1, 0.6, 0.8], np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="proposals: expected a row for each"):
        ask(of_proposals, [good_files()["jpeg"]] * 2, proposals=boxes)


def test_an_image_without_proposals_is_not_valid(of_proposals):
    files = list(good_files().values())[:2]
    boxes = np.array([[[0.1, 0.1, 0.6, 0.8]], [[0, 0, 0, 0]]], np.float32)
    assert ask(of_proposals, files, proposals=boxes)["valid"].tolist() == [True, False]
    with pytest.raises(TypeError, match="proposals"):
        ask(of_proposals, files)
