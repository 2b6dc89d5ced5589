"""The recurrence of the variant `full` over known captions, with a custom gradient.

Three gradients are large: the gradients of the word embeddings, of the regions and of the
exponentials `(n, r, w)`. Automatic differentiation would compute all three large gradients at each
step and add them up. In this module, each step only stores the factors of the three large
gradients. After the loop, one matrix product over all steps computes each large gradient. A test
compares this custom gradient with automatic differentiation. For the letters in shapes, see
`joint.py`.
"""

import keras
from keras import ops

from keras_aoa.layers.joint import SMALLEST_SUM
from keras_aoa.layers.products import batched_product, dense, transposed


def run_full(cell, word_gates, states, memory, state_dropout=None):
    """Run a cell with an `AreaAttention` of the variant `full` over known captions.

    Args:
        cell: `AttentionGRUCell`.
        word_gates: `cell.project` of the input words, `(n, c, t, 3 u)`.
        states: `h (n, c, u)` and `v (n, c, f)` before the first word.
        memory: The images' `ImageMemory`.
        state_dropout: Dropout mask `(n, c, t, u)` applied to each state before attention, or None.

    Returns:
        The states after dropout `(n, c, t, u)` and the log normalizers `(n, c, t)` of all steps.
    """
    attention = cell.attention
    variables = [
        cell.region_kernel,
        cell.recurrent_kernel,
        cell.bias,
        attention.words,
        attention.word_state,
        attention.word_bias,
        attention.region_state,
        attention.region_bias,
    ]
    weights = [ops.cast(ops.convert_to_tensor(v), word_gates.dtype) for v in variables]

    @ops.custom_gradient
    def recurrence(word_gates, state, attended, regions, exponentials, *weights):
        by_word = ops.swapaxes(exponentials, 1, 2)
        factors = memory.factors._replace(exponentials=exponentials, by_word=by_word)
        # The step must read the weights passed to this function, so that they receive gradients.
        with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
            known = memory._replace(
                regions=regions, factors=factors, transposed_words=attention.transpose_words()
            )
            steps = cell.unrolled(None, word_gates, (state, attended), known, state_dropout)
        output = ops.stack([step.output for step in steps], axis=2)
        normalizers = [step.scores.marginal.log_normalizer for step in steps]
        # Return one tensor, because in PyTorch a custom gradient supports only one output.
        outputs = ops.concatenate([output, ops.stack(normalizers, axis=2)[..., None]], axis=-1)

        def gradient(*arguments, upstream=None):
            (upstream,) = (upstream,) if upstream is not None else arguments
            start = state, attended
            return backward(
                cell.compute_dtype, upstream, steps, start, state_dropout, known, weights
            )

        return outputs, gradient

    outputs = recurrence(word_gates, *states, memory.regions, memory.factors.exponentials, *weights)
    return outputs[..., :-1], outputs[..., -1]


