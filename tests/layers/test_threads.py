"""The regions of a call belong to that call: in threads, and in calls inside others."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from keras_aoa.layers import (
    AreaAttention,
    AttentionGRUCell,
    AttentionRNN,
    ReviewAttention,
    SoftAttention,
)

EMBEDDING, UNITS, FEATURES, COUNT = 4, 5, 6, 4
RANDOM = np.random.default_rng(0)
WORDS = RANDOM.normal(size=(COUNT, 2, 2, EMBEDDING)).astype("float32")
REGIONS = RANDOM.normal(size=(COUNT, 2, 7, FEATURES)).astype("float32")


@pytest.fixture(scope="module", params=[AreaAttention, SoftAttention, ReviewAttention])
def cell(request):
    options = {"steps": 2} if request.param is ReviewAttention else {}
    cell = AttentionGRUCell(UNITS, FEATURES, request.param(9, EMBEDDING, **options))
    AttentionRNN(cell)(WORDS[0], REGIONS[0])  # creates the weights before the threads start
    return cell


def outputs(values):
    return keras.ops.convert_to_numpy(values)


def run_attending(cell, words, regions):
    with cell.attending(regions):
        return keras.layers.RNN(cell)(words)


def run_steps(cell, words, regions):
    """Run the cell step by step, so that other threads run between two steps."""
    with cell.attending(regions):
        states = cell.get_initial_state(len(words))
        for step in range(words.shape[1]):
            output, states = cell(words[:, step], states)
        return output


@pytest.mark.parametrize("kind", ["layer", "attending", "steps"])
def test_threads_that_share_a_cell_attend_to_their_own_regions(cell, kind):
    rnn = AttentionRNN(cell)
    run = {
        "layer": lambda cell, words, regions: rnn(words, regions),
        "attending": run_attending,
        "steps": run_steps,
    }[kind]
    expected = [outputs(run(cell, WORDS[i], REGIONS[i])) for i in range(COUNT)]
    assert len({each.tobytes() for each in expected}) == COUNT

    def call(number):
        return outputs(run(cell, WORDS[number % COUNT], REGIONS[number % COUNT]))

    with ThreadPoolExecutor(COUNT) as pool:
        results = list(pool.map(call, range(3 * COUNT)))
    for number, result in enumerate(results):
        np.testing.assert_allclose(result, expected[number % COUNT], rtol=1e-5, atol=1e-6)


def test_a_layer_inside_attending_keeps_the_outer_regions(cell):
    rnn = AttentionRNN(cell)
    expected = outputs(run_attending(cell, WORDS[0], REGIONS[0]))
    with cell.attending(REGIONS[0]):
        inner = outputs(rnn(WORDS[1], REGIONS[1]))
        np.testing.assert_allclose(outputs(keras.layers.RNN(cell)(WORDS[0])), expected, rtol=1e-5)
        with cell.attending(REGIONS[2]):
            pass
        np.testing.assert_allclose(outputs(keras.layers.RNN(cell)(WORDS[0])), expected, rtol=1e-5)
    np.testing.assert_allclose(inner, outputs(rnn(WORDS[1], REGIONS[1])), rtol=1e-5)
    with pytest.raises(ValueError, match="regions"):
        keras.layers.RNN(cell)(WORDS[0])
