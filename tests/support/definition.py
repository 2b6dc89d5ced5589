"""The paper's equations as NumPy loops in float64, for one image and one caption.

This file shares no code with the layers. `weights` maps the names of a layer's weights to arrays.
A term of equation 5 whose weights are absent is 0, so the code covers every row of Table 1.
"""

import numpy as np

SIGMOID = np.vectorize(lambda x: 1 / (1 + np.exp(-x)))


def scores(weights, state, regions):
    """Return s(w, r, h) of equation 5, `(w, r)`."""
    result = np.zeros((len(weights["words"]), len(regions)))
    for w, word in enumerate(weights["words"]):
        result[w] += word @ weights["word_state"] @ state + word @ weights["word_bias"]
        for r, region in enumerate(regions):
            if "word_region" in weights:
                result[w, r] += word @ weights["word_region"] @ region
    for r, region in enumerate(regions):
        if "word_region" in weights:
            result[:, r] += region @ weights["region_bias"]
        if "region_state" in weights:
            result[:, r] += region @ weights["region_state"] @ state
    return result


def joint(pair_scores, region_mask=None, never_predicted=()):
    """Return p(w, r | h) of equation 4, `(w, r)`, and the logarithm of its normalizer."""
    highest = pair_scores.max()
    result = np.zeros_like(pair_scores)
    for w, r in np.ndindex(*pair_scores.shape):
        if w not in never_predicted and (region_mask is None or region_mask[r]):
            result[w, r] = np.exp(pair_scores[w, r] - highest)
    return result / result.sum(), highest + np.log(result.sum())


def marginals(weights, state, regions, region_mask=None, never_predicted=()):
    """Return p(w | h), `(w,)`, and p(r | h), `(r,)`."""
    pairs, _ = joint(scores(weights, state, regions), region_mask, never_predicted)
    return pairs.sum(axis=1), pairs.sum(axis=0)


def every_marginal(weights, states, regions, region_mask=None, never_predicted=()):
    """Return `marginals` of each state `(n, c, u)`: `(n, c, w)` and `(n, c, r)`."""
    images, captions = states.shape[:2]
    words = np.zeros((images, captions, len(weights["words"])))
    region_probs = np.zeros((images, captions, regions.shape[1]))
    for n, c in np.ndindex(images, captions):
        mask = None if region_mask is None else region_mask[n]
        words[n, c], region_probs[n, c] = marginals(
            weights, states[n, c], regions[n], mask, never_predicted
        )
    return words, region_probs


def attended(weights, state, regions, region_mask=None, never_predicted=()):
    """Return v of equation 6, `(f,)`."""
    _, probs = marginals(weights, state, regions, region_mask, never_predicted)
    return sum(prob * region for prob, region in zip(probs, regions, strict=True))


def attended_given_word(weights, word, state, regions, region_mask=None):
    """Return the conditional feedback: v computed with p(r | w, h), `(f,)`."""
    total, result = 0.0, np.zeros(regions.shape[1])
    for r, region in enumerate(regions):
        if region_mask is None or region_mask[r]:
            score = word @ weights["word_region"] @ region + region @ weights["region_bias"]
            factor = np.exp(score + region @ weights["region_state"] @ state)
            total, result = total + factor, result + factor * region
    return result / total


def soft_attention(weights, state, regions, region_mask=None):
    """Return attention weights `(r,)` and the attended vector `(f,)`, which a gate may scale.

    Source: Xu et al. 2015, equations 4, 5 and 13; section 4.2.1 for the gate.
    """
    result = np.zeros(len(regions))
    for r, region in enumerate(regions):
        if region_mask is None or region_mask[r]:
            hidden = region @ weights["hidden_region"] + state @ weights["hidden_state"]
            hidden = np.tanh(hidden + weights["hidden_bias"])
            result[r] = np.exp(hidden @ weights["score_hidden"][:, 0])
    result /= result.sum()
    look = sum(prob * region for prob, region in zip(result, regions, strict=True))
    return result, look * soft_gate(weights, state)


def hard_attention(weights, state, regions, region_mask=None, noise=0.0):
    """Return attention weights `(r,)`, the vector `(f,)` of one region, and its number.

    The region has the highest sum of log p(r) and noise `(r,)`. Source: Xu et al., section 4.1.
    """
    probs, _ = soft_attention(weights, state, regions, region_mask)
    with np.errstate(divide="ignore"):
        chosen = int(np.argmax(np.log(probs) + noise))
    return probs, regions[chosen] * soft_gate(weights, state), chosen


def review(weights, regions, region_mask=None, steps=8):
    """Return the thoughts `(i, e)` and the attention `(i, r)` of the review steps.

    Source: Yang et al. 2016, section 3.2.
    """
    names = {
        "hidden_region": "review_region",
        "hidden_state": "review_state",
        "hidden_bias": "review_bias",
        "score_hidden": "review_score",
    }
    own = {name: weights[source] for name, source in names.items()}
    cell = {
        "word_kernel": weights["thought_kernel"],
        "recurrent_kernel": weights["thought_recurrent_kernel"],
        "bias": weights["thought_bias"],
    }
    thought = np.zeros(len(own["hidden_bias"]))
    thoughts, places = [], []
    for _ in range(steps):
        probs, look = soft_attention(own, thought, regions, region_mask)
        thought = gru(cell, thought, look)
        thoughts.append(thought)
        places.append(probs)
    return np.stack(thoughts), np.stack(places)


