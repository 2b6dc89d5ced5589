"""Faithfulness: the region that is replaced, its effect by definition, and the intervals."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import ops

from keras_aoa import evaluate as command
from keras_aoa.data.text.vocabulary import PAD, START, STOP
from keras_aoa.evaluation.faithfulness import (
    log_probs_without,
    measure_falls,
    other_regions,
    summarize,
)
from keras_aoa.models.teacher_forcing import teacher_forcing
from keras_aoa.utils.errors import UserError

IMAGES = tiny.make_images(2)
IDS = np.array([[[START, 5, 4, 7, STOP]], [[START, 6, STOP, PAD, PAD]]], np.int32)


@pytest.fixture(scope="module", params=["full", "soft"])
def captioner(request):
    return tiny.make_captioner(request.param, weights=1)


def regions_of(captioner):
    return captioner.make_regions(captioner.extract_features({"images": IMAGES}), stride=2)


def test_the_features_of_one_region_become_the_mean_features(captioner):
    regions, vector = regions_of(captioner)
    replaced = np.array([[0, 3, 1, 2], [2, 1, 0, 3]])
    result = log_probs_without(captioner, regions, vector, IDS, replaced)
    for image, word in np.ndindex(replaced.shape):
        features = np.array(regions.features[image : image + 1])
        features[0, replaced[image, word]] = features[0].mean(axis=0)
        one = type(regions)(*(part[image : image + 1] for part in regions))
        encoded = captioner.encode_regions(
            one._replace(features=ops.convert_to_tensor(features)), vector[image : image + 1]
        )
        expected = teacher_forcing(captioner, encoded, IDS[image : image + 1]).log_probs[0, 0, word]
        np.testing.assert_allclose(result[image, word], expected, rtol=1e-4, atol=1e-6)


def test_falls_are_those_of_the_region_with_the_most_attention(captioner):
    batches = [{"images": tf.constant(IMAGES), "index": tf.constant([3, 8])}]
    first, second = measure_falls(captioner, 2, batches, {3: IDS[0], 8: IDS[1]})
    assert (first.shape, second.shape) == ((3, 2), (1, 2)), "words without STOP and padding"
    regions, vector = regions_of(captioner)
    whole = teacher_forcing(captioner, captioner.encode_regions(regions, vector), IDS)
    strongest = np.argmax(whole.attention[:, 0], axis=-1)
    without = log_probs_without(captioner, regions, vector, IDS, strongest)
    falls = (whole.log_probs[:, 0] - without).numpy()
    np.testing.assert_allclose(first[:, 0], falls[0, :3], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(second[:, 0], falls[1, :1], rtol=1e-4, atol=1e-6)
    assert (np.abs(first[:, 0] - first[:, 1]) > 1e-4).any()


def test_the_other_region_is_real_and_not_the_strongest():
    mask = np.array([[True, True, True, False], [True, True, False, False]])
    strongest = np.tile([[0], [1]], 500)
    chosen = other_regions(np.random.default_rng(0), mask, strongest)
    assert set(chosen[0].tolist()) == {1, 2}
    assert set(chosen[1].tolist()) == {0}
    assert 150 < (chosen[0] == 1).sum() < 350


def test_means_and_intervals_are_of_words_and_images():
    random = np.random.default_rng(1)
    falls = [random.normal((0.5, 0.2), 0.1, (random.integers(1, 9), 2)) for _ in range(400)]
    falls.append(np.zeros((0, 2)))
    content = summarize(falls)
    words = np.concatenate(falls)
    assert content["words"] == len(words)
    np.testing.assert_allclose(content["strongest"]["mean"], words[:, 0].mean())
    np.testing.assert_allclose(content["other"]["mean"], words[:, 1].mean())
    difference = words[:, 0] - words[:, 1]
    np.testing.assert_allclose(content["difference"]["mean"], difference.mean())
    low, high = content["difference"]["interval"]
    expected = 1.96 * difference.std() / np.sqrt(len(words))
    np.testing.assert_allclose(
        [low, high], difference.mean() + expected * np.array([-1, 1]), rtol=0.01
    )
    with pytest.raises(UserError, match="faithfulness: expected words of images with several"):
        summarize([np.zeros((0, 2))])


def test_the_command_prints_and_writes_the_measures(trained, tmp_path, capsys):
    command.main([str(trained.folder), "--faithfulness"])
    out = capsys.readouterr().out
    assert "without the region with the most attention" in out
    assert (trained.folder / "faithfulness.json").is_file()
    other = shutil.copytree(trained.folder, tmp_path / "other")
    with pytest.raises(UserError, match="expected one run, received an ensemble of 2"):
        command.main([f"{trained.folder},{other}", "--faithfulness"])
    with pytest.raises(UserError, match="expected --correctness or --faithfulness, received both"):
        command.main([str(trained.folder), "--faithfulness", "--correctness"])
