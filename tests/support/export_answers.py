"""Helpers that run an exported model and compare its answers with the live model."""

import numpy as np
import tensorflow as tf

# Of the export `out` in tests/serving/conftest.py.
LIMIT = 80_000  # pixels; above the images of `good_files` and of the warm-up request
SEARCH = {"beam": 3, "max_words": 9}  # enough for captions that end


def ask(model, files, signature="serving_default", **more):
    """Run a signature and return its outputs as arrays, with strings decoded."""
    inputs = {name: tf.constant(value) for name, value in more.items()}
    if files is not None:
        inputs["image_bytes"] = tf.constant(files, tf.string)
    outputs = model.signatures[signature](**inputs)
    return {name: plain(value.numpy()) for name, value in outputs.items()}


def plain(values):
    return values.astype(str) if values.dtype == object and values.size else values


def assert_row_equals(answers, row, captions):
    """Assert that one row of the answers equals the live model's captions and attention."""
    assert answers["valid"][row]
    assert answers["captions"][row].tolist() == [caption.text for caption in captions]
    expected = [caption.log_prob for caption in captions]
    np.testing.assert_allclose(answers["log_probs"][row], expected, atol=1e-4)
    for k, caption in enumerate(captions):
        count = len(caption.words)
        words = answers["words"][row, k].tolist()
        assert words == [*caption.words, *[""] * (len(words) - count)]
        word_probs = np.exp(answers["word_log_probs"][row, k])
        np.testing.assert_allclose(word_probs[:count], caption.word_probs, atol=1e-4)
        assert (word_probs[count:] == 1).all()
        np.testing.assert_allclose(answers["confidence"][row, k], caption.confidence, atol=1e-4)
        attention, regions = answers["attention"][row, k], len(caption.boxes)
        np.testing.assert_allclose(attention[:count, :regions], caption.attention, atol=1e-4)
        assert not attention[count:].any()
        assert not attention[:, regions:].any()
        np.testing.assert_allclose(answers["boxes"][row][:regions], caption.boxes, atol=1e-5)
