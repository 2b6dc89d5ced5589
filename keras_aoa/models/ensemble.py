"""Several captioners as one: the mean of their word distributions at each step.

Axis letters: n image, c caption, w vocabulary word, r region.
"""

import math

from keras import ops

from keras_aoa.models.captioner import EncodedImages


class Ensemble:
    """Captioners of one vocabulary and one kind of regions; searches as a `Captioner` does.

    Its regions are those of all members one after the other, each with its member's weights over
    the number of members: what a word looks at is the mean of what they look at.

    Args:
        members: `Captioner`s.

    Source: section 4.2, "Comparison to the state of the art".
    """

    def __init__(self, members):
        self.members = tuple(members)
        self._states = [member.cell.units for member in self.members]
        self._attended = [member.cell.region_dim for member in self.members]

    @property
    def attention(self):
        """Of the first member: all have the same words."""
        return self.members[0].attention

    @property
    def backbone(self):
        """Of the first member, for the shapes of its outputs."""
        return self.members[0].backbone

    @property
    def region_backbone(self):
        """Of the first member; None where the regions are not object proposals."""
        return self.members[0].region_backbone

    @property
    def weights(self):
        """Weights of all members."""
        return [weight for member in self.members for weight in member.weights]

    def encode(self, inputs, training=False, stride=None):
        """What the members see of images: `EncodedImages`, its memory a tuple of theirs."""
        seen = [member.encode(inputs, training, stride) for member in self.members]
        return EncodedImages(
            memory=tuple(encoded.memory for encoded in seen),
            state=ops.concatenate([encoded.state for encoded in seen], axis=-1),
            attended=ops.concatenate([encoded.attended for encoded in seen], axis=-1),
            boxes=ops.concatenate([encoded.boxes for encoded in seen], axis=1),
            mask=ops.concatenate([encoded.mask for encoded in seen], axis=1),
        )

    def decode_step(self, ids, state, attended, memory):
        """As `Captioner.decode_step`; states of the members side by side."""
        states, looks, log_probs, region_probs = [], [], [], []
        for member, own_state, own_attended, own_memory in zip(
            self.members,
            parts(state, self._states),
            parts(attended, self._attended),
            memory,
            strict=True,
        ):
            found = member.decode_step(ids, own_state, own_attended, own_memory)
            for kept, value in zip((states, looks, log_probs, region_probs), found, strict=True):
                kept.append(value)
        count = len(self.members)
        return (
            ops.concatenate(states, axis=-1),
            ops.concatenate(looks, axis=-1),
            ops.logsumexp(ops.stack(log_probs), axis=0) - math.log(count),
            ops.concatenate(region_probs, axis=-1) / count,
        )


def parts(values, widths):
    """Values `(n, c, …)` cut along the last axis into parts of the widths."""
    ends = [sum(widths[: place + 1]) for place in range(len(widths))]
    return [values[..., end - width : end] for end, width in zip(ends, widths, strict=True)]
