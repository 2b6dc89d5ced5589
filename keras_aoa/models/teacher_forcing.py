"""Teacher forcing: probabilities and attention for each word of given captions.

Letters in shapes: n image, c caption, t time step, r region.
"""

from typing import Any, NamedTuple

from keras import ops

from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.models.captioner import repeat_captions

Tensor = Any


class ScoredCaptions(NamedTuple):
    """Log-probabilities and attention for each word of given captions.

    `log_probs (n, c, t)` are the natural logarithms of the probabilities of the next words, with 0
    at padding. `attention (n, c, t, r)` is p(r | h), where h is the state that predicts the word.
    """

    log_probs: Tensor
    attention: Tensor


def teacher_forcing(captioner, encoded, captions):
    """Compute the log-probability and attention of each word.

    Teacher forcing and search use the same decoding step.

    Args:
        captioner: `Captioner`.
        encoded: `EncodedImages`, as returned by `captioner.encode`.
        captions: Word ids `(n, c, t + 1)` that begin with START and are padded with PAD.

    Returns:
        `ScoredCaptions`.
    """
    images, count, time = ops.shape(captions)
    regions = ops.shape(encoded.boxes)[1]
    fed, targets = captions[:, :, :-1], captions[:, :, 1:]
    time = time - 1

    def advance(step, log_probs, attention, state, attended):
        state, attended, words, region_probs = captioner.decode_step(
            ops.take(fed, step, axis=2), state, attended, encoded.memory
        )
        target = ops.take(targets, step, axis=2)[:, :, None]
        now = ops.arange(time) == step
        log_probs = ops.where(now, ops.take_along_axis(words, target, axis=2), log_probs)
        attention = ops.where(now[:, None], region_probs[:, :, None], attention)
        return step + 1, log_probs, attention, state, attended

    start = (
        ops.convert_to_tensor(0, dtype="int32"),
        ops.zeros((images, count, time)),
        ops.zeros((images, count, time, regions)),
        *(repeat_captions(part, count) for part in (encoded.state, encoded.attended)),
    )
    _, log_probs, attention, *_ = ops.while_loop(lambda step, *_: step < time, advance, start)
    return ScoredCaptions(ops.where(targets == PAD, 0.0, log_probs), attention)
