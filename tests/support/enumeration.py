"""Captions of an image, computed word by word with the paper's equations in NumPy."""

import itertools

import definition
import numpy as np
import tiny

from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP
from keras_aoa.layers import HardAttention, ReviewAttention, SoftAttention

NEVER = (PAD, START)
OTHER = {SoftAttention: "soft", HardAttention: "hard", ReviewAttention: "review"}


class ReferenceCaptioner:
    """Computes the captions of one image in float64; it shares no code with the package.

    Args:
        captioner: `Captioner` that provides the weights; only its backbone is run.
        image: Pixels, `(rows, columns, 3)`.
    """

    def __init__(self, captioner, image):
        cell = captioner.cell
        self.variant = getattr(cell.attention, "variant", OTHER.get(type(cell.attention)))
        if cell.attention.needs_concepts:
            self.variant = "semantic"
        self.weights = {w.name: np.asarray(w, "float64") for w in cell.weights}
        self.input_words = self.weights.get("input_words", self.weights["words"])
        features = {
            k: np.asarray(v, "float64")[0] for k, v in captioner.backbone(image[None]).items()
        }
        cells = features["map"][:: captioner.regions.stride, :: captioner.regions.stride]
        self.regions = cells.reshape(-1, cells.shape[-1])
        image = self.image_inputs(captioner, features["vector"])
        if self.variant == "semantic":
            self.embedded = definition.best_concepts(
                image["attributes"],
                self.input_words,
                cell.attention.concept_ids,
                cell.attention.attended,
            )
        self.start, self.step_gates = image["start"], image["topics"]
        if captioner.image_each_step:
            self.step_gates = self.step_gates + self.start
            self.start = np.zeros(cell.units)
        if captioner.image_first:
            self.start = self.next_state(np.zeros(cell.units), self.start)

    @staticmethod
    def image_inputs(captioner, vector):
        """Return the projected image vector or attributes, the gates of topics, and attributes."""
        kernels = {}
        for name in ("image_projection", "concept_predictor", "concept_projection"):
            if getattr(captioner, name) is not None:
                kernels[name] = np.asarray(getattr(captioner, name).kernel, "float64")
        topics = np.zeros(3 * captioner.cell.units)
        if captioner.concepts == "none":
            return {"start": vector @ kernels["image_projection"], "topics": topics}
        bias = np.asarray(captioner.concept_predictor.bias, "float64")
        scores = np.exp(vector @ kernels["concept_predictor"] + bias)
        if captioner.concepts == "topics":
            topics = scores / scores.sum() @ kernels["concept_projection"]
            return {"start": vector @ kernels["image_projection"], "topics": topics}
        probs = scores / (1 + scores)
        start = probs @ kernels["concept_projection"] if "concept_projection" in kernels else None
        if start is None:
            start = vector @ kernels["image_projection"]
        return {"start": start, "topics": topics, "attributes": probs}

    def next_state(self, state, word):
        """Return the state after an embedded word."""
        if self.variant == "full":
            attended = definition.attended(self.weights, state, self.regions, None, NEVER)
            word = np.concatenate([word, attended])
        elif self.variant == "conditional":
            attended = definition.attended_given_word(self.weights, word, state, self.regions)
            word = np.concatenate([word, attended])
        elif self.variant == "semantic":
            word = definition.semantic_input(self.weights, word, self.embedded)
        elif self.variant in OTHER.values():
            attend = getattr(definition, f"{self.variant}_attention")
            self.looked = attend(self.weights, state, self.regions)[:2]
            word = np.concatenate([word, self.looked[1]])
        return definition.gru(self.weights, state, word, self.step_gates)

    def predict(self, words):
        """Return log p(w), `(w,)`, and p(r), `(r,)`, of the step after START and `words`."""
        state = self.start
        for word in (START, *words):
            state = self.next_state(state, self.input_words[word])
        if self.variant == "semantic":
            state = definition.semantic_output(self.weights, state, self.embedded)
        if self.variant in OTHER.values():
            region_probs, attended = self.looked
            probs = definition.soft_words(self.weights, state, attended, NEVER)
        else:
            probs, region_probs = definition.marginals(
                self.weights, state, self.regions, None, NEVER
            )
        with np.errstate(divide="ignore"):
            return np.log(probs), region_probs

    def captions(self, steps, prefix=(), log_prob=0.0):
        """Return the log-probabilities of all captions that start with `prefix`, by their ids.

        A caption has `steps` words, or ends earlier with STOP; it contains no OOV.
        """
        if len(prefix) == steps or STOP in prefix:
            return {prefix: log_prob}
        result = {}
        log_probs, _ = self.predict(prefix)
        for word in set(range(len(log_probs))) - {PAD, START, OOV}:
            result |= self.captions(steps, (*prefix, word), log_prob + log_probs[word])
        return result

    def greedy(self, steps):
        """Return the most likely word of each step, up to STOP."""
        words = ()
        while len(words) < steps and STOP not in words:
            log_probs, _ = self.predict(words)
            log_probs[OOV] = -np.inf
            words = (*words, int(np.argmax(log_probs)))
        return words


def all_captions(steps):
    """Ids `(m, steps + 1)` of a tiny captioner's captions of at most `steps` words, with OOV."""
    found = []
    for words in itertools.product((STOP, *range(OOV, tiny.WORDS)), repeat=steps):
        end = words.index(STOP) + 1 if STOP in words else steps
        found.append((START, *words[:end], *[PAD] * (steps - end)))
    return np.array(sorted(set(found)), "int32")
