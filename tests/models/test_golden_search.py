"""Compares search with TensorFlow Addons' BeamSearchDecoder, whose results `make oracle` stores.

Both decode the same recurrent network with random weights and a state of two parts. Its biases make
padding, START and OOV impossible. The length penalty is 0, because Addons' formula differs.
"""

import types

import numpy as np
import oracle
import pytest
from keras import ops

from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP
from keras_aoa.models.search import search

every_beam = pytest.mark.parametrize("beam", oracle.BEAMS)


@pytest.fixture(scope="module")
def golden():
    """The network's weights and initial states, and Addons' captions, by name."""
    with np.load(oracle.GOLDEN / "beam_search.npz") as arrays:
        return dict(arrays)


class Network:
    """The oracle's network with the interface of a captioner that has one region."""

    def __init__(self, golden):
        self.weights = golden
        self.attention = types.SimpleNamespace(vocabulary_size=len(golden["words"]))

    def decode_step(self, ids, state, attended, memory):
        word = ops.take(self.weights["words"], ids, axis=0)
        state = ops.tanh(
            word @ self.weights["word_state"]
            + state @ self.weights["state_state"]
            + attended @ self.weights["look_state"]
        )
        attended = ops.tanh(
            state @ self.weights["state_look"] + attended @ self.weights["look_look"]
        )
        scores = state @ self.weights["state_word"] + self.weights["word_bias"]
        return state, attended, ops.log_softmax(scores), ops.ones((*ids.shape, 1))


def after_stop(ids):
    """Return whether each position follows a STOP."""
    stops = ids == STOP
    return np.cumsum(stops, axis=2) - stops > 0


def as_ours(ids):
    """Convert Addons' ids to our convention.

    Addons repeats STOP up to the length of the longest caption; we append PAD up to `max_words`.
    """
    missing = oracle.MAX_WORDS - ids.shape[2]
    ids = np.where(after_stop(ids), PAD, ids)
    return np.pad(ids, [(0, 0), (0, 0), (0, missing)], constant_values=PAD)


@every_beam
def test_ids_and_log_probabilities_equal_those_of_addons(golden, beam):
    encoded = types.SimpleNamespace(
        state=golden["start_state"][:, None],
        attended=golden["start_look"][:, None],
        memory=None,
        boxes=np.zeros((oracle.IMAGES, 1, 4)),
    )
    result = search(Network(golden), encoded, beam=beam, max_words=oracle.MAX_WORDS)
    np.testing.assert_array_equal(result.ids, as_ours(golden[f"ids_{beam}"]))
    np.testing.assert_allclose(result.log_probs, golden[f"log_probs_{beam}"], rtol=0, atol=1e-5)


def test_addons_captions_have_all_lengths_and_improve_with_a_wider_beam(golden):
    lengths, unfinished = set(), 0
    for beam in oracle.BEAMS:
        ids = golden[f"ids_{beam}"]
        assert ids.shape[:2] == (oracle.IMAGES, beam)
        assert not np.isin(ids, [PAD, START, OOV]).any()
        assert (ids[after_stop(ids)] == STOP).all()
        lengths |= set(np.sum(~after_stop(ids), axis=2).ravel().tolist())
        unfinished += np.sum(np.all(ids != STOP, axis=2))
        assert beam > 1 or ids.shape[2] < oracle.MAX_WORDS
    assert lengths == set(range(1, oracle.MAX_WORDS + 1))
    assert unfinished > 0
    greedy, wide = golden["log_probs_1"][:, 0], golden["log_probs_5"][:, 0]
    assert np.sum(wide > greedy + 0.01) >= 3
