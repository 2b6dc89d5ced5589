"""Finds noun phrases in captions and the objects that they name."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from keras_aoa.data.examples import Box, Example, NamedObject


@dataclass(frozen=True)
class NounPhrase:
    """A noun phrase of a caption.

    Attributes:
        index: Index of the noun's last word in the caption.
        noun: The noun; it may have several words.
        adjectives: The known adjectives directly before the noun, in caption order.
    """

    index: int
    noun: str
    adjectives: tuple[str, ...] = ()


def naming_words(examples: Iterable[Example]) -> tuple[frozenset[str], frozenset[str]]:
    """Return all nouns and all adjectives of the examples' objects."""
    objects = [thing for example in examples for thing in example.objects]
    nouns = frozenset().union(*(thing.nouns for thing in objects))
    adjectives = frozenset().union(*(thing.adjectives for thing in objects))
    return nouns, adjectives


def find_noun_phrases(
    words: Sequence[str], nouns: Collection[str], adjectives: Collection[str]
) -> list[NounPhrase]:
    """Find the noun phrases in a caption's words, in order.

    A noun may have several words ("fire hydrant"). If several nouns begin at the same word, the
    longest noun is used.
    """
    longest = max((noun.count(" ") + 1 for noun in nouns), default=0)
    phrases = []
    start = 0
    while start < len(words):
        for length in range(min(longest, len(words) - start), 0, -1):
            noun = " ".join(words[start : start + length])
            if noun in nouns:
                break
        else:
            start += 1
            continue
        first = start
        while first > 0 and words[first - 1] in adjectives:
            first -= 1
        phrases.append(NounPhrase(start + length - 1, noun, tuple(words[first:start])))
        start += length
    return phrases


def matching_objects(phrase: NounPhrase, objects: Iterable[NamedObject]) -> list[NamedObject]:
    """Return the objects whose words include the phrase's noun and all of its adjectives."""
    return [
        thing
        for thing in objects
        if phrase.noun in thing.nouns and thing.adjectives.issuperset(phrase.adjectives)
    ]


@dataclass(frozen=True)
class Mention:
    """A word of a caption, and the boxes of the objects that the word names.

    Attributes:
        index: Index of the word in the caption.
        boxes: Boxes of the named objects, empty if the image shows no such object.
        length: Number of words in the phrase that ends with this word.
    """

    index: int
    boxes: tuple[Box, ...]
    length: int = 1


def mentions_in_caption(
    example: Example,
    number: int,
    words: Sequence[str],
    nouns: Collection[str],
    adjectives: Collection[str],
) -> list[Mention]:
    """Return the mentions in `captions[number]`, whose tokens are `words`.

    If an example has annotated phrases, the mentions are read from these phrases. For other
    examples, the words of the caption are compared with the names of the objects.
    """
    if example.phrases:
        return annotated_mentions(example, number)
    return named_mentions(words, example.objects, nouns, adjectives)


def annotated_mentions(example: Example, number: int) -> list[Mention]:
    """Return the mentions in `captions[number]`, from the example's annotated phrases.

    A mention's word is the last word of its phrase. If `example.phrases` lists a phrase several
    times, with different boxes, the mention has all of these boxes.
    """
    boxes: dict[tuple[int, int], list[Box]] = {}
    for phrase in example.phrases:
        if phrase.caption == number:
            boxes.setdefault((phrase.last, phrase.first), []).append(phrase.box)
    return [
        Mention(last - 1, tuple(phrase_boxes), last - first)
        for (last, first), phrase_boxes in sorted(boxes.items())
    ]


def named_mentions(
    words: Sequence[str],
    objects: Sequence[NamedObject],
    nouns: Collection[str],
    adjectives: Collection[str],
) -> list[Mention]:
    """Find a caption's mentions by comparing its words with the names of the objects."""
    return [
        Mention(
            phrase.index,
            tuple(thing.box for thing in matching_objects(phrase, objects)),
            len(phrase.adjectives) + phrase.noun.count(" ") + 1,
        )
        for phrase in find_noun_phrases(words, nouns, adjectives)
    ]
