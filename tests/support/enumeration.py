"""What a captioner says of an image by the paper's equations in NumPy, word after word."""

import definition
import numpy as np

from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP

NEVER = (PAD, START)


class Speaker:
    """A captioner's weights and one image, in float64; shares no code with the package.

    Args:
        captioner: `Captioner`, whose backbone alone is run.
        image: Pixels, `(rows, columns, 3)`.
    """

    def __init__(self, captioner, image):
        cell = captioner.cell
        self.variant = getattr(cell.attention, "variant", "soft")
        self.weights = {w.name: np.asarray(w, "float64") for w in cell.weights}
        self.input_words = self.weights.get("input_words", self.weights["words"])
        features = {
            k: np.asarray(v, "float64")[0] for k, v in captioner.backbone(image[None]).items()
        }
        cells = features["map"][:: captioner.regions.stride, :: captioner.regions.stride]
        self.regions = cells.reshape(-1, cells.shape[-1])
        self.start = features["vector"] @ np.asarray(captioner.image_projection.kernel, "float64")
        if captioner.image_first:
            self.start = self.fed(np.zeros(cell.units), self.start)

    def fed(self, state, word):
        """The state after an embedded word."""
        if self.variant == "full":
            looks = definition.attended(self.weights, state, self.regions, None, NEVER)
            word = np.concatenate([word, looks])
        elif self.variant == "conditional":
            looks = definition.attended_given_word(self.weights, word, state, self.regions)
            word = np.concatenate([word, looks])
        elif self.variant == "soft":
            self.soft = definition.soft_attention(self.weights, state, self.regions)
            word = np.concatenate([word, self.soft[1]])
        return definition.gru(self.weights, state, word)

    def say(self, words):
        """log p(w) and p(r) of the step after `words`, which follow START: `(w,)` and `(r,)`."""
        state = self.start
        for word in (START, *words):
            state = self.fed(state, self.input_words[word])
        if self.variant == "soft":
            places, looks = self.soft
            probs = definition.soft_words(self.weights, state, looks, NEVER)
        else:
            probs, places = definition.marginals(self.weights, state, self.regions, None, NEVER)
        with np.errstate(divide="ignore"):
            return np.log(probs), places

    def captions(self, steps, begun=(), log_prob=0.0):
        """log p of every caption of `steps` words, or fewer and STOP, without OOV: a dictionary."""
        if len(begun) == steps or STOP in begun:
            return {begun: log_prob}
        found = {}
        log_probs, _ = self.say(begun)
        for word in set(range(len(log_probs))) - {PAD, START, OOV}:
            found |= self.captions(steps, (*begun, word), log_prob + log_probs[word])
        return found

    def greedy(self, steps):
        """The likeliest word at each step, up to STOP."""
        words = ()
        while len(words) < steps and STOP not in words:
            log_probs, _ = self.say(words)
            log_probs[OOV] = -np.inf
            words = (*words, int(np.argmax(log_probs)))
        return words
