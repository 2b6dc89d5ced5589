"""Captions of many images, several captions of an image, and their probabilities."""

import csv
import io
import json
import math
import os

import numpy as np
import pytest
from threads import in_threads, one_at_a_time

import keras_aoa
from keras_aoa import caption
from keras_aoa.inference.batches import BatchCaptioner
from keras_aoa.inference.caption import from_bytes, to_bytes
from keras_aoa.inference.entries import Entry
from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.inference.lines import json_line, table_rows, text_lines
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError


@pytest.fixture(scope="module")
def captioner(trained):
    return ImageCaptioner(trained.folder, beam=3)


@pytest.fixture(scope="module")
def batches(captioner):
    """A `BatchCaptioner` of two images at a time; each new one traces how it reads images."""
    return BatchCaptioner(captioner, 2)


@pytest.fixture
def command(trained, monkeypatch, captioner, batches):
    """Call the command with a loaded run of beam 3, in batches of two images."""

    def load(run, **search_settings):
        assert search_settings in ({}, {"beam": 3})
        return captioner

    def in_batches(loaded, batch_size):
        assert loaded is captioner and batch_size == 32
        return batches

    monkeypatch.setattr("keras_aoa.inference.image_captioner.ImageCaptioner", load)
    monkeypatch.setattr("keras_aoa.inference.batches.BatchCaptioner", in_batches)
    return lambda *arguments: caption.main([str(trained.folder), *map(str, arguments)])


def test_a_list_of_paths_bytes_and_pixels_gives_the_captions_of_single_images(captioner, squares):
    from keras_aoa.data.images.preprocessing import read_image

    paths = [squares / f"{number:02d}.png" for number in range(5)]
    images = [paths[0], paths[1].read_bytes(), read_image(paths[2]), str(paths[3])]
    captions = captioner.caption(images)
    for image, together in zip(images, captions, strict=True):
        alone = captioner.caption(image)
        assert together.text == alone.text
        assert together.log_prob == pytest.approx(alone.log_prob, abs=1e-4)
        np.testing.assert_allclose(together.attention, alone.attention, atol=1e-4)
        assert together.image is None
        np.testing.assert_array_equal(together.pixels, alone.image)
    assert captioner.caption(iter(paths[:2])) is not None
    assert captioner.caption([]) == []


def test_threads_that_share_a_captioner_caption_one_after_another(captioner, squares, monkeypatch):
    images = [squares / "00.png", [squares / "01.png"], squares / "02.png", [squares / "03.png"]]
    alone = [captioner.caption(image) for image in images]
    hypotheses = one_at_a_time(captioner.generator.hypotheses)
    monkeypatch.setattr(captioner.generator, "hypotheses", hypotheses)
    for one, other in zip(alone, in_threads(captioner.caption, images), strict=True):
        one, other = (found[0] if isinstance(found, list) else found for found in (one, other))
        assert one.text == other.text and one.log_prob == other.log_prob


def test_an_unreadable_image_of_a_list_is_named(captioner, squares):
    with pytest.raises(
        UserError, match=r"nowhere\.jpg \(index 1\): expected an image, received: No"
    ):
        captioner.caption([squares / "00.png", "nowhere.jpg"])
    with pytest.raises(UserError, match=r"\(index 1\): caption: expected the path .* NoneType"):
        captioner.caption([squares / "00.png", None])
    with pytest.raises(
        UserError, match=r"the bytes \(index 0\): expected a JPEG.*\(.+\); convert it"
    ):
        captioner.caption([b"text"])


def test_probabilities_of_words_belong_to_the_caption(captioner, squares):
    captions = captioner.captions(squares / "03.png")
    assert len(captions) == 3
    for one in captions:
        assert len(one.word_probs) == len(one.words)
        stop = one.log_prob - np.log(one.word_probs).sum()
        assert -20 < stop <= 1e-4
        steps = len(one.words) + (stop < -1e-6)  # a caption of maximum length has no STOP
        assert one.confidence == pytest.approx(math.exp(one.log_prob / steps), rel=1e-4)
    best = captioner.captions(squares / "03.png", 2)
    assert [one.text for one in best] == [one.text for one in captions[:2]]
    copied = from_bytes(to_bytes({7: captions[0]}))[7]
    assert (copied.word_probs, copied.confidence) == (
        captions[0].word_probs,
        captions[0].confidence,
    )


@pytest.mark.parametrize("k", [0, 4, 2.5, "3"])
def test_more_captions_than_the_beam_are_refused(captioner, squares, k):
    with pytest.raises(UserError, match=f"expected 1 to 3 captions .the beam., received {k!r}"):
        captioner.captions(squares / "03.png", k)


def test_captions_below_the_least_confidence_are_left_out(captioner, batches, squares):
    content = (squares / "03.png").read_bytes()
    every = captioner.captions(content)
    confidences = sorted(one.confidence for one in every)
    for limit in (0.0, confidences[1], confidences[2] + 1e-6):
        (image,) = batches([Entry("a", content)], 3, limit - 1e-7)
        kept = [one.text for one in every if one.confidence >= limit - 1e-7]
        assert [one.text for one in image.captions] == kept
        assert image.best_confidence == pytest.approx(every[0].confidence, abs=1e-5)


