"""Topics of captions, found by latent Dirichlet allocation (LDA) without any labels.

Sources: Blei et al., "Latent Dirichlet Allocation", JMLR 2003; Jin et al., "Aligning Where to See
and What to Tell", 2015, arXiv:1506.06272.
"""

from typing import NamedTuple

import numpy as np

from keras_aoa.data.text.attributes import MAX_WORDS, is_content_word
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import OOV
from keras_aoa.utils.errors import UserError

NO_CONTENT_WORDS = (
    "concepts: expected content words in the captions of {} images, found none; check the data, or "
    "set concepts to 'none'."
)
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


class Topics(NamedTuple):
    """Topics that `find_topics` found.

    Attributes:
        ids: Ids of the content words in the vocabulary, `(v,)`.
        weights: For each topic and content word, the exponential of the expected log-probability of
            the word, `(k, v)` float64.
    """

    ids: np.ndarray
    weights: np.ndarray


def find_topics(examples, vocabulary, count):
    """Return `count` `Topics` of the examples' captions.

    The captions of an image are one document. Function words and words that are not in the
    vocabulary are left out.

    Args:
        examples: Sequence of `Example`.
        vocabulary: `Vocabulary`.
        count: Number of topics, k.

    Raises:
        UserError: scikit-learn is not installed, or no caption has a content word.
    """
    check_scikit_learn()
    from sklearn.decomposition import LatentDirichletAllocation

    ids = content_ids(vocabulary)
    counts = word_counts(examples, vocabulary, ids)
    if not counts.nnz:
        raise UserError(NO_CONTENT_WORDS.format(len(examples)))
    found = LatentDirichletAllocation(count, random_state=SEED).fit(counts)
    return Topics(ids, found.exp_dirichlet_component_)


def topic_mixtures(examples, vocabulary, topics):
    """Return the proportions of known topics in each example, `(n, k)` float32; rows sum to 1.

    The mixture of an example depends only on its own captions. A document without content words has
    equal proportions of all topics.

    Args:
        examples: Sequence of `Example`.
        vocabulary: `Vocabulary`.
        topics: `Topics`.

    Raises:
        UserError: scikit-learn is not installed.
    """
    check_scikit_learn()
    from sklearn.decomposition import LatentDirichletAllocation

    known = LatentDirichletAllocation(len(topics.weights))
    known.components_ = known.exp_dirichlet_component_ = topics.weights
    known.doc_topic_prior_ = 1 / len(topics.weights)
    return known.transform(word_counts(examples, vocabulary, topics.ids)).astype(np.float32)


def check_content_words(examples, vocabulary):
    """Check that the vocabulary of the examples' captions has content words.

    Raises:
        UserError: all words are function words.
    """
    if not len(content_ids(vocabulary)):
        raise UserError(NO_CONTENT_WORDS.format(len(examples)))


def content_ids(vocabulary):
    """Return the ids of a vocabulary's content words, `(v,)`."""
    words = enumerate(vocabulary.words)
    return np.array([i for i, word in words if i > OOV and is_content_word(word)], int)


def word_counts(examples, vocabulary, ids):
    """Return how often each word occurs in an image's captions, as a sparse matrix `(n, v)`.

    Args:
        examples: Sequence of `Example`.
        vocabulary: `Vocabulary`.
        ids: Ids of the words, `(v,)`.
    """
    from scipy.sparse import csr_matrix

    columns = np.full(len(vocabulary), -1)
    columns[ids] = np.arange(len(ids))
    rows, found = [], []
    for row, example in enumerate(examples):
        for caption in example.captions:
            own = columns[vocabulary.encode_words(tokenize(caption), MAX_WORDS)]
            found.append(own[own >= 0])
            rows.append(np.full(len(found[-1]), row))
    rows, found = (np.concatenate([np.zeros(0, int), *each]) for each in (rows, found))
    return csr_matrix((np.ones(len(rows)), (rows, found)), (len(examples), max(len(ids), 1)))
