"""Diversity: how varied generated captions are, and how many repeat a training caption.

Source of distinct-1 and distinct-2: Li et al., "A Diversity-Promoting Objective Function for Neural
Conversation Models", NAACL 2016, arXiv:1510.03055.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from keras_aoa.data.text.tokenizer import tokenize


@dataclass(frozen=True)
class Diversity:
    """Statistics of the words of all captions, split by our own tokenizer.

    Attributes:
        distinct_1: Number of different words, divided by the number of all words.
        distinct_2: Number of different pairs of neighboring words, divided by the number of all
            words, as defined by Li et al.
        vocabulary_used: Number of different words.
        mean_length: Mean number of words of a caption.
        novel_captions: Share of captions whose words differ from those of every training caption,
            or None if the training captions are unknown.
    """

    distinct_1: float
    distinct_2: float
    vocabulary_used: int
    mean_length: float
    novel_captions: float | None = None


def diversity(captions: Iterable[str], training: Iterable[str] = ()) -> Diversity:
    """Measure the `Diversity` of captions.

    Args:
        captions: Generated captions, at least one.
        training: Training captions. If there are no training captions, `novel_captions` is None.
    """
    texts = [tuple(tokenize(caption)) for caption in captions]
    known = {tuple(tokenize(caption)) for caption in training}
    words = {word for text in texts for word in text}
    pairs = {pair for text in texts for pair in pairwise(text)}
    total = sum(map(len, texts))
    return Diversity(
        distinct_1=len(words) / max(total, 1),
        distinct_2=len(pairs) / max(total, 1),
        vocabulary_used=len(words),
        mean_length=total / len(texts),
        novel_captions=sum(text not in known for text in texts) / len(texts) if known else None,
    )
