"""An ensemble of captioners, which averages their word distributions at each step.

Letters in shapes: n image, c caption, w vocabulary word, r region.
"""

import math

from keras import ops

from keras_aoa.models.captioner import EncodedImages


class Ensemble:
    """Averages the predictions of captioners with the same vocabulary and kind of regions.

    An `Ensemble` can replace a `Captioner` in search. An `Ensemble` concatenates the regions of all
    members. Each member's attention is divided by the number of members, so that the attention of a
    word adds up to 1.

    Args:
        members: Sequence of `Captioner` objects.

    Source: Pedersoli et al., arXiv:1612.01033, section 4.2, "Comparison to the state of the art".
    """

    def __init__(self, members):
        self.members = tuple(members)
        self._states = [member.cell.units for member in self.members]
        self._attended = [member.cell.attended_dim for member in self.members]

    @property
    def attention(self):
        """The first member's attention layer, from which search reads the vocabulary size."""
        return self.members[0].attention

    @property
    def backbone(self):
        """The first member's backbone, from which other modules read the output shapes."""
        return self.members[0].backbone

    @property
    def region_backbone(self):
        """The region backbone of the first member, or None without object proposals."""
        return self.members[0].region_backbone

    @property
    def weights(self):
        """The weights of all members."""
        return [weight for member in self.members for weight in member.weights]

    def encode(self, inputs, training=False, stride=None):
        """Encode images with every member.

        Returns:
            `EncodedImages`. `memory` is a tuple with the memory of each member. Every other field
            concatenates the fields of the members.
        """
        encodings = [member.encode(inputs, training, stride) for member in self.members]
        return EncodedImages(
            memory=tuple(encoded.memory for encoded in encodings),
            state=ops.concatenate([encoded.state for encoded in encodings], axis=-1),
            attended=ops.concatenate([encoded.attended for encoded in encodings], axis=-1),
            boxes=ops.concatenate([encoded.boxes for encoded in encodings], axis=1),
            mask=ops.concatenate([encoded.mask for encoded in encodings], axis=1),
        )

    def decode_step(self, ids, state, attended, memory):
        """Feed one word of each caption to all members and predict the next word.

        The arguments and results are as in `Captioner.decode_step`. States, attended features and
        region probabilities are concatenated over the members.
        """
        states, attended_features, log_probs, region_probs = [], [], [], []
        for member, own_state, own_attended, own_memory in zip(
            self.members,
            parts(state, self._states),
            parts(attended, self._attended),
            memory,
            strict=True,
        ):
            outputs = member.decode_step(ids, own_state, own_attended, own_memory)
            collected = states, attended_features, log_probs, region_probs
            for values, value in zip(collected, outputs, strict=True):
                values.append(value)
        count = len(self.members)
        return (
            ops.concatenate(states, axis=-1),
            ops.concatenate(attended_features, axis=-1),
            ops.logsumexp(ops.stack(log_probs), axis=0) - math.log(count),
            ops.concatenate(region_probs, axis=-1) / count,
        )


def parts(values, widths):
    """Split values `(n, c, …)` along the last axis into parts of the given widths."""
    ends = [sum(widths[: index + 1]) for index in range(len(widths))]
    return [values[..., end - width : end] for end, width in zip(ends, widths, strict=True)]
