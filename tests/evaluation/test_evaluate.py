"""Scores of an evaluation by hand: each caption meets all references of its own image."""

import json
from types import SimpleNamespace

import pytest

from keras_aoa.data.examples import CaptionData, Example
from keras_aoa.evaluation import evaluate as evaluation
from keras_aoa.evaluation.metrics import score
from keras_aoa.evaluation.split import EvaluationSettings, SplitCaptioner
from keras_aoa.inference.caption import Caption
from keras_aoa.settings.configuration import Configuration

# The references of an image have no word in common with each other or with the other image's.
REFERENCES = {
    "first.png": ("a red dog runs", "one big cat sleeps"),
    "second.png": ("the blue bird flies", "two fish swim far"),
}
EXAMPLES = (
    Example("unreadable.png", "0.png", ("some other image here", "nothing else")),
    *(Example(name, name, texts) for name, texts in REFERENCES.items()),
)
TRAINING = (Example("trained.png", "3.png", ("Two fish swim far.", "a red dog")),)


@pytest.fixture
def run(tmp_path):
    """A stand-in of a run, whose test split is `EXAMPLES`."""
    return SimpleNamespace(
        configuration=Configuration(data="animals"),
        results_folder=tmp_path,
        load_data=lambda data, images: CaptionData(
            data or "animals", {"train": TRAINING, "test": EXAMPLES}
        ),
    )


def says(first, second):
    """Captions of the two readable images by index."""
    return {1: Caption(first, (), 0.0), 2: Caption(second, (), 0.0)}


@pytest.mark.parametrize(
    ("captions", "bleu", "cider"),
    [
        (("one big cat sleeps", "two fish swim far"), 1, 5),
        (("a red dog runs", "the blue bird flies"), 1, 5),
        (("a red dog runs", "a red dog runs"), 0.5, 2.5),
        (("two fish swim far", "one big cat sleeps"), 0, 0),
    ],
)
def test_captions_are_scored_against_all_references_of_their_image(
    run, monkeypatch, capsys, captions, bleu, cider
):
    """CIDEr of a caption is 10 for an equal reference, 0 for another; the mean over both counts."""
    monkeypatch.setattr(evaluation, "start_meteor", lambda: False)
    monkeypatch.setattr(evaluation, "draw", lambda *_: None)
    generator = SimpleNamespace(settings={"beam": 1})
    monkeypatch.setattr(SplitCaptioner, "generator", lambda task: generator)
    monkeypatch.setattr(SplitCaptioner, "images", None)
    monkeypatch.setattr(SplitCaptioner, "captions", lambda task, generator: says(*captions))
    content = evaluation.evaluate(run, EvaluationSettings(tokenizer="python"))
    assert content["Bleu_1"] == pytest.approx(bleu, abs=1e-6)
    assert content["CIDEr"] == pytest.approx(cider, abs=1e-6)
    assert content["images"] == 2 and content["search"] == {"beam": 1}
    printed = capsys.readouterr().out.splitlines()
    assert f"Bleu_1 {100 * bleu:.1f}" in printed
    assert f"vocabulary_used {content['diversity']['vocabulary_used']}" in printed
    assert "mean_length 4.0" in printed and "phrases" not in printed
    assert f"distinct_1 {100 * content['diversity']['distinct_1']:.1f}" in printed
    for name in ("scores.json", "scores_test.json"):
        assert json.loads((run.results_folder / name).read_text()) == content
    written = json.loads((run.results_folder / "captions_test.json").read_text())
    assert {entry["image_id"]: entry["caption"] for entry in written} == dict(
        zip(REFERENCES, captions, strict=True)
    )


def test_only_the_runs_own_data_tells_which_captions_are_novel(run):
    texts = {"first.png": "two fish swim far", "second.png": "a red cat"}
    for data, novel in (("", 0.5), ("other", None)):
        task = SplitCaptioner(run, EvaluationSettings(data=data, split="test"))
        assert task.diversity(texts)["diversity"]["novel_captions"] == novel


def test_references_and_texts_have_the_ids_of_their_images(run):
    task = SplitCaptioner(run, EvaluationSettings())
    references, texts = task.references({2: Caption("b", (), 0.0), 1: Caption("a", (), 0.0)})
    assert references == REFERENCES
    assert texts == {"first.png": "a", "second.png": "b"}


def test_a_human_caption_is_scored_against_the_other_references_only():
    """Of three references two are equal: each of them meets an equal and another one, CIDEr 5."""
    references = {
        1: ["a red dog runs", "a red dog runs", "one big cat sleeps"],
        2: ["the blue bird flies", "the blue bird flies", "two fish swim far"],
    }
    captions = {1: "one big cat sleeps", 2: "the blue bird flies"}
    found = score(references, captions, "python", meteor=False).agreement
    # Humans: 5, 5 and 0. Captions: 5, 5 and 0 of image 1; 5, 5 and 10 of image 2.
    assert found["human_CIDEr_leave_one_out"] == pytest.approx(10 / 3)
    assert found["CIDEr_leave_one_out"] == pytest.approx((10 / 3 + 20 / 3) / 2)
    assert found["share_of_human_CIDEr"] == pytest.approx(1.5)
    fewer = {image: texts[:2] for image, texts in references.items()}
    assert score(fewer, captions, "python", meteor=False).agreement == {}
