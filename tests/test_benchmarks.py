"""Tests the calculations of the benchmarks and the naive implementation they compare with."""

import numpy as np
import pytest
import tensorflow as tf
import tiny

from benchmarks.decoder import Size, lean_flops
from benchmarks.growth import exponent
from benchmarks.measure import in_new_process
from benchmarks.naive import write_joint
from benchmarks.products import products


@pytest.mark.parametrize(("images", "gigaflops"), [(10, 43), (50, 217)])
def test_flops_of_a_step_match_the_design(images, gigaflops):
    assert lean_flops(Size(images=images)) / 1e9 == pytest.approx(gigaflops, rel=0.02)


@pytest.mark.parametrize("regions", [49, 196])
def test_the_products_of_a_step_add_up_to_its_flops(regions):
    size = Size(regions=regions)
    flops = sum(2 * count * np.prod(shape) for _, count, shape in products(size))
    assert flops == pytest.approx(lean_flops(size), rel=0.03)


def test_the_naive_form_has_the_same_probabilities_and_gradients():
    captioner = tiny.make_captioner()
    captions = np.array([[[1, 4, 6, 7, 2], [1, 5, 2, 0, 0]], [[1, 7, 2, 0, 0], [1, 4, 4, 4, 2]]])
    inputs = {"images": tiny.make_images(2), "captions": captions}

    def probabilities_and_gradients():
        weights = [weight.value for weight in captioner.trainable_variables]
        with tf.GradientTape() as tape:
            log_probs = captioner(inputs)
        return log_probs, tape.gradient(log_probs, weights)

    expected, expected_gradients = probabilities_and_gradients()
    write_joint(captioner)
    log_probs, gradients = probabilities_and_gradients()
    np.testing.assert_allclose(log_probs, expected, rtol=1e-4, atol=1e-5)
    assert len(gradients) > 10
    for pair in zip(gradients, expected_gradients, strict=True):
        gradient, expected_gradient = (
            tf.convert_to_tensor(part) if part is not None else None for part in pair
        )
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("power", "seconds"), [(1.0, 20.0), (2.0, 200.0), (0.5, 6.3246)])
def test_growth_is_reported_as_an_exponent(power, seconds):
    before, after = {"words": 10, "seconds": 2.0}, {"words": 100, "seconds": seconds}
    assert exponent(before, after, "words") == pytest.approx(power, abs=1e-4)


def test_a_killed_process_is_reported_as_killed(tmp_path, monkeypatch):
    (tmp_path / "fatal.py").write_text("import os\ndef die(): os.kill(os.getpid(), 9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert in_new_process("fatal", "die") == {"failed": "killed by signal 9"}