def backward(compute_dtype, upstream, steps, start, state_dropout, memory, weights):
    """Return the gradients of the arguments of `recurrence`, in the same order."""
    d_output, d_normalizer = upstream[..., :-1], upstream[..., -1]
    regions, exponentials = memory.regions, memory.factors.exponentials
    region_kernel, recurrent_kernel, _, words, word_state, word_bias, region_state, region_bias = (
        weights
    )
    states = [start[0], *(step.state for step in steps[:-1])]
    attended = [start[1], *(step.attended for step in steps[:-1])]
    by_state_gate, by_input_gate = (
        transposed(ops.cast(kernel, compute_dtype)) for kernel in (recurrent_kernel, region_kernel)
    )
    d_state = ops.zeros_like(start[0])
    d_attended = ops.zeros_like(start[1])
    kept = []
    for t in reversed(range(len(steps))):
        step = steps[t]
        scores = backward_scores(
            step.scores.marginal, d_normalizer[:, :, t], d_attended, regions, exponentials,
            words, compute_dtype,
        )  # fmt: skip
        d_from_scores = (
            d_output[:, :, t]
            + dense(scores["query"], word_state, compute_dtype)
            + dense(scores["key"], region_state, compute_dtype)
        )
        if state_dropout is not None:
            d_from_scores = d_from_scores * state_dropout[:, :, t]
        d_input_gates, d_state_gates, d_before = backward_gru(
            step.gates, states[t], d_state + d_from_scores
        )
        kept.append({
            **scores, "attended": d_attended, "input_gates": d_input_gates,
            "state_gates": d_state_gates,
        })  # fmt: skip
        d_state = d_before + dense(d_state_gates, by_state_gate, compute_dtype)
        d_attended = dense(d_input_gates, by_input_gate, compute_dtype)
    kept.reverse()

    def flat(tensors):
        """Merge steps and captions into one axis: `(n, c t, …)`."""
        return ops.concatenate(tensors, axis=1)

    def of(name):
        return flat([step[name] for step in kept])

    def weight_gradient(inputs, outputs):
        """Sum the outer products over images, captions and steps, as one matrix product."""
        inputs = ops.reshape(inputs, (-1, inputs.shape[-1]))
        outputs = ops.reshape(outputs, (-1, outputs.shape[-1]))
        return batched_product(ops.transpose(inputs), outputs, compute_dtype)

    def total(values):
        return ops.sum(values, axis=(0, 1))

    output = flat([step.output for step in steps])
    query = dense(output, ops.transpose(word_state), compute_dtype) + word_bias
    key = dense(output, ops.transpose(region_state), compute_dtype) + region_bias
    probs = flat([step.scores.marginal.probs for step in steps])
    word_weights = flat([step.scores.marginal.word_weights for step in steps])
    d_regions = batched_product(
        ops.swapaxes(ops.concatenate([probs, of("regions")], axis=1), 1, 2),
        ops.concatenate([of("attended"), key], axis=1),
        compute_dtype,
    )
    d_sums = ops.cast(of("sums"), word_weights.dtype)
    d_exponentials = ops.matmul(ops.swapaxes(d_sums, 1, 2), word_weights)
    d_state_gates = of("state_gates")
    d_bias = ops.stack([ops.zeros_like(d_state_gates[0, 0]), total(d_state_gates)])
    return (
        ops.stack([step["input_gates"] for step in kept], axis=2),
        d_state,
        d_attended,
        d_regions,
        d_exponentials,
        weight_gradient(flat(attended), of("input_gates")),
        weight_gradient(flat(states), d_state_gates),
        d_bias,
        ops.cast(weight_gradient(of("words"), query), words.dtype),
        weight_gradient(of("query"), output),
        total(of("query")),
        weight_gradient(of("key"), output),
        total(of("key")),
    )


def backward_scores(
    marginal, d_normalizer, d_attended, regions, exponentials, words, compute_dtype
):
    """Backpropagate one step through p(r), v and the log normalizer. Return gradients by name.

    `words (n, c, w)` is the gradient of the word scores. `regions (n, c, r)` is the gradient of the
    region scores. `sums (n, c, r)` is the gradient of `RegionMarginal.sums`. `query (n, c, e)` is
    the gradient of the query; the word scores are products of the query and the word embeddings.
    `key (n, c, f)` is the gradient of the key; the region scores are products of the key and the
    regions.
    """
    probs, sums = marginal.probs, marginal.sums
    d_probs = batched_product(d_attended, ops.swapaxes(regions, 1, 2), compute_dtype)
    d_probs = d_probs - ops.sum(probs * d_probs, axis=2, keepdims=True) + d_normalizer[..., None]
    d_regions = probs * d_probs
    d_sums = ops.where(sums > SMALLEST_SUM, d_regions / ops.maximum(sums, SMALLEST_SUM), 0.0)
    # `d_words` is the largest tensor of a step. It has the dtype of the products that read it.
    d_words = ops.matmul(ops.cast(d_sums, exponentials.dtype), exponentials)
    d_words = d_words * marginal.word_weights
    return {
        "regions": d_regions,
        "sums": d_sums,
        "words": d_words,
        "query": ops.cast(dense(d_words, words, compute_dtype), sums.dtype),
        "key": batched_product(d_regions, regions, compute_dtype),
    }


def backward_gru(gates, state, d_new_state):
    """Return the gradients of the input gates, the state gates and the previous state of a step."""
    update, reset, candidate, state_candidate = gates
    d_candidate = d_new_state * (1 - update) * (1 - candidate * candidate)
    d_update = d_new_state * (state - candidate) * update * (1 - update)
    d_reset = d_candidate * state_candidate * reset * (1 - reset)
    return (
        ops.concatenate([d_update, d_reset, d_candidate], axis=-1),
        ops.concatenate([d_update, d_reset, d_candidate * reset], axis=-1),
        d_new_state * update,
    )
