"""Topics of captions, found by latent Dirichlet allocation (LDA) without any labels.

Sources: Blei et al., "Latent Dirichlet Allocation", JMLR 2003; Jin et al., "Aligning Where to See
and What to Tell", 2015, arXiv:1506.06272, section on scene-specific contexts.
"""

import numpy as np

from keras_aoa.data.text.attributes import MAX_WORDS, is_content_word
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import OOV
from keras_aoa.utils.errors import UserError

SEED = 0  # equal captions and settings always give equal topics


def check_scikit_learn():
    """Check that scikit-learn, which finds topics, is installed.

    Raises:
        UserError: scikit-learn cannot be imported.
    """
    try:
        import sklearn.decomposition  # noqa: F401
    except ImportError:
        raise UserError(
            "concepts: 'topics' need scikit-learn, which is not installed; run pip install "
            "'keras-aoa[topics]'."
        ) from None


def topic_mixtures(examples, vocabulary, count):
    """Return the topic proportions of each example, `(n, k)` float32; each row sums to 1.

    The captions of an image are one document. Function words and words that are not in the
    vocabulary are left out. A document without words has equal proportions of all topics.

    Args:
        examples: Sequence of `Example`.
        vocabulary: `Vocabulary`.
        count: Number of topics, k.

    Raises:
        UserError: scikit-learn is not installed, or no caption has a content word.
    """
    check_scikit_learn()
    from sklearn.decomposition import LatentDirichletAllocation

    counts = word_counts(examples, vocabulary)
    if not counts.nnz:
        raise UserError(
            f"concepts: expected content words in the captions of {len(examples)} images, found "
            "none; check the data, or set concepts to 'none'."
        )
    topics = LatentDirichletAllocation(count, random_state=SEED).fit_transform(counts)
    return topics.astype(np.float32)


def word_counts(examples, vocabulary):
    """Return how often each content word occurs in an image's captions, as a sparse matrix."""
    from scipy.sparse import csr_matrix

    words = [i > OOV and is_content_word(word) for i, word in enumerate(vocabulary.words)]
    columns = np.where(words, np.cumsum(words) - 1, -1)
    rows, found = [], []
    for row, example in enumerate(examples):
        for caption in example.captions:
            own = columns[vocabulary.encode_words(tokenize(caption), MAX_WORDS)]
            found.append(own[own >= 0])
            rows.append(np.full(len(found[-1]), row))
    rows, found = (np.concatenate([np.zeros(0, int), *each]) for each in (rows, found))
    shape = len(examples), max(sum(words), 1)
    return csr_matrix((np.ones(len(rows)), (rows, found)), shape)
