"""Tests of the drawn data set: captions agree with the pictures, and settings reproduce it."""

import collections
import json

import cv2
import pytest

from keras_aoa.data import scenes
from keras_aoa.data.scenes import dataset
from keras_aoa.data.text.attributes import attribute_words
from keras_aoa.data.text.mentions import find_noun_phrases, matching_objects, naming_words
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.settings.presets import PRESETS
from keras_aoa.utils.errors import UserError

SETTINGS = scenes.ScenesSettings(train=160, val=10, test=30)
TINY = scenes.ScenesSettings(train=3, val=1, test=1, size=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return scenes.prepare(tmp_path_factory.mktemp("cache"), SETTINGS)


def test_scenes_have_enough_words_for_the_attributes_of_their_presets(data):
    captions = [caption for example in data.splits["train"] for caption in example.captions]
    vocabulary = Vocabulary.from_captions(captions, 1)
    for name in ("scenes", "scenes-full", "study"):
        count = PRESETS[name].concept_count
        assert len(attribute_words(vocabulary, count)) == count


def every_example(data):
    return [example for split in data.splits.values() for example in split]


def every_caption(data):
    """Yield the example, the number and the words of every caption."""
    for example in every_example(data):
        for number, caption in enumerate(example.captions):
            yield example, number, tokenize(caption)


def center(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_counts_sizes_and_ids_match_the_settings(data):
    assert {split: len(examples) for split, examples in data.splits.items()} == {
        "train": 160,
        "val": 10,
        "test": 30,
    }
    examples = every_example(data)
    assert len({example.image_id for example in examples}) == 200
    assert all(cv2.imread(example.path).shape == (96, 96, 3) for example in examples[::9])
    assert all(len(set(example.captions)) == 5 for example in examples)
    assert all(3 <= len(example.objects) <= 5 for example in examples)


def test_the_same_settings_give_the_same_bytes(tmp_path):
    scenes.write(tmp_path / "one", TINY, progress=False)
    scenes.write(tmp_path / "two", TINY, progress=False)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert len(files(tmp_path / "one")) == 6


def test_a_larger_data_set_begins_with_the_smaller_one(tmp_path):
    larger = scenes.ScenesSettings(train=5, val=2, test=3, size=64)
    scenes.write(tmp_path / "small", TINY, progress=False)
    scenes.write(tmp_path / "large", larger, progress=False)
    small, large = files(tmp_path / "small"), files(tmp_path / "large")
    shorter, longer = (json.loads(some.pop("scenes.json"))["splits"] for some in (small, large))
    assert small.items() <= large.items()
    assert all(shorter[split] == longer[split][: len(shorter[split])] for split in shorter)


def test_another_seed_draws_other_scenes(tmp_path):
    scenes.write(tmp_path / "one", TINY, progress=False)
    scenes.write(tmp_path / "two", scenes.ScenesSettings(1, 3, 1, 1, 64), progress=False)
    assert not set(files(tmp_path / "one").values()) & set(files(tmp_path / "two").values())


def test_no_scene_is_in_two_splits_or_twice_in_one(data):
    examples = every_example(data)
    assert len({tuple(thing.box for thing in example.objects) for example in examples}) == 200


def test_captions_have_8_to_16_words_from_100_to_160_distinct_ones(data):
    vocabulary = collections.Counter()
    for _, _, words in every_caption(data):
        assert 8 <= len(words) <= 16
        vocabulary.update(words)
    assert 100 <= len(vocabulary) <= 160
    assert vocabulary["left"] > 50 and vocabulary["right"] > 50


def test_tokens_are_the_words_without_punctuation(data):
    for example, number, words in every_caption(data):
        assert words == example.captions[number].lower().replace(",", "").rstrip(".").split()


def test_each_phrase_names_the_object_in_its_box(data):
    for example in every_example(data):
        objects = {thing.box: thing for thing in example.objects}
        for phrase in example.phrases:
            words = tokenize(example.captions[phrase.caption])[phrase.first : phrase.last]
            assert words[0] == ("an" if words[1][0] in "aeiou" else "a")
            assert words[-1] in objects[phrase.box].nouns
            assert set(words[1:-1]) <= objects[phrase.box].adjectives


def test_phrases_cover_all_noun_phrases_that_name_objects(data):
    nouns, adjectives = naming_words(every_example(data))
    for example, number, words in every_caption(data):
        ends = [phrase.index + 1 for phrase in find_noun_phrases(words, nouns, adjectives)]
        assert ends == [phrase.last for phrase in example.phrases if phrase.caption == number]
        assert len(ends) in (2, 3)


def test_every_noun_phrase_matches_an_object(data):
    nouns, adjectives = naming_words(every_example(data))
    for example, _, words in every_caption(data):
        for phrase in find_noun_phrases(words, nouns, adjectives):
            assert matching_objects(phrase, example.objects)


# Words between two phrases, and the condition they imply for (dx, dy), the offset from the first
# phrase's box to the second.
RELATIONS = {
    "left of": lambda dx, dy: dx > abs(dy),
    "right of": lambda dx, dy: -dx > abs(dy),
    "above": lambda dx, dy: dy > abs(dx),
    "below": lambda dx, dy: -dy > abs(dx),
    "inside": lambda dx, dy: max(abs(dx), abs(dy)) < 0.05,
    "on top of": lambda dx, dy: dy > abs(dx),
    "behind": lambda dx, dy: abs(dx) < 0.35 and abs(dy) < 0.15,
    "in front of": lambda dx, dy: abs(dx) < 0.35 and abs(dy) < 0.15,
}
PLACES = {
    "in the top left corner": lambda x, y: x < 0.35 and y < 0.35,
    "in the bottom right corner": lambda x, y: x > 0.65 and y > 0.65,
    "on the left side": lambda x, y: x < 0.35,
    "on the right side": lambda x, y: x > 0.65,
    "at the top": lambda x, y: y < 0.35,
    "at the bottom": lambda x, y: y > 0.65,
}


def test_relations_and_positions_in_captions_are_true(data):
    checked = collections.Counter()
    for example, number, words in every_caption(data):
        phrases = [phrase for phrase in example.phrases if phrase.caption == number]
        for phrase, after in zip(phrases, [*phrases[1:], None], strict=True):
            x, y = center(phrase.box)
            between = " ".join(words[phrase.last : after.first if after else None])
            if after:
                x_after, y_after = center(after.box)
                for text, holds in RELATIONS.items():
                    if between.endswith(text):
                        assert holds(x_after - x, y_after - y), example.captions[number]
                        checked[text] += 1
            for text, holds in PLACES.items():
                if between == text:
                    assert holds(x, y), example.captions[number]
                    checked[text] += 1
    assert set(checked) == {*RELATIONS, *PLACES}


def test_left_and_right_are_true_in_both_sentence_forms(data):
    turned = 0
    for example, number, words in every_caption(data):
        for side, sign in (("left", 1), ("right", -1)):
            if words[-3:] in (["to", "its", side], ["on", "its", side]):
                whole, part = (p.box for p in example.phrases if p.caption == number)
                assert sign * (center(whole)[0] - center(part)[0]) > 0
                turned += 1
    assert turned > 10


def test_prepare_draws_only_once(tmp_path, monkeypatch):
    first = scenes.prepare(tmp_path, TINY)
    monkeypatch.setattr(dataset, "write", lambda *_: pytest.fail("drawn again"))
    assert scenes.prepare(tmp_path, TINY) == first
    assert len(list(tmp_path.iterdir())) == 1


def test_each_setting_has_its_own_folder(tmp_path):
    for settings in (
        TINY,
        scenes.ScenesSettings(1, 3, 1, 1, 64),
        scenes.ScenesSettings(0, 2, 1, 1),
    ):
        scenes.prepare(tmp_path, settings)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_moved_data_set_can_be_read(tmp_path):
    scenes.write(tmp_path / "here", TINY, progress=False)
    before = scenes.read(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    after = scenes.read(tmp_path / "there")
    assert after.splits["val"][0].captions == before.splits["val"][0].captions
    assert cv2.imread(after.splits["val"][0].path) is not None


def test_an_interrupted_run_leaves_no_files(tmp_path, monkeypatch):
    def stop_at_second(*arguments):
        if arguments[-1] == 1:
            raise KeyboardInterrupt
        return b"", {}

    monkeypatch.setattr(dataset, "_draw_and_describe", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        scenes.write(tmp_path / "scenes", TINY, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match=r"scenes: expected a new or empty folder; received .*"):
        scenes.write(tmp_path, TINY, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_missing_or_foreign_data_set_file_is_rejected(tmp_path):
    with pytest.raises(UserError, match=r"which has no scenes.json; remove the folder"):
        scenes.read(tmp_path)
    (tmp_path / "scenes.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(UserError, match="scenes: expected format 1; received format 99 in"):
        scenes.read(tmp_path)


@pytest.mark.parametrize(
    ("setting", "least"), [("seed", 0), ("train", 1), ("val", 1), ("test", 1), ("size", 64)]
)
def test_settings_that_are_too_small_are_rejected(setting, least):
    scenes.ScenesSettings(**{setting: least})
    with pytest.raises(UserError, match=f"scenes: expected {setting} of {least} or more; received"):
        scenes.ScenesSettings(**{setting: least - 1})
