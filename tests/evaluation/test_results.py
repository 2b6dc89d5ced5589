"""Files of captions, references and scores."""

import json

import pytest

from keras_aoa.evaluation.metrics import score
from keras_aoa.evaluation.results import (
    format_scores,
    read_references,
    read_results,
    score_files,
    write_results,
    write_scores,
)
from keras_aoa.utils.errors import UserError

REFERENCES = {1: ["A dog runs."], "two": ["The small cat sleeps here.", "A cat sleeps!"]}
CAPTIONS = {1: "a dog runs fast", "two": "the small cat sleeps here"}


def test_score_files_scores_captions_and_writes_the_scores(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # without Java
    results, references, output = (tmp_path / f"{name}.json" for name in ("r", "val", "scores"))
    write_results(results, CAPTIONS)
    notes = [
        {"image_id": image, "id": 1, "caption": text}
        for image, texts in REFERENCES.items()
        for text in texts
    ]
    references.write_text(json.dumps({"images": [], "annotations": notes}))
    scores = score_files(results, references, output)
    written = json.loads(output.read_text())
    assert written["Bleu_1"] == scores.metrics["Bleu_1"] == pytest.approx(8 / 9)
    assert written["tokenizer"] == "python"
    assert written["images"] == 2
    assert written["missing"] == scores.missing and list(scores.missing) == ["METEOR"]
    assert format_scores(scores).splitlines()[0] == "Bleu_1 88.9"

    write_results(results, {**CAPTIONS, **dict.fromkeys(range(5, 10), "x")})
    with pytest.raises(
        UserError, match=r"5 of 7 image ids in r.json are not in val.json: 5, 6, 7 and 2 more\."
    ):
        score_files(results, references)


def test_results_survive_a_round_trip(tmp_path):
    captions = {7: 'a "quoted"\ncafé', "x": "", "7": "🙂"}
    write_results(tmp_path / "captions.json", captions)
    assert read_results(tmp_path / "captions.json") == captions
    assert [path.name for path in tmp_path.iterdir()] == ["captions.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("old")
    scores = score(REFERENCES, CAPTIONS, "python", meteor=False)
    object.__setattr__(scores, "missing", {"METEOR": object()})
    with pytest.raises(TypeError):
        write_scores(path, scores)
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n{"image_id": 1,\n', "captions.json line 3: expected JSON"),
        ("[]x", "captions.json line 1: expected JSON"),
        ('{"image_id": 1}', "expected COCO's results, a list of objects with image_id and caption"),
        ('[{"image_id": 1}]', r"entry\[0\]: expected image_id, caption, received {'image_id': 1}"),
        ('[{"image_id": 1, "caption": null}]', r"entry\[0\]: expected image_id, caption"),
        ('[{"image_id": 1.5, "caption": "a"}]', r"entry\[0\]: expected image_id, caption"),
        ('[{"image_id": 4, "caption": "a"}, {"image_id": 4, "caption": "b"}]', "once: 4; keep one"),
    ],
)
def test_invalid_results_raise_a_one_line_error(tmp_path, text, message):
    path = tmp_path / "captions.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_results(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected an object with a list 'annotations'"),
        ('{"images": []}', "expected an object with a list 'annotations'"),
        ('{"annotations": [{"image_id": 1}]}', r"annotations\[0\]: expected image_id, caption"),
        ('{"annotations": []}', "expected captions in 'annotations', received none"),
    ],
)
def test_invalid_references_raise_an_error(tmp_path, text, message):
    path = tmp_path / "captions_val.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_references(path)


def test_a_missing_file_raises_an_error(tmp_path):
    with pytest.raises(UserError, match="expected a file to read, received 'No such file"):
        read_results(tmp_path / "none.json")


def test_scores_are_written_to_a_new_folder_or_refused_before_the_work(tmp_path):
    (tmp_path / "c.json").write_text('[{"image_id": 1.0, "caption": "a dog"}]')
    (tmp_path / "r.json").write_text('{"annotations": [{"image_id": 1, "caption": "a dog"}]}')
    files = tmp_path / "c.json", tmp_path / "r.json"
    scores = score_files(*files, tmp_path / "new/folder/x.json", "python")
    assert json.loads((tmp_path / "new/folder/x.json").read_text())["images"] == scores.images
    with pytest.raises(UserError, match="expected a file to write, found a folder"):
        score_files("missing.json", files[1], tmp_path, "python")
