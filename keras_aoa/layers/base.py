"""Base class of the attention layers: the methods that the cell calls.

To write a new attention, subclass `AttentionLayer`. For the letters in shapes, see `joint.py`.
"""

import math
from typing import Any, NamedTuple

from keras import ops

from keras_aoa.layers.joint import MASKED_SCORE, PairFactors
from keras_aoa.layers.products import scale_to_length
from keras_aoa.layers.regions import require_regions, split_region_arguments
from keras_aoa.layers.sharing import copy_once, identity
from keras_aoa.layers.words import WordEmbeddings

Tensor = Any


class ImageMemory(NamedTuple):
    """Tensors that are computed once for all captions and steps. Most depend only on the images.

    `regions (n, r, f)` are the scaled region features. `region_mask (n, r)` is false for padding. A
    `region_mask` of None means that no region is padding. `keys (n, r, e)` are projected regions.
    Only `AreaAttention` uses `factors`. `step_gates (n, 1, 3 u)` are added to the GRU's gates at
    each step. `HardAttention` samples regions with `noise (n, c, t, r)`, which is standard Gumbel
    noise. For `ReviewAttention`, `thoughts (n, i, e)` are the vectors of the review steps, and
    `review_probs (n, i, r)` are the attention of the review steps. `ReviewAttention` replaces
    `regions` by projected thoughts `(n, i, f)`. `concepts (n, k, e)` are embedded words that
    `SemanticAttention` attends to. `transposed_words (e, w)` are the word embeddings, transposed,
    from `AttentionLayer.transpose_words`. Tensors that an attention does not need are None.
    """

    regions: Tensor
    region_mask: Tensor | None
    keys: Tensor | None = None
    factors: PairFactors | None = None
    step_gates: Tensor | None = None
    noise: Tensor | None = None
    thoughts: Tensor | None = None
    review_probs: Tensor | None = None
    concepts: Tensor | None = None
    transposed_words: Tensor | None = None


class Attended(NamedTuple):
    """Output of `AttentionLayer.attend_after`.

    `output (n, c, o)` predicts the next word and determines p(r). `attended (n, c, f)` is the
    region vector for the next step. `scores` are values that `log_probs` can reuse; `scores` is
    None if there are no such values.
    """

    output: Tensor
    attended: Tensor
    scores: Any


