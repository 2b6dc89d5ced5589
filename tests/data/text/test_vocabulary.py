"""Tests of the vocabulary and its file."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_aoa.data.text.tokenizer import join_words, tokenize
from keras_aoa.data.text.vocabulary import OOV, PAD, SPECIAL, START, STOP, Vocabulary
from keras_aoa.utils.errors import UserError

CAPTIONS = ["A dog runs.", "a dog sits", "a cat", "zebras and a cat"]


@pytest.fixture
def vocabulary():
    return Vocabulary.from_captions(CAPTIONS, 1)


def test_special_words_have_fixed_ids(vocabulary):
    assert (PAD, START, STOP, OOV) == (0, 1, 2, 3)
    assert len(set(vocabulary.words[:4])) == 4


def test_words_are_sorted_by_count_then_alphabetically(vocabulary):
    assert vocabulary.words[4:] == ("a", "cat", "dog", "and", "runs", "sits", "zebras")
    assert len(vocabulary) == 11


def test_rare_words_are_left_out():
    assert Vocabulary.from_captions(CAPTIONS, 2).words[4:] == ("a", "cat", "dog")
    assert len(Vocabulary.from_captions(CAPTIONS, 5)) == 4


def test_caption_begins_with_start_and_ends_with_stop(vocabulary):
    assert vocabulary.encode("A cat runs!", 3) == [START, 4, 5, 8, STOP]
    assert vocabulary.encode("", 3) == [START, STOP]


def test_unknown_word_is_oov(vocabulary):
    assert vocabulary.encode("a purple dog", 20) == [START, 4, OOV, 6, STOP]


def test_cut_caption_has_no_stop(vocabulary):
    assert vocabulary.encode("a dog and a cat", 3) == [START, 4, 6, 7]


def test_special_words_in_a_caption_are_unknown_words(vocabulary):
    assert vocabulary.encode("a <stop> cat", 9) == [START, 4, OOV, 5, STOP]
    assert vocabulary.encode_words(["<pad>", "<start>"], 9) == [START, OOV, OOV, STOP]


def test_decoding_stops_at_stop_and_removes_padding(vocabulary):
    assert vocabulary.decode([START, 4, 6, STOP, 5, 5]) == "a dog"
    assert vocabulary.decode([START, 4, 6, PAD, PAD]) == "a dog"


words = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=12)


@given(st.lists(words, max_size=6).map(" ".join), st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_decoding_undoes_encoding(caption, max_words):
    known = Vocabulary.from_captions([caption], 1)
    tokens = tokenize(caption)
    ids = known.encode(caption, max_words)
    expected = [word if word not in SPECIAL else "<unk>" for word in tokens[:max_words]]
    assert known.decode(ids) == join_words(expected)
    encoded = known.encode_words(expected, max_words)
    assert encoded[: len(expected) + 1] == ids[: len(expected) + 1]
    assert (ids[-1] == STOP) == (len(tokens) <= max_words)


def test_loaded_vocabulary_equals_the_saved_one(vocabulary, tmp_path):
    vocabulary.save(tmp_path / "vocabulary.json")
    loaded = Vocabulary.load(tmp_path / "vocabulary.json")
    assert loaded.words == vocabulary.words and loaded.digest == vocabulary.digest
    assert [file.name for file in tmp_path.iterdir()] == ["vocabulary.json"]


def test_words_of_any_script_can_be_saved_and_loaded(tmp_path):
    vocabulary = Vocabulary(["été", "собака", "犬", '"', "\\"])
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json").words == vocabulary.words


def test_different_vocabularies_have_different_digests():
    digests = {Vocabulary(words).digest for words in (["a", "b"], ["b", "a"], ["ab"], [])}
    assert len(digests) == 4
    assert Vocabulary(["a"]).digest == Vocabulary(["a"]).digest


def edited(change):
    def edit(content):
        change(content)
        return json.dumps(content)

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda _: "no json {", "expected a vocabulary in JSON"),
        (lambda _: "[1, 2]", "expected a vocabulary with its 'words'"),
        (edited(lambda c: c.pop("words")), "expected a vocabulary with its 'words'"),
        (edited(lambda c: c.update(format=2)), "expected format 1, received 2"),
        (edited(lambda c: c["words"].reverse()), "expected the words to begin with <pad>"),
        (edited(lambda c: c.update(words=[])), "expected the words to begin with <pad>"),
        (edited(lambda c: c["words"].append("dog")), "each word once, received 'dog' twice"),
        (edited(lambda c: c["words"].append("<stop>")), "each word once, received '<stop>' twice"),
        (edited(lambda c: c["words"].append("two words")), "received 'two words'"),
        (edited(lambda c: c["words"].append("")), "received ''"),
        (edited(lambda c: c["words"].append(7)), "received 7"),
        (edited(lambda c: c["words"].append("bird")), "its words were edited"),
        (edited(lambda c: c["words"].insert(4, c["words"].pop())), "its words were edited"),
    ],
)
def test_invalid_file_is_rejected_in_one_line(vocabulary, tmp_path, edit, message):
    path = tmp_path / "vocabulary.json"
    vocabulary.save(path)
    path.write_text(edit(json.loads(path.read_text())))
    with pytest.raises(UserError) as error:
        Vocabulary.load(path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_binary_files_are_rejected_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: cannot read it \(No such file"):
        Vocabulary.load(tmp_path / "none.json")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match="expected a vocabulary in JSON"):
        Vocabulary.load(tmp_path / "image.png")


def test_importing_does_not_load_tensorflow():
    code = "import sys, keras_aoa.data.text.vocabulary; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_captions_are_mostly_known(shared):
    lines = (shared / "data/flickr8k/Flickr8k.token.txt").read_text().splitlines()
    captions = [line.split("\t")[1] for line in lines]
    vocabulary = Vocabulary.from_captions(captions, 5)
    ids = [word for caption in captions for word in vocabulary.encode(caption, 50)]
    assert 500 < len(vocabulary) < 3000
    assert 0 < ids.count(OOV) / len(ids) < 0.1