def test_a_table_has_a_row_per_caption_and_names_errors(command, squares, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"none")
    output = tmp_path / "captions.csv"
    with pytest.raises(UserError, match="1 of 16 images could not be read"):
        command(squares, broken, "--captions", 3, "--output", output)
    assert "captions of 15 of 16 images" in capsys.readouterr().out
    with open(output, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 46
    assert rows[-1]["error"].startswith("expected a JPEG")
    for row in rows[:-1]:
        assert 0 < float(row["confidence"]) < 1
        assert float(row["log_prob"]) < 0
        assert row["caption"]
    assert [row["rank"] for row in rows[:6]] == ["1", "2", "3"] * 2
    with pytest.raises(UserError, match=r"captions\.csv exists, and is not overwritten"):
        command(squares, "--output", output)


def test_each_row_is_on_the_disk_before_the_next_image(batches, squares, tmp_path):
    """A killed command keeps what it wrote."""
    output = tmp_path / "captions.csv"
    settings = caption.Arguments(run="run", output=str(output))
    entries = [Entry(str(n), (squares / f"0{n}.png").read_bytes()) for n in range(2)]
    with caption.opened(settings) as write:
        for rows, image in enumerate(batches(entries), 1):
            write(image)
            assert len(output.read_text().splitlines()) == rows + 1


def test_json_lines_describe_all_captions(command, squares, tmp_path, captioner):
    output = tmp_path / "captions.jsonl"
    command(squares / "03.png", "--captions", 2, "--beam", 3, "--output", output)
    line = json.loads(output.read_text())
    expected = captioner.captions(squares / "03.png", 2)
    assert [one["caption"] for one in line["captions"]] == [one.text for one in expected]
    for one, caption_ in zip(line["captions"], expected, strict=True):
        probs = [word["prob"] for word in one["words"]]
        np.testing.assert_allclose(probs, caption_.word_probs, rtol=1e-4)
        assert one["confidence"] == pytest.approx(caption_.confidence, rel=1e-4)
    first, second = line["captions"]
    assert (first.pop("rank"), second["rank"]) == (1, 2)
    assert {name: line[name] for name in first} == first


def test_captions_keep_their_ranks_and_the_largest_confidence_is_named(captioner, batches, squares):
    """Search ranks by score, so the second caption may have more confidence than the first."""
    content = (squares / "03.png").read_bytes()
    every = captioner.captions(content)
    best = max(range(3), key=lambda index: every[index].confidence)
    (image,) = batches([Entry("a", content)], 3, every[best].confidence - 1e-6)
    assert image.ranks == (best + 1,)
    assert text_lines(image)[0].startswith(f"a: {best + 1}. {every[best].text} (")
    assert json.loads(json_line(image))["captions"][0]["rank"] == best + 1
    assert [row[1] for row in table_rows(image)] == [best + 1]
    (none,) = batches([Entry("a", content)], 3, 0.999)
    assert none.best_confidence == pytest.approx(every[best].confidence, abs=1e-5)
    assert table_rows(none)[0][3] == ""
    assert "the largest confidence is" in table_rows(none)[0][5]


def test_names_that_are_not_utf_8_are_written(command, squares, tmp_path):
    image = os.fsencode(tmp_path) + b"/lat\xe9.png"
    with open(image, "wb") as file:
        file.write((squares / "03.png").read_bytes())
    command(os.fsdecode(image), "--output", tmp_path / "a.csv")
    assert b"lat\\udce9.png,1," in (tmp_path / "a.csv").read_bytes()


def test_open_files_are_read_and_pixels_are_copied(captioner, squares):
    with open(squares / "03.png", "rb") as file:
        caption_ = captioner.caption(file)
    assert caption_.text == captioner.caption(squares / "03.png").text
    pixels = caption_.pixels.copy()
    kept = captioner.caption(pixels)
    pixels[:] = 0
    np.testing.assert_array_equal(kept.pixels, caption_.pixels)
    assert len({kept, caption_}) == 2


def test_a_caption_without_its_file_shows_no_picture(captioner, squares, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes((squares / "03.png").read_bytes())
    (caption_,) = captioner.caption([file])
    assert "<svg" in caption_._repr_html_()
    file.unlink()
    assert caption_._repr_html_() is None
    assert repr(caption_).startswith(f"Caption({caption_.text!r}, confidence=0.")


def test_uncertain_captions_are_left_out_and_said(command, squares, capsys):
    command(squares / "03.png", "--least-confidence", 1)
    assert "03.png: no caption; the largest confidence is 0." in capsys.readouterr().out
    command(squares / "03.png", "--least-confidence", 1, "--json")
    line = json.loads(capsys.readouterr().out)
    assert line["caption"] is None
    assert 0 < line["confidence"] < 1


def test_paths_come_from_standard_input_and_subfolders(
    command, squares, tmp_path, monkeypatch, capsys
):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    (inside / "x.png").write_bytes((squares / "03.png").read_bytes())
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(UserError, match="found none; add --recursive for the 1 in subfolders"):
        command(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{squares / '04.png'}\n{tmp_path}\n\n"))
    command("-", "--recursive")
    printed = capsys.readouterr()
    names = [line.split(": ")[0] for line in printed.out.splitlines()]
    assert names == [str(squares / "04.png"), str(inside / "x.png")]
    assert f"Skipped files that are not images (1): {tmp_path / 'notes.txt'}." in printed.err
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UserError, match="expected paths on standard input, received none"):
        command("-")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"gone.png\n{squares / '04.png'}\n"))
    with pytest.raises(UserError, match="1 of 2 images could not be read"):
        command("-")
    printed = capsys.readouterr()
    assert printed.out.startswith(str(squares / "04.png"))
    assert "gone.png: expected an image, received: No such file" in printed.err


