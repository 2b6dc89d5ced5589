"""The hand-written gradient of the recurrence equals automatic differentiation."""

import backends
import numpy as np
import pytest
from cases import (
    CAPTIONS,
    EMBEDDING,
    FEATURES,
    IMAGES,
    MASK,
    UNITS,
    make_cell,
    normal,
    states_and_regions,
)
from keras import ops

STEPS = 3  # a first, a middle and a last one


def automatic(cell, word_gates, states, memory, state_dropout):
    """What `cell.run` returns, from the steps that the backend differentiates."""
    steps = cell.unrolled(None, word_gates, states, memory, state_dropout)
    normalizers = [step.scores.marginal.log_normalizer for step in steps]
    return ops.stack([step.output for step in steps], axis=2), ops.stack(normalizers, axis=2)


def gradients(cell, by_hand, mask, with_dropout, of_seen=1.0, of_normalizers=1.0):
    """Of a loss that depends on every output, in words, state, v, regions and all weights."""
    shape = IMAGES, CAPTIONS, STEPS
    state, regions = states_and_regions()
    words, attended = normal(*shape, EMBEDDING, seed=5), normal(IMAGES, CAPTIONS, FEATURES, seed=6)
    weights_of_seen = ops.convert_to_tensor(of_seen * normal(*shape, UNITS, seed=7))
    weights_of_normalizers = ops.convert_to_tensor(of_normalizers * normal(*shape, seed=8))
    dropout = None
    if with_dropout:
        kept = np.random.default_rng(9).random((*shape, UNITS)) < 0.6
        dropout = ops.convert_to_tensor(kept / 0.6)

    def loss(words, state, attended, regions):
        memory = cell.attention.precompute(regions, mask)
        if by_hand:
            outputs = cell.run(words, (state, attended), memory, dropout)
        else:
            gates = cell.project(words, memory)
            outputs = automatic(cell, gates, (state, attended), memory, dropout)
        seen, normalizers = outputs
        return ops.sum(weights_of_seen * ops.tanh(seen)) + ops.sum(
            weights_of_normalizers * ops.square(normalizers)
        )

    return backends.gradients(loss, [words, state, attended, regions], cell.weights)


@pytest.mark.parametrize("never_predicted", [(), (0, 4)])
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("with_dropout", [False, True])
def test_gradients_written_by_hand_equal_automatic_ones(with_dropout, mask, never_predicted):
    cell = make_cell("full", never_predicted=never_predicted)
    by_hand, expected = (gradients(cell, way, mask, with_dropout) for way in (True, False))
    assert len(by_hand) == 4 + len(cell.weights)
    for found, other in zip(by_hand, expected, strict=True):
        assert np.abs(other).max() > 1e-3
        np.testing.assert_allclose(found, other, 1e-9, 1e-12)


@pytest.mark.parametrize("output", ["of_seen", "of_normalizers"])
def test_each_output_alone_has_its_gradients(output):
    cell = make_cell("full")
    unused = {"of_seen": 0.0, "of_normalizers": 0.0} | {output: 1.0}
    by_hand, expected = (gradients(cell, way, MASK, True, **unused) for way in (True, False))
    for found, other in zip(by_hand, expected, strict=True):
        np.testing.assert_allclose(found, other, 1e-9, 1e-12)


def test_gradients_stay_finite_where_products_underflow():
    cell = make_cell("full", "float32")
    cell.attention.word_region.assign(200 * np.asarray(cell.attention.word_region))
    state, regions = states_and_regions("float32")
    words = normal(IMAGES, CAPTIONS, STEPS, EMBEDDING, seed=5, dtype="float32")
    scores = cell.attention.score(ops.convert_to_tensor(state), cell.attention.precompute(regions))
    (sums,) = backends.to_numpy([scores.marginal.sums])
    assert 0 < (sums == 0).mean() < 1

    def loss(words, state, regions):
        memory = cell.attention.precompute(regions, MASK)
        seen, normalizers = cell.run(words, cell.start(state, memory), memory)
        return ops.sum(ops.square(seen)) + ops.sum(normalizers)

    for gradient in backends.gradients(loss, [words, state, regions], cell.weights):
        assert np.isfinite(gradient).all()
