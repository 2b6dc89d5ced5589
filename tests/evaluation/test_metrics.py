"""Caption metrics: known values and missing Java."""

import math
import re
import shutil
import subprocess

import pytest
from pycocoevalcap.meteor.meteor import METEOR_JAR
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.evaluation.java import JAVA_OPTIONS, MeteorProcess, ptb_tokens, start_meteor
from keras_aoa.evaluation.metrics import METRICS, NO_SPACES, _mostly_spaceless, cider, score
from keras_aoa.evaluation.results import read_references
from keras_aoa.utils.errors import UserError

REFERENCES = {1: ["A dog runs."], "two": ["The small cat sleeps here.", "A cat sleeps!"]}
CAPTIONS = {1: "a dog runs fast", "two": "the small cat sleeps here"}
METEOR = {1: 0.48704502558483637, "two": 1.0}
ARABIC = "-Duser.language.format=ar -Duser.country.format=EG"  # a Java locale with other digits
GERMAN = f"-Duser.language=de -Duser.country=DE {ARABIC}"


@pytest.fixture(scope="module")
def java():
    if shutil.which("java") is None:
        pytest.skip("no Java on PATH")


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    """Set PATH to one empty folder; returns the folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def held_out(shared):
    """Return COCO's validation captions: all but the first as references, and the first."""
    captions = read_references(shared / "data/coco/annotations/captions_val2017.json")
    first = {image: texts[0] for image, texts in captions.items()}
    return {image: texts[1:] for image, texts in captions.items()}, first


def meteor_of_images(scores):
    """Return METEOR of the images in `REFERENCES`."""
    return {image: scores.per_image[image]["METEOR"] for image in REFERENCES}


def python_metrics(references, captions):
    return score(references, captions, "python", meteor=False).metrics


def test_bleu_is_precision_times_the_penalty_for_short_captions():
    longer = python_metrics({1: ["a dog runs"]}, {1: "a dog runs fast"})
    assert longer["Bleu_1"] == pytest.approx(3 / 4)
    assert longer["Bleu_2"] == pytest.approx(math.sqrt(3 / 4 * 2 / 3))
    shorter = python_metrics({1: ["a dog runs"]}, {1: "a dog"})
    assert shorter["Bleu_1"] == pytest.approx(math.exp(1 - 3 / 2))


def test_rouge_is_the_f_measure_of_the_longest_common_subsequence():
    received = python_metrics({1: ["a dog runs"]}, {1: "a dog quickly runs"})["ROUGE_L"]
    precision, recall, beta_squared = 3 / 4, 1, 1.2**2
    expected = (1 + beta_squared) * precision * recall / (recall + beta_squared * precision)
    assert received == pytest.approx(expected)


def test_captions_equal_to_their_references_have_the_highest_scores():
    references = {1: ["one red dog runs"], 2: ["two blue cats sleep"]}
    metrics = python_metrics(references, {1: "One red dog runs.", 2: "two blue cats sleep"})
    assert metrics == pytest.approx(dict.fromkeys(metrics, 1) | {"CIDEr": 10})


def test_cider_equals_the_cider_of_score():
    metrics = python_metrics(REFERENCES, CAPTIONS)
    assert cider(REFERENCES, CAPTIONS) == pytest.approx(metrics["CIDEr"], abs=1e-12)
    assert metrics["CIDEr"] > 1


def test_rouge_and_cider_are_means_over_images():
    scores = score(REFERENCES, CAPTIONS, "python", meteor=False)
    assert list(scores.per_image) == [1, "two"]
    for name in ("ROUGE_L", "CIDEr"):
        mean = sum(image[name] for image in scores.per_image.values()) / 2
        assert scores.metrics[name] == pytest.approx(mean)
    assert scores.per_image["two"]["Bleu_4"] == pytest.approx(1)


