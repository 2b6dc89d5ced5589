"""Tests of the words for COCO's categories."""

import json

import pytest

from keras_aoa.data.text.coco_synonyms import SYNONYMS, nouns_of, plural


def test_categories_are_those_of_coco(shared):
    path = shared / "data/coco/annotations/instances_val2017.json"
    categories = json.loads(path.read_text())["categories"]
    assert list(SYNONYMS) == [category["name"] for category in categories]


def test_nouns_of_a_category_are_its_name_last_word_and_synonyms_with_plurals():
    assert {"person", "man", "men", "women", "people", "boys", "children"} <= nouns_of("person")
    expected = {"dining table", "dining tables", "table", "tables"}
    assert nouns_of("dining table") == expected
    assert "dog" not in nouns_of("hot dog") and "hot dogs" in nouns_of("hot dog")
    assert nouns_of("unicorn") == {"unicorn", "unicorns"}


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("dog", "dogs"),
        ("bus", "buses"),
        ("bench", "benches"),
        ("lady", "ladies"),
        ("toy", "toys"),
        ("wine glass", "wine glasses"),
        ("knife", "knives"),
        ("computer mouse", "computer mice"),
        ("sheep", "sheep"),
        ("skis", "skis"),
    ],
)
def test_plurals(one, many):
    assert plural(one) == many


def test_no_word_names_two_categories_with_one_exception():
    """The exception is "bear", which also names a teddy bear."""
    owners = {}
    for category in SYNONYMS:
        for noun in nouns_of(category):
            owners.setdefault(noun, []).append(category)
    shared_words = {noun for noun, categories in owners.items() if len(categories) > 1}
    assert shared_words == {"bear", "bears"}
