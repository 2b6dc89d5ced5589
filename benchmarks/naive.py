"""Equation 4 without factorization: each step computes the joint tensor of words and regions."""

from types import MethodType

from keras import ops

from keras_aoa.layers.attention import JointScores
from keras_aoa.layers.joint import RegionMarginal
from keras_aoa.layers.products import dense


def write_joint(captioner):
    """Change a captioner to compute the whole joint tensor, with automatic differentiation."""
    attention, cell = captioner.attention, captioner.cell
    log_probs, precompute = [], attention.precompute

    def precompute_pairs(self, regions, region_mask=None):
        memory = precompute(regions, region_mask)
        scores = dense(memory.keys, ops.transpose(self.words))
        return memory._replace(factors=ops.swapaxes(scores, 1, 2))

    def score(self, states, memory):
        words = self.word_scores(states)
        regions = self.region_scores(states, memory)
        scores = words[..., :, None] + regions[..., None, :] + memory.factors[:, None]
        shape = ops.shape(scores)
        flat = ops.reshape(scores, (shape[0], shape[1], shape[2] * shape[3]))
        joint = ops.reshape(ops.softmax(flat, axis=-1), shape)
        log_probs.append(ops.log(ops.maximum(ops.sum(joint, axis=3), 1e-30)))
        marginal = RegionMarginal(None, ops.sum(joint, axis=2), None, None)
        return JointScores(words, regions, marginal)

    def run(self, words, states, memory, state_dropout=None):
        del log_probs[:]
        steps = self.unrolled(words, self.project(words, memory), states, memory, state_dropout)
        return ops.stack([step.output for step in steps], axis=2), None

    def target_log_probs(self, states, targets, memory, log_normalizer=None, smoothing=0.0):
        captions, time = log_probs[0].shape[1], len(log_probs)
        stacked = ops.stack(log_probs, axis=2)
        stacked = ops.reshape(stacked, (-1, captions * time, self.vocabulary_size))
        return ops.take_along_axis(stacked, targets[..., None], axis=2)[..., 0]

    attention.precompute = MethodType(precompute_pairs, attention)
    attention.score = MethodType(score, attention)
    attention.target_log_probs = MethodType(target_log_probs, attention)
    cell.run = MethodType(run, cell)
