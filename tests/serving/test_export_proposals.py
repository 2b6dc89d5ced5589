"""Exported runs on object proposals: the client sends the boxes with the images."""

import numpy as np
import pytest
import tensorflow as tf
from export_answers import ask, assert_row_equals
from pictures_of_all_kinds import good_files

from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.serving.save import export_run
from keras_aoa.settings.search import SearchSettings


@pytest.fixture(scope="module")
def model(trained_proposals, tmp_path_factory):
    exported = export_run(trained_proposals, tmp_path_factory.mktemp("out"), SearchSettings())
    return tf.saved_model.load(str(exported.folder))


def test_images_with_their_object_proposals_are_captioned_as_live(model, trained_proposals):
    from keras_aoa.data.images.split_images import padded
    from keras_aoa.data.proposals.cache import propose

    live = ImageCaptioner(trained_proposals.folder)
    files = list(good_files().values())
    captions = [live.captions(file) for file in files]
    boxes = [propose(beams[0].image, live.proposal_settings)[:5] for beams in captions]
    assert {len(each) for each in boxes} > {5}
    rows = [row for row, each in enumerate(boxes) if len(each)]
    assert len(rows) > 5
    answers = ask(model, files, proposals=padded(boxes))
    for row in rows:
        assert_row_equals(answers, row, captions[row])


def test_proposals_beyond_the_runs_maximum_are_ignored(model, trained_proposals):
    maximum = trained_proposals.configuration.test_proposals
    random = np.random.default_rng(0)
    boxes = np.sort(random.random((1, maximum + 4, 2, 2)), axis=2).reshape(1, -1, 4)
    boxes = np.float32(boxes[..., [0, 1, 2, 3]])
    file = [good_files()["jpeg"]]
    expected = ask(model, file, proposals=boxes[:, :maximum])
    outputs = ask(model, file, proposals=boxes)
    assert outputs["boxes"].shape[1] == maximum
    assert outputs["captions"].tolist() == expected["captions"].tolist()
    np.testing.assert_array_equal(outputs["log_probs"], expected["log_probs"])


def test_proposals_that_are_not_boxes_are_ignored(model):
    file = [good_files()["jpeg"]]
    good, bad = [0.1, 0.1, 0.6, 0.8], [[np.nan, 0, 1, 1], [0, 0, np.inf, 1], [0.5, 0, 0.1, 1]]
    expected = ask(model, file, proposals=np.array([[good, [0] * 4]], np.float32))
    for box in bad:
        outputs = ask(model, file, proposals=np.array([[good, box]], np.float32))
        np.testing.assert_array_equal(outputs["log_probs"], expected["log_probs"])
        assert np.isfinite(outputs["boxes"]).all()


@pytest.mark.parametrize("rows", [1, 3])
def test_proposals_need_one_row_per_image(model, rows):
    boxes = np.full((rows, 2, 4), [0.1, 0.1, 0.6, 0.8], np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="proposals: expected a row for each"):
        ask(model, [good_files()["jpeg"]] * 2, proposals=boxes)


def test_an_image_without_proposals_is_invalid(model):
    files = list(good_files().values())[:3]
    boxes = np.array([[[0.1, 0.1, 0.6, 0.8]], [[0, 0, 0, 0]], [[0, 0, np.inf, 1]]], np.float32)
    assert ask(model, files, proposals=boxes)["valid"].tolist() == [True, False, False]
    with pytest.raises(TypeError, match="proposals"):
        ask(model, files)
