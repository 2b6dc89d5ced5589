"""Concepts that a captioner predicts, and how its cell reads them, against their definition."""

import numpy as np
import pytest
import tensorflow as tf
import tiny
from enumeration import ReferenceCaptioner

from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.models.image_inputs import concept_losses, concept_probs
from keras_aoa.models.teacher_forcing import caption_loss

IMAGES = tiny.make_images(2)
CAPTIONS = np.array([[[1, 4, 6, 2], [1, 3, 2, 0]], [[1, 5, 5, 4], [1, 7, 2, 0]]], "int32")
INPUTS = {"images": IMAGES, "captions": CAPTIONS}
COUNT = 5
KINDS = ("attributes", "topics")
LOGITS = np.random.default_rng(0).normal(size=(3, COUNT)) * [[1], [3], [300]]


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("baseline", {"concepts": "attributes"}),
        ("full", {"concepts": "attributes", "image_first": True}),
        ("baseline", {"concepts": "attributes", "image_each_step": True}),
        ("soft", {"concepts": "topics"}),
        ("full", {"concepts": "topics"}),
        ("baseline", {"concepts": "topics", "image_first": True}),
        ("baseline", {"concepts": "topics", "image_each_step": True}),
        ("semantic", {}),
        ("semantic", {"image_first": True}),
        ("semantic", {"image_each_step": True}),
    ],
)
def test_log_probabilities_follow_the_definition(variant, settings):
    if variant != "semantic":
        settings = {"concept_count": COUNT, **settings}
    captioner = tiny.make_captioner(variant, **settings)
    results = np.asarray(captioner(INPUTS))
    for image, captions, rows in zip(IMAGES, CAPTIONS, results, strict=True):
        reference = ReferenceCaptioner(captioner, image)
        for caption, log_probs in zip(captions, rows, strict=True):
            words = caption[1:][caption[1:] != PAD]
            expected = [reference.predict(words[:i])[0][word] for i, word in enumerate(words)]
            np.testing.assert_allclose(log_probs[: len(words)], expected, rtol=1e-4, atol=1e-4)


def test_probabilities_of_concepts_are_the_definitions():
    attributes, topics = (np.asarray(concept_probs(kind, LOGITS)) for kind in KINDS)
    for n, k in np.ndindex(2, COUNT):
        assert attributes[n, k] == pytest.approx(1 / (1 + np.exp(-LOGITS[n, k])))
        total = sum(np.exp(other - LOGITS[n, k]) for other in LOGITS[n])
        assert topics[n, k] == pytest.approx(1 / total)


def definition_of_losses(concepts, logits, targets):
    losses = []
    for own, wanted in zip(logits, targets, strict=True):
        if concepts == "attributes":
            probs = 1 / (1 + np.exp(-own))
            terms = wanted * np.log(probs) + (1 - wanted) * np.log(1 - probs)
        else:
            terms = wanted * (own - np.log(sum(np.exp(own))))
        losses.append(-sum(terms))
    return np.array(losses)


@pytest.mark.parametrize("concepts", KINDS)
def test_losses_of_concepts_and_their_gradients_are_the_definitions(concepts):
    random = np.random.default_rng(1)
    if concepts == "attributes":
        targets = random.integers(0, 2, (3, COUNT)).astype("float64")
    else:
        targets = random.dirichlet(np.ones(COUNT), 3)
    values = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        losses = concept_losses(concepts, values, targets)
    gradient = np.asarray(tf.convert_to_tensor(tape.gradient(losses, values)))
    assert np.isfinite(losses).all() and np.isfinite(gradient).all()
    expected = definition_of_losses(concepts, LOGITS[:2], targets[:2])
    np.testing.assert_allclose(losses[:2], expected, rtol=1e-9)
    step = 1e-6
    for n, k in np.ndindex(2, COUNT):
        up, down = LOGITS[:2].copy(), LOGITS[:2].copy()
        up[n, k] += step
        down[n, k] -= step
        slope = sum(definition_of_losses(concepts, up, targets[:2]))
        slope -= sum(definition_of_losses(concepts, down, targets[:2]))
        assert gradient[n, k] == pytest.approx(slope / (2 * step), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("concepts", KINDS)
def test_the_loss_of_the_words_does_not_train_the_predictor(concepts):
    captioner = tiny.make_captioner("baseline", concepts=concepts, concept_count=COUNT)
    with tf.GradientTape(persistent=True) as tape:
        encoded = captioner.encode(INPUTS)
        words = caption_loss(captioner.decode(encoded, INPUTS).log_probs, CAPTIONS)
        own = concept_losses(concepts, encoded.concepts, np.ones((2, COUNT)) / COUNT)
    for weight in captioner.concept_predictor.weights:
        assert tape.gradient(words, weight.value) is None
        assert np.abs(tape.gradient(own, weight.value)).max() > 1e-3
    projection = captioner.concept_projection.kernel.value
    assert np.abs(tape.gradient(words, projection)).max() > 1e-4
    assert tape.gradient(own, projection) is None


@pytest.mark.parametrize("concepts", ["none", *KINDS])
def test_attributes_replace_the_image_vector_and_topics_join_it(concepts):
    captioner = tiny.make_captioner("baseline", concepts=concepts, concept_count=COUNT)
    assert (captioner.image_projection is None) == (concepts == "attributes")
    assert (captioner.concept_projection is None) == (concepts == "none")
    encoded = captioner.encode(IMAGES)
    assert (encoded.concepts is None) == (concepts == "none")
    assert (encoded.memory.step_gates is None) == (concepts != "topics")


def test_semantic_attention_needs_attributes():
    with pytest.raises(ValueError, match="SemanticAttention needs concepts='attributes'"):
        tiny.make_captioner("semantic", concepts="topics")


def test_unknown_concepts_are_refused():
    with pytest.raises(ValueError, match=r"Captioner: `concepts` must be one of .*; received 'x'"):
        tiny.make_captioner(concepts="x")