def review_attention(weights, state, regions, region_mask=None, steps=8):
    """Return the composed attention weights `(r,)` and the attended thought `(f,)`."""
    thoughts, places = review(weights, regions, region_mask, steps)
    alpha, look = soft_attention(weights, state, thoughts @ weights["thought_region"])
    return sum(prob * place for prob, place in zip(alpha, places, strict=True)), look


def soft_gate(weights, state):
    """Return the gate beta, or 1 if the weights contain none."""
    if "gate_state" not in weights:
        return 1.0
    return SIGMOID(state @ weights["gate_state"][:, 0] + weights["gate_bias"][0])


def soft_words(weights, state, attended_vector, never_predicted=()):
    """Return p(w), `(w,)`, from the new state and the attended vector that the GRU received."""
    result = np.zeros(len(weights["words"]))
    for w, word in enumerate(weights["words"]):
        if w not in never_predicted:
            score = word @ weights["word_state"] @ state
            score += word @ weights["word_region"] @ attended_vector
            result[w] = np.exp(score + word @ weights["word_bias"])
    return result / result.sum()


def best_concepts(concepts, embeddings, ids, attended):
    """Return the embeddings of the most probable concepts, most probable first."""
    order = sorted(range(len(ids)), key=lambda index: -concepts[index])
    return [embeddings[ids[index]] for index in order[:attended]]


def semantic_input(weights, word, embedded):
    """Return what a GRU receives for a word and the embeddings of concepts, `(e,)`.

    Source: You et al. 2016, section 3.2.
    """
    factors = [np.exp(word @ weights["word_concept"] @ concept) for concept in embedded]
    result = word.copy()
    for factor, concept in zip(factors, embedded, strict=True):
        result += weights["input_scale"] * factor / sum(factors) * concept
    return result


def semantic_output(weights, state, embedded):
    """Return the state with the attended concepts, `(u,)`.

    Source: You et al. 2016, section 3.3.
    """
    hidden = [weights["state_concept"] @ np.tanh(concept) for concept in embedded]
    factors = [np.exp(state @ each) for each in hidden]
    result = state.copy()
    for factor, each in zip(factors, hidden, strict=True):
        result += weights["output_scale"] * factor / sum(factors) * each
    return result


def gru(weights, state, inputs, step_gates=None):
    """Return the next state of equation 7 for inputs [word ; v].

    The order of the gates is Keras's: update, reset, candidate. `step_gates (3 u,)` are added to
    the part of the gates that depends on the inputs.
    """
    kernel = weights["word_kernel"]
    if "region_kernel" in weights:
        kernel = np.concatenate([kernel, weights["region_kernel"]])
    units = len(state)
    from_input, from_state = [], []
    for gate in range(3):
        columns = slice(gate * units, (gate + 1) * units)
        from_input.append(inputs @ kernel[:, columns] + weights["bias"][0, columns])
        if step_gates is not None:
            from_input[-1] = from_input[-1] + step_gates[columns]
        from_state.append(
            state @ weights["recurrent_kernel"][:, columns] + weights["bias"][1, columns]
        )
    update = SIGMOID(from_input[0] + from_state[0])
    reset = SIGMOID(from_input[1] + from_state[1])
    return update * state + (1 - update) * np.tanh(from_input[2] + reset * from_state[2])


def recurrence(weights, variant, state, words, regions, region_mask=None, dropout=None):
    """Return the state `(t, u)` and the vector v `(t, f)` after each embedded word.

    `words` are `(t, e)`. v is 0 without feedback. For the conditional variant, v is the vector that
    the GRU received with the word. `dropout (t, u)` multiplies the state before attention, and
    does not affect the recurrence.
    """
    v = np.zeros(regions.shape[1])
    if variant == "full":
        v = attended(weights, state, regions, region_mask)
    states, vectors = [], []
    for t, word in enumerate(words):
        if variant == "conditional":
            v = attended_given_word(weights, word, state, regions, region_mask)
        if variant == "soft":
            _, v = soft_attention(weights, state, regions, region_mask)
        feeds_back = variant in ("conditional", "full", "soft")
        state = gru(weights, state, np.concatenate([word, v]) if feeds_back else word)
        if variant == "full":
            dropped = state if dropout is None else state * dropout[t]
            v = attended(weights, dropped, regions, region_mask)
        states.append(state)
        vectors.append(v)
    return np.stack(states), np.stack(vectors)


def every_recurrence(weights, variant, states, words, regions, region_mask=None, dropout=None):
    """Return `recurrence` of all captions `(n, c, t, e)`: `(n, c, t, u)` and `(n, c, t, f)`."""
    images, captions, steps = words.shape[:3]
    after = np.zeros((images, captions, steps, states.shape[-1]))
    vectors = np.zeros((images, captions, steps, regions.shape[-1]))
    for n, c in np.ndindex(images, captions):
        after[n, c], vectors[n, c] = recurrence(
            weights,
            variant,
            states[n, c],
            words[n, c],
            regions[n],
            None if region_mask is None else region_mask[n],
            None if dropout is None else dropout[n, c],
        )
    return after, vectors
