"""Answers of an exported model, and that they are what the live model says."""

import numpy as np
import tensorflow as tf


def ask(model, files, signature="serving_default", **more):
    """Answers as arrays; strings as text."""
    given = {name: tf.constant(value) for name, value in more.items()}
    if files is not None:
        given["image_bytes"] = tf.constant(files, tf.string)
    found = model.signatures[signature](**given)
    return {name: plain(value.numpy()) for name, value in found.items()}


def plain(values):
    return values.astype(str) if values.dtype == object and values.size else values


def assert_says(answers, row, captions):
    """One row of the answers is the live model's captions, areas included."""
    assert answers["valid"][row]
    assert answers["captions"][row].tolist() == [caption.text for caption in captions]
    expected = [caption.log_prob for caption in captions]
    np.testing.assert_allclose(answers["log_probs"][row], expected, atol=1e-4)
    for k, caption in enumerate(captions):
        count = len(caption.words)
        words = answers["words"][row, k].tolist()
        assert words == [*caption.words, *[""] * (len(words) - count)]
        attention, regions = answers["attention"][row, k], len(caption.boxes)
        np.testing.assert_allclose(attention[:count, :regions], caption.attention, atol=1e-4)
        assert not attention[count:].any()
        assert not attention[:, regions:].any()
        np.testing.assert_allclose(answers["boxes"][row][:regions], caption.boxes, atol=1e-5)
