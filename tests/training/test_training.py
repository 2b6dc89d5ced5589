"""A complete training on a few drawn squares: files, stages, resuming, invalid input."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

from keras_aoa.data.build import scored_split
from keras_aoa.evaluation import evaluate as evaluation
from keras_aoa.evaluation.metrics import score
from keras_aoa.evaluation.split import EvaluationSettings
from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.models import weights
from keras_aoa.runs.run import Run
from keras_aoa.training import epochs
from keras_aoa.training import loop as training
from keras_aoa.utils.errors import UserError


@pytest.fixture(autouse=True)
def without_meteor(monkeypatch):
    """Skip METEOR, whose Java process takes 7 s per evaluation; `test_metrics.py` tests it."""
    monkeypatch.setattr(evaluation, "start_meteor", lambda: False)


@pytest.fixture
def without_evaluation(monkeypatch):
    """Skip the evaluation after a training, which `trained` includes."""
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: None)


@pytest.fixture
def without_captions(monkeypatch):
    """Validate without generating captions, which `trained` includes."""
    monkeypatch.setattr(epochs, "caption_split", lambda *_: {})
    monkeypatch.setattr(epochs, "validation_cider", lambda *_: 0.5)
    monkeypatch.setattr(epochs.TensorBoard, "validation", lambda *_: None)


@pytest.fixture
def settings(squares_settings, tmp_path):
    return dataclasses.replace(squares_settings, output=str(tmp_path))


@pytest.fixture
def copied(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "squares")
    return Run(tmp_path / "squares")


def arrays_of(run):
    return weights.load_arrays(run.last_file)[0]


def test_the_run_folder_contains_all_documented_files(trained):
    for name in (
        "config.json",
        "vocabulary.json",
        "backbone.keras",
        "best.npz",
        "last.npz",
        "scores.json",
        "captions_test.json",
        "pictures/test.png",
        "pictures/curves.png",
        "pictures/test/12.png.png",
    ):
        assert (trained.folder / name).is_file(), name
    assert list((trained.folder / "tensorboard").iterdir())
    assert not list(trained.folder.rglob("*.part*"))


def test_scores_have_the_keys_of_coco_caption(trained):
    scores = json.loads((trained.folder / "scores.json").read_text())
    captions = json.loads((trained.folder / "captions_test.json").read_text())
    assert [entry["image_id"] for entry in captions] == ["12.png", "13.png", "14.png"]
    references = {
        f"{number}.png": [f"a {color} square on the {side}", f"One {color} square, {side} side."]
        for number, color, side in (
            (12, "red", "left"),
            (13, "green", "right"),
            (14, "blue", "left"),
        )
    }
    texts = {entry["image_id"]: entry["caption"] for entry in captions}
    expected = score(references, texts, meteor=False)
    assert set(expected.metrics) == {"Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"}
    assert {name: scores[name] for name in expected.metrics} == pytest.approx(expected.metrics)
    assert (scores["tokenizer"], scores["split"]) == (expected.tokenizer, "test")


@pytest.mark.slow  # test_resume.py interrupts runs within the epochs of both stages
def test_a_run_interrupted_in_each_stage_equals_an_uninterrupted_one(
    trained, settings, monkeypatch
):
    whole_epoch = epochs.train_epoch
    begun = []

    def interrupted(trainer, process, batches, progress, *rest):
        begun.append(progress.epochs)
        if begun in ([0], [0, 0, 1], [0, 0, 1, 1, 2]):
            raise KeyboardInterrupt
        return whole_epoch(trainer, process, batches, progress, *rest)

    monkeypatch.setattr(epochs, "train_epoch", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            training.train(settings)
    resumed = training.train(settings)
    assert begun == [0, 0, 1, 1, 2, 2]
    for name, array in arrays_of(trained).items():
        np.testing.assert_array_equal(arrays_of(resumed)[name], array, err_msg=name)


def test_the_first_stage_skips_a_corrupt_image_and_does_not_train_the_backbone(
    settings, squares, tmp_path, caplog, without_evaluation, without_captions
):
    folder = tmp_path / "damaged"
    shutil.copytree(squares, folder)
    whole = (folder / "04.png").read_bytes()
    (folder / "04.png").write_bytes(whole[: len(whole) // 2])
    first = training.train(
        dataclasses.replace(settings, data=str(folder), joint_epochs=0, batch_size=4, name="first")
    )
    assert "1 of 9 images cannot be read" in caplog.text
    assert "04.png" in caplog.text
    assert backbone_of(first) == []


def backbone_of(run):
    return [array for name, array in arrays_of(run).items() if name.startswith("backbone/")]


def test_the_second_stage_trains_the_backbone(trained):
    def kernels(arrays):
        # Batch normalization statistics change without a gradient, so compare only kernels.
        return [array for array in arrays if array.ndim == 4]

    untrained = [np.asarray(v.value) for v in trained.make_captioner().backbone.variables]
    pairs = list(zip(kernels(backbone_of(trained)), kernels(untrained), strict=True))
    assert len(pairs) == 4
    assert not any(np.array_equal(one, other) for one, other in pairs)


def test_a_run_with_other_settings_is_refused_and_not_changed(copied):
    before = {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()}
    other = dataclasses.replace(
        copied.configuration, output=str(copied.folder.parent), units=13, beam=1
    )
    with pytest.raises(UserError, match=r"contains a run with other settings \(units, beam\)"):
        training.train(other)
    assert before == {
        path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"select_split": "valid"}, "expected a split 'valid', found train, val, test"),
        ({"backbone": "VGG-16"}, "received 'VGG-16'"),
        ({"select_images": 9}, "expected a count between 1 and 8"),
    ],
)
def test_invalid_settings_create_no_run_folder(settings, change, message):
    with pytest.raises(UserError, match=message):
        training.train(dataclasses.replace(settings, **change))
    assert not settings.folder.exists()


def test_a_backbone_with_integer_variables_is_averaged_and_trained(
    settings, tmp_path, without_evaluation, without_captions
):
    pixels = keras.Input((None, None, 3))
    normalized = keras.layers.Normalization()
    normalized.adapt(np.zeros((1, 8, 8, 3)))
    activations = keras.layers.Conv2D(5, 8, strides=8)(normalized(pixels))
    keras.Model(pixels, keras.layers.Dropout(0.5)(activations)).save(tmp_path / "network.keras")
    run = training.train(
        dataclasses.replace(
            settings,
            name="counted",
            backbone=str(tmp_path / "network.keras"),
            preprocessing="unit",
            rnn_epochs=0,
            joint_epochs=1,
            max_words=2,
        )
    )
    kinds = {array.dtype.kind for array in weights.load_arrays(run.best_file)[0].values()}
    assert kinds > {"f"}, "integer variables keep their dtype"


def test_the_vocabulary_of_another_run_is_refused(copied):
    from keras_aoa.data.text.vocabulary import Vocabulary

    Vocabulary((*copied.vocabulary.words[4:-1], "walrus")).save(copied.vocabulary_file)
    with pytest.raises(UserError, match="was trained with vocabulary"):
        Run(copied.folder).load_captioner()


def test_the_backbone_of_another_run_is_refused(copied):
    copied.make_captioner().backbone.save(copied.backbone_file)
    with pytest.raises(UserError, match="was trained with backbone"):
        copied.load_captioner()


def test_damaged_weights_raise_a_user_error(copied):
    copied.best_file.write_bytes(copied.best_file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"best\.npz: expected saved weights, received a damaged"):
        copied.load_captioner()


def test_evaluating_another_data_set_keeps_the_scores_of_the_run(copied, squares, tmp_path):
    before = (copied.folder / "scores.json").read_bytes()
    other = tmp_path / "other"
    shutil.copytree(squares, other)
    scores = evaluation.evaluate(copied, EvaluationSettings(data=str(other), beam=1))
    assert (copied.folder / "scores.json").read_bytes() == before
    written = copied.folder / "evaluations" / "other"
    assert json.loads((written / "scores.json").read_text()) == scores
    assert (written / "pictures" / "test.png").is_file()
    assert scores["data"] == str(other)
    assert scores["search"] == {"beam": 1, "max_words": 5, "length_penalty": 0.0, "stride": 1}


def test_data_without_a_test_split_are_scored_on_another_split_with_a_note(trained):
    data = trained.load_data()
    del data.splits["test"]
    split, note = scored_split(trained.configuration, data)
    assert split == "val"
    assert "has no split 'test'; scoring 'val' instead" in note
    assert "also selects the checkpoint" in note
    own = dataclasses.replace(trained.configuration, select_split="train")
    assert scored_split(own, data) == ("val", note.partition(" 'val' also selects")[0])


def test_the_error_of_an_unknown_split_lists_the_known_splits(trained):
    with pytest.raises(UserError, match="received 'tset'; its splits are train, val, test"):
        evaluation.evaluate(trained, EvaluationSettings(split="tset"))


def test_images_without_captions_cannot_be_scored(trained):
    data = trained.load_data()
    bare = dataclasses.replace(data.splits["test"][0], captions=())
    data.splits["test"] = (bare, *data.splits["test"][1:])
    with pytest.raises(UserError, match=r"1 of 3 images of test have no caption .* 12\.png"):
        evaluation.evaluate(trained, EvaluationSettings(), data=data)


def test_repeated_evaluation_gives_the_same_scores(trained, squares, capsys, monkeypatch):
    before = json.loads((trained.folder / "scores.json").read_text())
    given = []
    monkeypatch.setattr(evaluation, "draw", lambda folder, captions, *_: given.append(captions))
    after = evaluation.evaluate(trained, EvaluationSettings(split="test"))
    # The split is set explicitly, so it is not the default.
    assert after == {**before, "run": str(trained.folder), "default_split": False}
    assert f"CIDEr {100 * before['CIDEr']:.1f}\n" in capsys.readouterr().out
    # Each image has the caption that the run gives its file.
    captioner = ImageCaptioner(trained.folder)
    written = json.loads((trained.folder / "captions_test.json").read_text())
    assert len({caption.log_prob for caption in given[0].values()}) == len(written) == 3
    for entry, caption in zip(written, given[0].values(), strict=True):
        own = captioner.caption(squares / entry["image_id"])
        assert own.text == caption.text == entry["caption"]
        assert own.log_prob == pytest.approx(caption.log_prob, abs=1e-5)


def test_loading_an_untrained_run_raises_a_user_error(copied):
    copied.best_file.unlink()
    with pytest.raises(UserError, match="expected trained weights"):
        copied.load_captioner()


def test_the_error_of_a_nan_loss_names_the_step_and_images(settings):
    with pytest.raises(UserError, match=r"the loss became (nan|inf) at step \d+, images .*\.png"):
        training.train(dataclasses.replace(settings, learning_rate=1e30, clip_norm=1e30))
