"""Write tests/golden: outputs of TensorFlow Addons' resampler and beam search for random inputs.

`make oracle` runs it in an environment that cannot import this package. The tests compare with the
committed files. The files also contain the inputs, so the tests do not depend on the random
generator.
"""

import itertools
import pathlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
MAPS = {"5x7": (2, 5, 7, 3), "8x4": (3, 8, 4, 1), "2x2": (1, 2, 2, 6), "1x6": (2, 1, 6, 2)}
BEAMS = (1, 3, 5)
IMAGES, WORDS, EMBEDDING, UNITS, ATTENDED, MAX_WORDS = 8, 14, 5, 6, 4, 8
START, STOP = 1, 2
NEVER = (0, START, 3)  # padding, start and unknown words
IMPOSSIBLE = -1e9


def main():
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # the order of sums on a GPU is not fixed
    tf.get_logger().setLevel("ERROR")
    GOLDEN.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN / "resampler.npz", **make_resampler())
    np.savez_compressed(GOLDEN / "beam_search.npz", **make_beam_search())


def make_resampler():
    """Return maps, points, values and gradients; keys contain the size of the map."""
    random = np.random.default_rng(0)
    golden = {}
    for size, shape in MAPS.items():
        activations = random.normal(size=shape).astype("float32")
        smooth, kinks = make_points(random, *shape[:3])
        upstream = random.normal(size=(*smooth.shape[:2], shape[-1])).astype("float32")
        parts = {
            "activations": activations,
            "smooth_points": smooth,
            "upstream": upstream,
            "kink_points": kinks,
            **resample(activations, smooth, upstream, kinks),
        }
        golden |= {f"{size}_{name}": values for name, values in parts.items()}
    return golden


def make_points(random, images, rows, columns):
    """Return points between cells, where gradients exist, and points on cells and borders.

    Both are `(n, p, 2)`. All kinds of x are combined with all kinds of y: inside, partly outside
    before the first cell and after the last cell, and outside on both sides.
    """

    def between(count):
        outside = random.choice([-1000, -30, -2]), random.choice([count, count + 40, 10**5])
        whole = [random.integers(max(count - 1, 1)), -1, count - 1, *outside]
        return [cell + random.uniform(0.05, 0.95) for cell in whole]

    def on_cells(count):
        return [-2, -1, 0, random.integers(count), count - 1, count, random.uniform(-1, count)]

    def every_pair(coordinates, repeats):
        points = [
            [pair for _ in range(repeats) for pair in pairs(coordinates)] for _ in range(images)
        ]
        return np.array(points, "float32")

    def pairs(coordinates):
        return itertools.product(coordinates(columns), coordinates(rows))

    return every_pair(between, 3), every_pair(on_cells, 2)


def resample(activations, smooth, upstream, kinks):
    """Return Addons' values at both kinds of points, and its gradients at the smooth points."""
    import tensorflow as tf
    import tensorflow_addons as tfa

    activations, smooth = tf.constant(activations), tf.constant(smooth)
    with tf.GradientTape() as tape:
        tape.watch([activations, smooth])
        values = tfa.image.resampler(activations, smooth)
    gradients = tape.gradient(values, [activations, smooth], output_gradients=upstream)
    return {
        "smooth_values": values.numpy(),
        "activations_gradient": gradients[0].numpy(),
        "points_gradient": gradients[1].numpy(),
        "kink_values": tfa.image.resampler(activations, kinks).numpy(),
    }


def make_beam_search():
    """Return the weights and initial states of a network, and Addons' captions for each beam size.

    Captions are ids `(n, k, t)` and log-probabilities `(n, k)`.
    """
    random = np.random.default_rng(5)  # this seed gives captions of every length

    def normal(*shape):
        return random.normal(size=shape).astype("float32")

    def recurrent(*shape):  # small, because large weights amplify rounding errors at each step
        return normal(*shape) * np.float32(0.5)

    model = {
        "words": normal(WORDS, EMBEDDING),
        "word_state": normal(EMBEDDING, UNITS),
        "state_state": recurrent(UNITS, UNITS),
        "look_state": recurrent(ATTENDED, UNITS),
        "state_look": recurrent(UNITS, ATTENDED),
        "look_look": recurrent(ATTENDED, ATTENDED),
        "state_word": normal(UNITS, WORDS),
        "word_bias": normal(WORDS),
        "start_state": normal(IMAGES, UNITS),
        "start_look": normal(IMAGES, ATTENDED),
    }
    model["word_bias"][list(NEVER)] = IMPOSSIBLE
    golden = dict(model)
    for beam in BEAMS:
        ids, log_probs = beam_search(model, beam)
        golden |= {f"ids_{beam}": ids, f"log_probs_{beam}": log_probs}
    return golden


def beam_search(model, beam):
    """Return the ids and log-probabilities of Addons' beam search.

    Raises:
        ValueError: two scores are so close that rounding could change the result.
    """
    import tensorflow as tf
    import tensorflow_addons as tfa

    class Cell(tf.keras.layers.AbstractRNNCell):
        state_size = (UNITS, ATTENDED)
        output_size = tf.TensorShape([WORDS])

        def call(self, word, states, training=None):
            state, attended = states
            state = tf.tanh(
                word @ model["word_state"]
                + state @ model["state_state"]
                + attended @ model["look_state"]
            )
            attended = tf.tanh(state @ model["state_look"] + attended @ model["look_look"])
            return state @ model["state_word"] + model["word_bias"], (state, attended)

    decoder = tfa.seq2seq.BeamSearchDecoder(
        Cell(),
        beam,
        length_penalty_weight=0.0,
        output_all_scores=True,
        maximum_iterations=MAX_WORDS,
    )
    starts = (tf.constant(model["start_state"]), tf.constant(model["start_look"]))
    outputs, end, _ = decoder(
        tf.constant(model["words"]),
        start_tokens=tf.fill([IMAGES], START),
        end_token=STOP,
        initial_state=tfa.seq2seq.tile_batch(starts, beam),
    )
    scores = outputs.beam_search_decoder_output.scores.numpy()
    ranked = -np.sort(-scores.reshape(*scores.shape[:2], -1))[..., : beam + 1]
    gaps = -np.diff(ranked)[ranked[..., 1:] > IMPOSSIBLE / 2]
    if gaps.min() < 1e-4:
        raise ValueError(f"beam {beam}: two scores differ by only {gaps.min()}; use another seed.")
    return outputs.predicted_ids.numpy().transpose(0, 2, 1), end.log_probs.numpy()


if __name__ == "__main__":
    main()
