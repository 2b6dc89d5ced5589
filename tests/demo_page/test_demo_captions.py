"""The demo page shows the captions that Python code gets, and the scores of the search."""

import concurrent.futures
import shutil
import time

import cv2
import numpy as np
import pytest

import keras_aoa
from keras_aoa.demo_page.captions import IMAGES, Demonstration
from keras_aoa.inference.sentences import SentenceScorer
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError

MAX_PIXELS = 10_000
FIELDS = ("log_prob", "confidence", "word_probs", "attention", "boxes", "mask", "window")


@pytest.fixture(scope="module")
def demonstration(trained):
    return Demonstration(trained.folder, MAX_PIXELS)


@pytest.fixture
def shown(demonstration, monkeypatch):
    """The lists of captions that the demonstration shows from now on, instead of HTML."""
    shown = []

    def show(captions, pixels):
        shown.append(captions)
        return f"{len(captions)} captions, {pixels.shape}"

    monkeypatch.setattr("keras_aoa.demo_page.captions.caption_html", show)
    return shown


@pytest.fixture(scope="module")
def photographs(squares):
    return [path.read_bytes() for path in sorted(squares.glob("*.png"))]


def check_equal(captions, expected):
    assert [one.words for one in captions] == [one.words for one in expected]
    for one, other in zip(captions, expected, strict=True):
        for name in FIELDS:
            values = getattr(one, name), getattr(other, name)
            np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("settings", "search"),
    [
        ({}, {"beam": 2}),
        ({"count": 5, "min_words": 2}, {"beam": 5, "min_words": 2}),
        (
            {"count": 3, "temperature": 1.5, "seed": 4},
            {"beam": 3, "sample": True, "temperature": 1.5, "seed": 4},
        ),
    ],
)
def test_captions_equal_those_in_python(
    demonstration, shown, trained, photographs, monkeypatch, settings, search
):
    compiled, used = demonstration._generator, []
    monkeypatch.setattr(
        demonstration, "_generator", lambda each: used.append(each) or compiled(each)
    )
    html, texts, note = demonstration.captions("a.png", photographs[0], **settings)
    count = settings.get("count", 1)
    expected = keras_aoa.load(trained.folder, **search).captions(photographs[0], count)
    check_equal(shown[0], expected)
    assert used == [SearchSettings(**search)]
    assert texts == [one.text for one in expected] and not note
    assert html == f"{len(expected)} captions, (40, 60, 3)"


def test_a_captions_score_is_that_of_the_search(demonstration, shown, trained, photographs):
    for caption in keras_aoa.load(trained.folder, beam=4).captions(photographs[1]):
        _, texts, note = demonstration.sentence("b.png", photographs[1], caption.text.upper() + ".")
        # A caption of the greatest length lacks its end, which a sentence always has.
        if len(caption.words) < demonstration.max_words:
            check_equal(shown[-1], [caption])
        assert texts == [caption.text] and not note


def test_a_sentence_is_scored_with_the_regions_of_the_captioner(trained, photographs):
    captioner = keras_aoa.load(trained.folder, stride=2)
    caption = captioner.captions(photographs[1], 1)[0]
    inputs = captioner.inputs(caption.image)
    scored = SentenceScorer(captioner)(inputs, caption.text)
    assert len(scored.mask) < len(keras_aoa.load(trained.folder).caption(photographs[1]).mask)
    for name in ("word_probs", "attention", "boxes", "mask"):
        np.testing.assert_allclose(getattr(scored, name), getattr(caption, name), rtol=1e-4)


def test_the_probability_of_a_word_does_not_depend_on_the_words_after_it(
    demonstration, shown, photographs
):
    long = " ".join(["a red square on the left"] * 6)
    for sentence in ("a red", long):
        demonstration.sentence("a.png", photographs[0], sentence)
    (short,), (long,) = shown
    assert len(long.words) == 36
    np.testing.assert_allclose(long.word_probs[:2], short.word_probs, rtol=1e-4)
    np.testing.assert_allclose(long.attention[:2], short.attention, rtol=1e-4, atol=1e-6)
    assert long.confidence == pytest.approx(np.exp(long.log_prob / 37))


def test_unknown_words_are_named(demonstration, shown, photographs):
    _, texts, note = demonstration.sentence("a.png", photographs[0], "A zebra, a gnu, a zebra")
    assert texts == ["a <unk> a <unk> a <unk>"]
    assert note == "The captioner does not know zebra, gnu, and reads <unk> instead."