class AttentionLayer(WordEmbeddings):
    """Base class of attention layers, which predict the next word and weight the regions.

    At each step, `AttentionGRUCell` calls `attend_before`, then the GRU, then `attend_after`.
    Both `attend_before` and `attend_after` return a region vector. A region vector is the sum of
    the region features, weighted by attention.

    A subclass implements `build`, `precompute`, `word_query`, `region_probs`, `log_probs`,
    `target_log_probs` and `call`. A subclass may also override `attend_before`, `attend_after` and
    `run`. In a subclass, `precompute` must call `scale_regions` first, so that the scores and the
    region vector use the same features. If a subclass overrides `from_config`, it must call
    `super().from_config`. Without `super().from_config`, a copied model would contain two copies of
    a shared attention.

    Args:
        vocabulary_size, embedding_dim, never_predicted, tied: As in `WordEmbeddings`.
        feature_length: L2 norm to which region features are scaled. 0 leaves the features unscaled.
            The docstring of `AreaAttention` explains why scaling helps.

    Raises:
        ValueError: `never_predicted` contains an id outside the vocabulary, or `feature_length`
            is negative.
    """

    # Whether the GRU receives the region vector.
    has_feedback = True
    # Whether the layer samples regions if the `ImageMemory` contains noise.
    samples_regions = False
    # Whether the attended vector is a sum of embedded words instead of a sum of regions. The GRU
    # adds it to the input word.
    attends_words = False
    # Whether `precompute` has the argument `concepts`, the probabilities of predicted words.
    needs_concepts = False
    # Number of features per region. `build` sets it if the shape of a weight depends on it.
    region_dim = None
    # Whether a cell contains the layer. A model can then contain it twice: within the cell and
    # by itself.
    in_cell = False

    def __init__(
        self,
        vocabulary_size,
        embedding_dim,
        never_predicted=(),
        tied=True,
        feature_length=4.0,
        **kwargs,
    ):
        super().__init__(
            vocabulary_size, embedding_dim, never_predicted, tied, autocast=False, **kwargs
        )
        if not feature_length >= 0:
            raise ValueError(
                f"{type(self).__name__}: `feature_length` must be positive, or 0 to leave "
                f"features unscaled; received {feature_length!r}."
            )
        self.feature_length = feature_length
        self.supports_masking = True

    def __call__(self, *args, **kwargs):
        args, kwargs, regions = split_region_arguments(self, args, kwargs)
        if hasattr(regions, "shape"):
            require_regions(type(self).__name__, regions.shape, self.region_dim)
        return super().__call__(*args, **kwargs)

    def scale_regions(self, regions):
        """Cast regions `(n, r, f)` to at least float32 and scale them to `feature_length`."""
        regions = ops.cast(regions, self._wide)
        return scale_to_length(regions, self.feature_length) if self.feature_length else regions

    def precompute(self, regions, region_mask=None):
        """Return the `ImageMemory`: the tensors that depend only on the images."""
        raise NotImplementedError

    def attend_before(self, state, word, attended, memory):
        """Choose the region vector that the GRU receives together with the word.

        Args:
            state: State before the word, `(n, c, u)`.
            word: Embedded input word, `(n, c, e)`.
            attended: Region vector that the previous step returned, `(n, c, f)`.
            memory: The images' `ImageMemory`.

        Returns:
            The region vector `(n, c, f)`, and a context, which is passed to `attend_after`. By
            default, `attend_before` returns `attended` as the region vector, and None as the
            context.
        """
        return attended, None

    def attend_after(self, state, attended, context, memory):
        """Attend to the regions with the new state.

        Args:
            state: State after the word, `(n, c, u)`.
            attended: Region vector that the GRU received, `(n, c, f)`.
            context: The context that `attend_before` returned, or None before the first word.
            memory: The images' `ImageMemory`.

        Returns:
            `Attended`. By default, `attend_after` returns `state` as the output, and `attended`
            unchanged.
        """
        return Attended(state, attended, None)

    def run(self, cell, words, states, memory, state_dropout=None):
        """Run a cell over known captions, as `AttentionGRUCell.run` describes.

        A subclass may override this method to define the gradient of the recurrence.

        Returns:
            The outputs `(n, c, t, o)` and the log normalizers `(n, c, t)` of all steps. A method
            that does not compute log normalizers returns None in their place.
        """
        steps = cell.unrolled(words, cell.project(words, memory), states, memory, state_dropout)
        return ops.stack([step.output for step in steps], axis=2), None

    def region_probs(self, output, memory):
        """Return p(r) `(n, c, r)` for outputs `(n, c, o)`."""
        raise NotImplementedError

    def log_probs(self, output, memory, scores=None):
        """Return log p(w) `(n, c, w)` and p(r) `(n, c, r)` for outputs `(n, c, o)`.

        Args:
            output: The `output (n, c, o)` of `Attended`.
            memory: The images' `ImageMemory`.
            scores: `scores` of `Attended`. If `scores` is None, `AreaAttention` computes the scores
                again.
        """
        raise NotImplementedError

    def target_log_probs(self, output, targets, memory, log_normalizer=None, smoothing=0.0):
        """Return log p(w*) of known next words w*, without the probabilities of other words.

        With label smoothing E, return (1 - E) log p(w*) + E m instead, where m is the mean of
        log p(w) over all words except `never_predicted`.

        Args:
            output: The `output (n, c, o)` of `Attended`.
            targets: Ids of the next words, `(n, c)`.
            memory: The images' `ImageMemory`.
            log_normalizer: Log normalizer `(n, c)` that `run` returned, or None.
            smoothing: Label smoothing E, from 0 to 1.

        Returns:
            The natural logarithms log p(w*), `(n, c)`.
        """
        raise NotImplementedError

    def get_config(self):
        return {
            **super().get_config(),
            **({"shared_object_id": identity(self)} if self.in_cell else {}),
            "feature_length": self.feature_length,
        }

    @classmethod
    def from_config(cls, config):
        # Older files lack `feature_length`. Their weights were trained on unscaled features.
        return copy_once(cls, {"feature_length": 0.0, **config})


def mask_regions(scores, memory):
    """Lower the scores `(n, c, r)` of padding regions so far that their probability is 0."""
    if memory.region_mask is None:
        return scores
    return ops.where(memory.region_mask[:, None, :], scores, MASKED_SCORE)


def merge_captions(tensor):
    """Reshape `(n, …, u)` to `(n, c, u)`: merge all axes between the first and the last."""
    # In a batch without images, reshape cannot infer a size from -1.
    images, *counts = ops.shape(tensor)[:-1]
    return ops.reshape(tensor, (images, math.prod(counts), tensor.shape[-1]))


def split_captions(tensor, like):
    """Undo `merge_captions`: reshape `(n, c, x)` to `(n, …, x)`, with the middle axes of `like`."""
    return ops.reshape(tensor, (*ops.shape(like)[:-1], ops.shape(tensor)[-1]))