def test_a_single_image_has_cider_zero_and_a_note():
    scores = score({1: ["a dog"]}, {1: "a dog"}, "python", meteor=False)
    assert scores.metrics["CIDEr"] == 0
    assert scores.images == 1
    assert "CIDEr of a single image is 0 by definition" in scores.notes[0]


def test_a_caption_without_words_scores_zero():
    metrics = python_metrics({1: ["a dog runs"], 2: ["a cat", ""]}, {1: "...", 2: ""})
    assert metrics == pytest.approx(dict.fromkeys(metrics, 0), abs=1e-12)


@pytest.mark.parametrize("captions", [{}, {1: "a"}, {1: "a", "two": "b", "3": "c"}])
def test_captions_and_references_must_have_the_same_image_ids(captions):
    expected = {
        0: "expected captions to score in the captions, received none",
        1: "1 of 2 images in the references have no caption in the captions: two;",
        3: "1 of 3 image ids in the captions are not in the references: 3.",
    }
    for measure in (score, cider):
        with pytest.raises(UserError, match=expected[len(captions)]):
            measure(REFERENCES, captions)


def test_ids_that_are_text_and_numbers_raise_an_error():
    with pytest.raises(UserError, match="numbers in both or as text in both"):
        cider({1: ["a dog"]}, {"1": "a dog"})


def test_an_image_whose_references_have_no_word_raises_an_error():
    with pytest.raises(UserError, match="1 of 2 images have no reference with words: 2;"):
        cider({1: ["a dog"], 2: ["!", ""]}, {1: "a dog", 2: "a cat"})


def test_an_unknown_tokenizer_raises_an_error():
    with pytest.raises(UserError, match="expected auto, ptb, python, received 'PTB'"):
        score(REFERENCES, CAPTIONS, "PTB")


@pytest.mark.usefixtures("no_java")
def test_without_java_only_meteor_is_missing_with_a_one_line_reason(capfd):
    scores = score(REFERENCES, CAPTIONS)
    assert scores.tokenizer == "python"
    assert list(scores.metrics) == [name for name in METRICS if name != "METEOR"]
    assert scores.missing == {
        "METEOR": "METEOR needs Java 8 or newer, `java` was not found on PATH; "
        "install one (Debian: apt-get install default-jre-headless)."
    }
    assert capfd.readouterr() == ("", "")
    with pytest.raises(UserError, match="The PTB tokenizer needs Java 8 or newer, `java` was not"):
        score(REFERENCES, CAPTIONS, "ptb")


@pytest.mark.parametrize("tokenizer", ["auto", "python"])
def test_java_that_fails_is_quoted_in_one_line(no_java, tokenizer, capfd):
    fake = no_java / "java"
    fake.write_text("#!/bin/sh\necho Unable to locate >&2\necho a Java Runtime. >&2\nexit 1\n")
    fake.chmod(0o755)
    scores = score(REFERENCES, CAPTIONS, tokenizer)
    assert "CIDEr" in scores.metrics
    assert "`java` failed: Unable to locate a Java Runtime.;" in scores.missing["METEOR"]
    assert "\n" not in scores.missing["METEOR"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("Error: Unable to access jarfile meteor-1.5.jar", "Unable to access jarfile"),
        ("Picked up JAVA_TOOL_OPTIONS: -Da=b\nError: no memory\n    at x.y(Z.java:3)", "no memory"),
        ("", "no error message"),
    ],
)
def test_the_reason_of_java_is_quoted_and_not_guessed(no_java, output, reason):
    fake = no_java / "java"
    fake.write_text(f"#!/bin/sh\nprintf '{output}' >&2\nexit 1\n")
    fake.chmod(0o755)
    problem = score(REFERENCES, CAPTIONS, "python").missing["METEOR"]
    assert f"{reason}; remove the cause" in problem or f"{reason} meteor-1.5.jar;" in problem
    assert not re.search("Java 8|apt-get|Picked up|Z.java", problem)