@pytest.mark.parametrize("sentence", ["", " ... ", "a " * 61])
def test_a_sentence_has_1_to_60_words(demonstration, photographs, sentence):
    count = len(sentence.split()) if "a" in sentence else 0
    with pytest.raises(UserError, match=f"^sentence: expected 1 to 60 words, received {count}; "):
        demonstration.sentence("a.png", photographs[0], sentence)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "damaged file or another format"),
        (b"\xff\xd8\xff\xe0 broken", "damaged file or another format"),
        (b"\0\0\0\x1cftypjxl ", "damaged file or another format"),
        (b"\0\0\0\x0cJXL ", "a JPEG XL image; convert it to JPEG or PNG"),
        (
            cv2.imencode(".png", np.zeros((200, 300, 3), np.uint8))[1].tobytes(),
            "expected at most 0.01 megapixels, received 0.06; shrink the image, or start the page "
            "with --max-megapixels 1.",
        ),
    ],
)
def test_an_unreadable_photograph_is_one_line(demonstration, content, line):
    with pytest.raises(UserError) as error:
        demonstration.captions("my\nphoto.jpg", content)
    assert str(error.value).startswith("'my\\nphoto.jpg': expected") and line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"count": 0}, "captions: expected 1 to 5, received 0."),
        ({"count": 6}, "captions: expected 1 to 5, received 6."),
        ({"min_words": 6}, "min_words: expected at most max_words=5, received 6."),
        ({"temperature": 0.0}, "temperature: expected more than 0, received 0.0."),
        ({"temperature": 1.0, "seed": -1}, "seed: expected at least 0, received -1."),
    ],
)
def test_a_setting_out_of_range_is_one_line(demonstration, photographs, settings, line):
    with pytest.raises(UserError) as error:
        demonstration.captions("a.png", photographs[0], **settings)
    assert str(error.value) == line


def test_features_are_computed_once_per_photograph_and_the_oldest_photographs_are_forgotten(
    demonstration, photographs, monkeypatch
):
    read = []
    monkeypatch.setattr(
        demonstration,
        "_read",
        lambda name, content: (
            read.append(name) or type(demonstration)._read(demonstration, name, content)
        ),
    )
    demonstration._photographs.clear()
    for count in (1, 2, 2):
        demonstration.captions("a", photographs[0], count)
    demonstration.sentence("b", photographs[0], "a square")
    assert read == ["a"]
    for number in range(IMAGES):
        other = cv2.imencode(".png", np.full((8, 9, 3), number, np.uint8))[1].tobytes()
        demonstration.captions(str(number), other)
    demonstration.captions("last", other)
    demonstration.captions("again", photographs[0])
    assert read == ["a", *map(str, range(IMAGES)), "again"]
    assert len(demonstration._photographs) == IMAGES


def test_an_ensemble_is_shown_like_a_run(demonstration, shown, trained, photographs, tmp_path):
    copy = shutil.copytree(trained.folder, tmp_path / "copy")
    ensemble = Demonstration(f"{trained.folder},{copy}", MAX_PIXELS)
    ensemble.captions("a.png", photographs[2])
    demonstration.captions("a.png", photographs[2])
    assert shown[0][0].text == shown[1][0].text
    assert shown[0][0].log_prob == pytest.approx(shown[1][0].log_prob, rel=1e-4)
    ensemble.sentence("a.png", photographs[2], shown[0][0].text)
    assert shown[2][0].log_prob == pytest.approx(shown[0][0].log_prob, rel=1e-4)


def test_threads_get_the_answers_to_their_own_photographs_one_at_a_time(
    demonstration, photographs, monkeypatch
):
    expected = [demonstration.captions("a", content)[1] for content in photographs]
    assert len({*map(tuple, expected)}) > 1
    demonstration._photographs.clear()
    active, most = [], []
    prepare = demonstration._photograph

    def photograph(name, content):
        active.append(name)
        time.sleep(0.005)
        most.append(len(active))
        active.pop()
        return prepare(name, content)

    monkeypatch.setattr(demonstration, "_photograph", photograph)
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = pool.map(lambda content: demonstration.captions("a", content)[1], photographs * 3)
        assert list(answers) == expected * 3
    assert set(most) == {1}


def test_captions_with_object_proposals_equal_those_in_python(
    trained_proposals, shown, photographs
):
    demonstration = Demonstration(trained_proposals.folder, MAX_PIXELS)
    _, (text,), _ = demonstration.captions("a.png", photographs[3])
    demonstration.sentence("a.png", photographs[3], text)
    expected = keras_aoa.load(trained_proposals.folder).captions(photographs[3], 1)
    check_equal(shown[0], expected)
    np.testing.assert_allclose(shown[1][0].attention, expected[0].attention, rtol=1e-4, atol=1e-6)
