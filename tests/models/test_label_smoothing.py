"""Label smoothing against its definition in NumPy, in float64, for all variants."""

import numpy as np
import pytest
import tensorflow as tf
import tiny
from enumeration import NEVER, ReferenceCaptioner

from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.models.teacher_forcing import caption_loss

SHARE = 0.3
ALLOWED = [word for word in range(tiny.WORDS) if word not in NEVER]  # with OOV and STOP
INPUTS = {
    "images": tiny.make_images(1).astype("float64"),
    "captions": np.array([[[1, 4, 3, 2], [1, 7, 0, 0]]], "int32"),
}


def smoothed_loss(reference):
    """(1 - e) times -log p of the word, plus e times the mean of -log p of all allowed words."""
    losses = []
    for caption in INPUTS["captions"][0]:
        words = caption[1:][caption[1:] != PAD]
        for step, word in enumerate(words):
            log_probs = reference.predict(words[:step])[0]
            mean = np.mean([log_probs[allowed] for allowed in ALLOWED])
            losses.append(-(1 - SHARE) * log_probs[word] - SHARE * mean)
    return np.mean(losses)


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_loss_and_gradient_follow_the_definition(variant, in_float64, monkeypatch):
    monkeypatch.setattr("keras_aoa.models.captioner.with_noise", lambda memory, *_: memory)
    captioner = tiny.make_captioner(variant, label_smoothing=SHARE)
    variables = captioner.cell.trainable_variables
    with tf.GradientTape() as tape:
        loss = caption_loss(captioner(INPUTS, training=True), INPUTS["captions"])
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    reference = ReferenceCaptioner(captioner, INPUTS["images"][0])
    assert float(loss) == pytest.approx(smoothed_loss(reference), rel=1e-10)
    step, random = 1e-6, np.random.default_rng(1)
    for variable, gradient in zip(variables, gradients, strict=True):
        weight = reference.weights[variable.name]
        direction, start = random.normal(size=weight.shape), weight.copy()
        losses = []
        for sign in (1, -1):
            weight[...] = start + sign * step * direction
            losses.append(smoothed_loss(reference))
        weight[...] = start
        found = np.sum(direction * tf.convert_to_tensor(gradient).numpy())
        expected = (losses[0] - losses[1]) / (2 * step)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-8), variable.name
    # Search, validation and stage 3 use the probabilities themselves.
    plain = tiny.make_captioner(variant)
    np.testing.assert_array_equal(captioner(INPUTS), plain(INPUTS))