@pytest.mark.usefixtures("java")
def test_line_breaks_and_empty_captions_do_not_shift_later_captions():
    captions = [
        "",
        "a\nb",
        "c\r\nd",
        "e\u2028f\x0b",
        "\n",
        "<a b='x",
        "y'> café",
        "🙂",
        "\ud83d",
        "g",
    ]
    received = ptb_tokens(captions)
    assert received[:5] == ["", "a b", "c d", "e f", ""]
    assert received[6].endswith("café")
    assert received[7:] == ["", "", "g"]


@pytest.mark.usefixtures("java")
def test_java_tokens_equal_those_of_pycocoevalcap(held_out):
    captions = list(held_out[1].values())
    theirs = PTBTokenizer().tokenize({1: [{"caption": caption} for caption in captions]})
    assert ptb_tokens(captions) == theirs[1]


@pytest.fixture(scope="module")
def meteor(java):
    """A METEOR process in Java locales that it must replace, which two tests share.

    Starting it takes 7 s.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", f"-Duser.language=it -Duser.country=IT {ARABIC}")
        patch.setenv("_JAVA_OPTIONS", GERMAN)
        return start_meteor()


def test_a_meteor_process_can_be_reused_in_any_locale(meteor):
    assert isinstance(meteor, MeteorProcess)
    for _ in range(2):
        scores = score(REFERENCES, CAPTIONS, "python", meteor)
        assert scores.missing == {}
        assert scores.metrics["METEOR"] == pytest.approx(0.5908534247121094)
        assert meteor_of_images(scores) == pytest.approx(METEOR)


@pytest.fixture
def starting(meteor, monkeypatch):
    """Make the next METEOR process the running one; returns the arguments of its start."""
    start, given = subprocess.Popen, []

    def take(command, **options):
        if METEOR_JAR not in command:
            return start(command, **options)
        given.append((command, options["env"]))
        return meteor.meteor_p

    monkeypatch.setattr(subprocess, "Popen", take)
    return given


def test_java_and_python_agree_on_real_captions_in_any_locale(
    held_out, capfd, monkeypatch, meteor, starting
):
    monkeypatch.setenv("_JAVA_OPTIONS", GERMAN)
    references, captions = held_out
    captions = {**captions, next(iter(captions)): ""}
    by_java = score({**references, **REFERENCES}, {**captions, **CAPTIONS})
    assert by_java.tokenizer == "PTB"
    assert list(by_java.metrics) == list(METRICS)
    assert not by_java.missing
    assert 0.2 < by_java.metrics["METEOR"] < 0.35  # human captions against each other
    assert next(iter(by_java.per_image.values()))["METEOR"] == 0
    assert meteor_of_images(by_java) == pytest.approx(METEOR)
    by_python = python_metrics({**references, **REFERENCES}, {**captions, **CAPTIONS})
    for name, value in by_python.items():
        assert value == pytest.approx(by_java.metrics[name], abs=0.002)
    assert capfd.readouterr() == ("", "")
    ((command, environment),) = starting
    assert set(JAVA_OPTIONS) < set(command)
    assert environment["_JAVA_OPTIONS"].startswith(GERMAN)
    assert meteor.meteor_p.poll() is not None, "the process ends with its object"


@pytest.mark.usefixtures("no_java")
def test_start_meteor_returns_true_without_java():
    assert start_meteor() is True


@pytest.mark.parametrize("text", ["一只狗在草地上奔跑", "คนกำลังวิ่ง", "犬が走る"])
def test_scripts_without_spaces_are_scored_by_character_without_meteor(text):
    references = {1: [text], 2: [text[::-1]]}
    captions = {1: " ".join(tokenize(text)), 2: "a dog"}
    scores = score(references, captions, "python")
    assert scores.missing == {"METEOR": NO_SPACES}
    assert scores.per_image[1]["Bleu_1"] == pytest.approx(1)
    # A foreign word in an English caption does not count as such a script.
    english = {1: ["a dog", "a 狗", "dogs"], 2: ["a cat", "a cat sits", "cats"]}
    assert not _mostly_spaceless(english)
