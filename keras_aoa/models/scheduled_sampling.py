"""Scheduled sampling: in training, words that the captioner samples replace some input words.

Source: Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural
Networks", NIPS 2015, arXiv:1506.03099. Letters in shapes: n image, c caption, t time step.
"""

import keras
from keras import ops

from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.models.sampling import sample_words
from keras_aoa.models.teacher_forcing import repeat_captions


def sampled_inputs(captioner, encoded, captions, share):
    """Replace input words by words sampled from p(w), each with probability `share`.

    As in the paper, p(w) depends on all earlier input words, including sampled words. Unlike in
    the paper, sampling uses no dropout. START and padding are never replaced.

    Args:
        captioner: `Captioner`.
        encoded: `EncodedImages`, as returned by `captioner.encode`.
        captions: Ids, `(n, c, t + 1)`.
        share: Sampling probability, a scalar in 0..1.

    Returns:
        Ids of the new input words, `(n, c, t)`.
    """
    fed = captions[:, :, :-1]
    images, count, time = ops.shape(fed)
    shape = (images, count, time)
    replaced = keras.random.uniform(shape, seed=captioner.seeds) < share
    replaced = ops.logical_and(replaced, fed != PAD)
    replaced = ops.logical_and(replaced, ops.arange(time) > 0)
    uniform = keras.random.uniform(shape, seed=captioner.seeds)

    def advance(step, chosen, state, attended):
        state, attended, log_probs, _ = captioner.decode_step(
            ops.take(chosen, step, axis=2), state, attended, encoded.memory
        )
        word = sample_words(log_probs, ops.take(uniform, step + 1, axis=2))
        here = ops.logical_and(replaced, ops.arange(time) == step + 1)
        return step + 1, ops.where(here, word[:, :, None], chosen), state, attended

    start = (
        ops.convert_to_tensor(0, dtype="int32"),
        fed,
        *(repeat_captions(part, count) for part in (encoded.state, encoded.attended)),
    )
    _, chosen, _, _ = ops.while_loop(lambda step, *_: step < time - 1, advance, start)
    return chosen