def test_more_captions_enlarge_the_beam(trained):
    def beam(*arguments):
        settings = caption.parse(caption.Arguments, "caption", [str(trained.folder), *arguments])
        return caption.search_changes(settings).get("beam")

    assert trained.configuration.beam == 2
    assert beam("--captions", "1") is None
    assert beam("--captions", "5") == 5
    assert beam("--captions", "5", "--groups", "3") == 6
    assert beam("--captions", "2", "--beam", "4") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--captions", "3", "--beam", "2"], "captions: expected at most the beam 2, received 3"),
        (["--captions", "0"], "captions: expected at least 1, received 0"),
        (["--least-confidence", "1.5"], "least_confidence: expected a number from 0 to 1"),
        (["--least-confidence", "nan"], "least_confidence: expected a number from 0 to 1"),
        (["--output", "a.txt"], r"output: expected FILE\.jsonl or FILE\.csv, received 'a\.txt'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        caption.main(["run", "image.png", *arguments])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_words": 0}, "min_words: expected at least 1, received 0"),
        ({"no_repeat": 1.5}, r"no_repeat: expected a whole number, received 1\.5"),
        ({"diversity": 1.0}, "diversity: applies only with groups, which is missing"),
        ({"temperature": 1.0}, "temperature: applies only with sample, which is missing"),
        ({"sample": True, "temperature": 0.0}, "temperature: expected more than 0"),
        ({"sample": True, "temperature": math.inf}, "temperature: expected a finite number"),
        ({"sample": True, "top_p": 0.0}, "top_p: expected 0 < top_p <= 1"),
        ({"sample": True, "top_p": 1.1}, "top_p: expected 0 < top_p <= 1"),
        ({"sample": True, "top_k": 0}, "top_k: expected at least 1"),
        ({"sample": True, "seed": -1}, "seed: expected at least 0"),
        ({"groups": 2, "diversity": -1.0}, "diversity: expected at least 0"),
        ({"groups": 2, "sample": True}, "groups: cannot be combined with sample"),
        ({"avoid": "man"}, "avoid: expected a list of words, received 'man'"),
        ({"avoid": [3]}, r"avoid: expected a list of words, received \[3\]"),
        ({"prefix": ["a"]}, r"prefix: expected a text, received \['a'\]"),
        ({"sample": "no"}, "sample: expected True or False, received 'no'"),
        ({"beam": (1, 2)}, r"beam: expected a whole number, received \(1, 2\)"),
        ({"beam": 100_000}, "beam: expected at most 1000, received 100000"),
    ],
)
def test_wrong_search_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SearchSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam": 4, "groups": 3}, "groups: expected a divisor of the beam 4, received 3"),
        ({"min_words": 6}, "min_words: expected at most max_words=5, received 6"),
        ({"beem": 6}, "load: unknown setting 'beem'. Did you mean beam?"),
        (
            {"prefix": "a dinosaur"},
            "prefix: expected words that the captioner knows, received 'dinosaur'",
        ),
    ],
)
def test_settings_that_do_not_fit_the_run_are_refused(trained, settings, message):
    with pytest.raises(UserError, match=message):
        keras_aoa.load(trained.folder, **settings)


@pytest.mark.parametrize("run", [None, 3, ["flickr8k"]])
def test_a_run_of_another_type_is_refused(run):
    with pytest.raises(UserError, match="run: expected a run's folder or a captioner's name"):
        keras_aoa.load(run)


def test_avoid_that_took_the_images_is_noticed():
    message = "write them before --avoid, because --avoid takes all later arguments as words"
    with pytest.raises(UserError, match=message):
        caption.main(["flickr8k", "--avoid", "man", "photo.jpg"])


def test_changes_keep_zeros_but_not_defaults():
    settings = SearchSettings(length_penalty=0.0, sample=True, seed=0)
    assert settings.changes == {"length_penalty": 0.0, "sample": True, "seed": 0}
    assert SearchSettings().changes == {}
