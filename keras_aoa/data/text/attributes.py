"""Attributes: frequent content words of captions, which a captioner predicts from the image.

Source: Wu et al., "What Value Do Explicit High Level Concepts Have in Vision to Language
Problems?", CVPR 2016, arXiv:1506.01144.
"""

import hashlib
import json
import pathlib

import numpy as np

from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import OOV
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import write_text

# Words that name nothing visible.
FUNCTION_WORDS = frozenset(
    "a an the of in on at to is are it its and with there this that we see shows".split()  # noqa: SIM905
)
# Further words that no picture shows. A run's folder contains its attributes, so a change of this
# list does not affect trained runs.
_NO_ATTRIBUTES = FUNCTION_WORDS | frozenset(
    "about across after against along am another any around as at away be been behind being beside "  # noqa: SIM905
    "between both but by can did do does down during each for from has have having he her him his "
    "i if into itself just me more my near next no not off one onto or other our out over she so "
    "some than their them then these they those through together toward towards under up upon was "
    "were what when where which while who whose will you your".split()
)
FORMAT = 1
MAX_WORDS = 100  # of a caption; the rest of a longer caption is ignored


def is_content_word(word):
    """Return whether a word may name something visible."""
    return word not in _NO_ATTRIBUTES


def attribute_words(vocabulary, count):
    """Return the `count` most frequent content words of the training captions.

    Args:
        vocabulary: `Vocabulary` of the training captions, which is sorted by decreasing count.
        count: Number of words.

    Raises:
        UserError: the vocabulary has too few content words.
    """
    words = [word for word in vocabulary.words[OOV + 1 :] if is_content_word(word)]
    if len(words) < count:
        raise UserError(
            f"concept_count: expected at most {len(words)}, the number of content words in the "
            f"vocabulary, received {count}; lower concept_count or minimum_count."
        )
    return tuple(words[:count])


def word_flags(examples, vocabulary, ids):
    """Return whether each word occurs in each example's captions, booleans `(n, k)`.

    Args:
        examples: Sequence of `Example`.
        vocabulary: `Vocabulary`.
        ids: Ids of the words, `(k,)`, distinct.
    """
    columns = np.full(len(vocabulary), -1)
    columns[list(ids)] = np.arange(len(ids))
    flags = np.zeros((len(examples), len(ids)), bool)
    for row, example in zip(flags, examples, strict=True):
        for caption in example.captions:
            found = columns[vocabulary.encode_words(tokenize(caption), MAX_WORDS)]
            row[found[found >= 0]] = True
    return flags


def save_attributes(path, words):
    """Save attributes as JSON, atomically."""
    write_text(path, json.dumps({"format": FORMAT, "words": words}, ensure_ascii=False, indent=0))


def load_attributes(path, vocabulary):
    """Load attributes that `save_attributes` wrote.

    Returns:
        Ids of the attributes in the vocabulary, and 12 hexadecimal digits that identify the
        attributes.

    Raises:
        UserError: the file is missing or damaged, or one of its words is not in the vocabulary.
    """
    remedy = "restore the file of the run, or train again."
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        known, words = content["format"] == FORMAT, content["words"]
        digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]
    except OSError as error:
        raise UserError(f"{path}: cannot read it ({error.strerror}); {remedy}") from None
    except (ValueError, RecursionError, LookupError, TypeError):
        known = False
    if not known:
        raise UserError(f"{path}: expected attributes in JSON of format {FORMAT}; {remedy}")
    ids = {word: index for index, word in enumerate(vocabulary.words)}
    missing = [word for word in words if word not in ids]
    if missing:
        raise UserError(f"{path}: {missing[0]!r} is not in the run's vocabulary; {remedy}")
    return tuple(ids[word] for word in words), digest
