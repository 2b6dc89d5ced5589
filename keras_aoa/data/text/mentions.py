"""Finds the noun phrases of a caption that name objects, and the objects they can mean."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from keras_aoa.data.examples import Box, Example, NamedObject


@dataclass(frozen=True)
class Named:
    """A noun phrase: `words[index]` is its noun's (last) word.

    `adjectives` are the known ones that stand directly before the noun, in the caption's order.
    """

    index: int
    noun: str
    adjectives: tuple[str, ...] = ()


def naming_words(examples: Iterable[Example]) -> tuple[frozenset[str], frozenset[str]]:
    """All nouns and all adjectives of the examples' objects."""
    objects = [thing for example in examples for thing in example.objects]
    nouns = frozenset().union(*(thing.nouns for thing in objects))
    adjectives = frozenset().union(*(thing.adjectives for thing in objects))
    return nouns, adjectives


def named_phrases(
    words: Sequence[str], nouns: Collection[str], adjectives: Collection[str]
) -> list[Named]:
    """The noun phrases in a caption's words, in their order.

    A noun may be of several words ("fire hydrant"); of nouns that begin at the same word the
    longest counts.
    """
    longest = max((noun.count(" ") + 1 for noun in nouns), default=0)
    found = []
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
        found.append(Named(start + length - 1, noun, tuple(words[first:start])))
        start += length
    return found


def matching_objects(named: Named, objects: Iterable[NamedObject]) -> list[NamedObject]:
    """The objects that bear the phrase's noun and all of its adjectives."""
    return [
        thing
        for thing in objects
        if named.noun in thing.nouns and thing.adjectives.issuperset(named.adjectives)
    ]


@dataclass(frozen=True)
class Mention:
    """`words[index]` of a caption names what is in the boxes; none: it is not in the picture.

    `length`: words of the phrase that ends with it.
    """

    index: int
    boxes: tuple[Box, ...]
    length: int = 1


def annotated_mentions(example: Example, number: int) -> list[Mention]:
    """What the words of `captions[number]` name, by the example's phrases.

    A phrase's word is its last, the head; several entries of a phrase are several boxes.
    """
    boxes: dict[tuple[int, int], list[Box]] = {}
    for phrase in example.phrases:
        if phrase.caption == number:
            boxes.setdefault((phrase.last, phrase.first), []).append(phrase.box)
    return [
        Mention(last - 1, tuple(found), last - first)
        for (last, first), found in sorted(boxes.items())
    ]


def named_mentions(
    words: Sequence[str],
    objects: Sequence[NamedObject],
    nouns: Collection[str],
    adjectives: Collection[str],
) -> list[Mention]:
    """What the words of any caption name, by the nouns and adjectives of the picture's objects."""
    return [
        Mention(
            named.index,
            tuple(thing.box for thing in matching_objects(named, objects)),
            len(named.adjectives) + named.noun.count(" ") + 1,
        )
        for named in named_phrases(words, nouns, adjectives)
    ]
