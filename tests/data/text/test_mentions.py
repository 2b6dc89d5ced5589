"""Tests of noun phrases in captions, and of the objects they name."""

from keras_aoa.data.examples import Example, NamedObject
from keras_aoa.data.text.mentions import (
    NounPhrase,
    find_noun_phrases,
    matching_objects,
    naming_words,
)

NOUNS = {"star", "ball", "sphere", "hot dog", "dog"}
ADJECTIVES = {"red", "big", "large", "striped", "blue"}


def phrases(caption):
    return find_noun_phrases(caption.split(), NOUNS, ADJECTIVES)


def thing(nouns, adjectives=""):
    return NamedObject(frozenset(nouns.split(",")), frozenset(adjectives.split()), (0, 0, 1, 1))


def test_a_phrase_contains_the_adjectives_directly_before_its_noun():
    assert phrases("a big red striped star above a blue ball") == [
        NounPhrase(4, "star", ("big", "red", "striped")),
        NounPhrase(8, "ball", ("blue",)),
    ]


def test_an_adjective_separated_from_the_noun_is_ignored():
    assert phrases("a red and shiny ball") == [NounPhrase(4, "ball", ())]


def test_an_adjective_belongs_only_to_the_next_noun():
    assert phrases("red star ball") == [NounPhrase(1, "star", ("red",)), NounPhrase(2, "ball", ())]


def test_the_longest_noun_is_found_and_indexed_at_its_last_word():
    assert phrases("a big hot dog near a dog") == [
        NounPhrase(3, "hot dog", ("big",)),
        NounPhrase(6, "dog", ()),
    ]


def test_a_caption_may_begin_with_a_phrase_and_end_within_a_noun():
    assert phrases("red ball hot") == [NounPhrase(1, "ball", ("red",))]


def test_a_caption_without_known_nouns_has_no_phrases():
    assert phrases("a red sky") == []
    assert phrases("") == []
    assert find_noun_phrases(["a", "star"], set(), set()) == []


def test_an_object_matches_if_it_has_the_noun_and_all_adjectives():
    red, blue = thing("ball,sphere", "red big large"), thing("ball,sphere", "blue")
    objects = [red, blue, thing("star", "red")]
    assert matching_objects(NounPhrase(0, "sphere", ("red", "large")), objects) == [red]
    assert matching_objects(NounPhrase(0, "ball"), objects) == [red, blue]
    assert matching_objects(NounPhrase(0, "ball", ("red", "striped")), objects) == []


def test_adjectives_are_ignored_if_no_object_of_the_data_set_has_any():
    dog = thing("dog,puppy")
    nouns, adjectives = naming_words([Example(1, "a.jpg", (), objects=(dog, thing("cat")))])
    assert (nouns, adjectives) == ({"dog", "puppy", "cat"}, set())
    [named] = find_noun_phrases(["a", "brown", "puppy"], nouns, adjectives)
    assert matching_objects(named, [dog, thing("cat")]) == [dog]


def test_naming_words_include_all_objects_of_all_examples():
    examples = [
        Example(1, "a.jpg", (), objects=(thing("ball,sphere", "red"),)),
        Example(2, "b.jpg", ()),
        Example(3, "c.jpg", (), objects=(thing("star", "blue"), thing("ring", "red big"))),
    ]
    assert naming_words(examples) == ({"ball", "sphere", "star", "ring"}, {"red", "blue", "big"})
    assert naming_words([]) == (set(), set())
