"""Word embeddings of the attention layers, which embed input words and score next words.

For the letters in shapes, see `joint.py`.
"""

import keras
from keras import ops

from keras_aoa.layers.joint import MASKED_SCORE
from keras_aoa.layers.products import dense, transposed, wide_dtype


class WordEmbeddings(keras.layers.Layer):
    """Base class of layers that embed input words, and score next words.

    A subclass implements `word_query`, and calls `build_words` in its method `build`.

    Args:
        vocabulary_size: Number of words in the vocabulary, n_w.
        embedding_dim: Width of word embeddings, d_w.
        never_predicted: Ids of words whose probability is always 0, such as padding and START.
        tied: If True, one matrix embeds input words and scores output words; if False, a second
            matrix embeds the input words.

    Raises:
        ValueError: `never_predicted` contains an id outside the vocabulary.
    """

    def __init__(self, vocabulary_size, embedding_dim, never_predicted=(), tied=True, **kwargs):
        super().__init__(**kwargs)
        if not all(0 <= word < vocabulary_size for word in never_predicted):
            raise ValueError(
                f"{type(self).__name__}: `never_predicted` must contain ids from 0 to "
                f"{vocabulary_size - 1}; received {tuple(never_predicted)}."
            )
        self.vocabulary_size = vocabulary_size
        self.embedding_dim = embedding_dim
        self.never_predicted = tuple(never_predicted)
        self.tied = tied

    def word_query(self, output):
        """Project outputs `(n, c, o)` to the word embedding space, `(n, c, e)`."""
        raise NotImplementedError

    def build_words(self):
        """Create the weights `words (w, e)` and `input_words`, which are one matrix if `tied`."""
        embedding = {
            "shape": (self.vocabulary_size, self.embedding_dim),
            "initializer": keras.initializers.RandomNormal(stddev=self.embedding_dim**-0.5),
        }
        self.words = self.add_weight(name="words", **embedding)
        self.input_words = self.words
        if not self.tied:
            self.input_words = self.add_weight(name="input_words", **embedding)

    def embed(self, ids):
        """Return the embeddings `(…, e)` of word ids `(…)`."""
        return ops.cast(ops.take(ops.convert_to_tensor(self.input_words), ids, axis=0), self._wide)

    def transpose_words(self):
        """Return the transposed word embeddings `(e, w)`, in the dtype of matrix products."""
        return transposed(ops.cast(self.words, self.compute_dtype))

    def word_scores(self, output, transposed_words=None):
        """Return the scores `(n, c, w)` of all words for outputs `(n, c, o)`.

        A search passes the images' `transposed_words`. For one product, the copy is not worth it.
        """
        words = ops.transpose(self.words) if transposed_words is None else transposed_words
        scores = dense(self.word_query(output), words, self.compute_dtype)
        return scores + self._word_penalty(ops.arange(self.vocabulary_size))

    def target_scores(self, output, targets):
        """Return the scores `(n, c)` and the embeddings `(n, c, e)` of known next words."""
        words = ops.take(ops.cast(self.words, self._wide), targets, axis=0)
        scores = ops.sum(self.word_query(output) * words, axis=-1)
        return scores + self._word_penalty(targets), words

    def target_softmax(self, output, targets, smoothing=0.0):
        """Return `target_log_probs (n, c)`, where p(w) is the softmax of `word_scores`."""
        scores, _ = self.target_scores(output, targets)
        word_scores = self.word_scores(output)
        log_normalizer = ops.maximum(ops.logsumexp(word_scores, axis=-1), scores)
        if smoothing:
            scores = (1 - smoothing) * scores + smoothing * self.mean_over_words(word_scores)
        return scores - log_normalizer

    def mean_over_words(self, values):
        """Return the mean of values `(n, c, w)` over all words except `never_predicted`."""
        never = set(self.never_predicted)
        if never:
            values = ops.where(self._word_mask(), values, 0.0)
        return ops.sum(values, axis=-1) / (self.vocabulary_size - len(never))

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_dim": self.embedding_dim,
            "never_predicted": self.never_predicted,
            "tied": self.tied,
        }

    @property
    def _wide(self):
        return wide_dtype(self.compute_dtype)

    def _word_mask(self):
        if not self.never_predicted:
            return None
        return self._word_penalty(ops.arange(self.vocabulary_size)) == 0

    def _word_penalty(self, ids):
        penalty = ops.zeros(ops.shape(ids), dtype=self._wide)
        for never in self.never_predicted:
            penalty = ops.where(ids == never, ops.cast(MASKED_SCORE, self._wide), penalty)
        return penalty
