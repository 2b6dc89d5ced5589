"""Runs on object proposals: unusual images, the edge model, commands before training."""

import contextlib
import dataclasses
import functools
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from image_files import exif, insert
from rectangles import forest

from keras_aoa import caption, pretrain, propose
from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.models import weights
from keras_aoa.models.backbones import load_backbone
from keras_aoa.runs.run import Run
from keras_aoa.training import loop as training
from keras_aoa.training import preparation, pretraining
from keras_aoa.utils.errors import UserError

ODD = ("turned-test.jpg", "cmyk-test.jpg", "gray-test.png", "line-test.png", "empty-test.png")


@pytest.fixture(scope="module")
def captioner(trained_proposals):
    return ImageCaptioner(trained_proposals.folder)


def test_unusual_images_can_be_trained_on_and_captioned(trained_proposals, captioner, odd_squares):
    entries = json.loads((trained_proposals.folder / "captions_test.json").read_text())
    captions = {entry["image_id"]: entry["caption"] for entry in entries}
    assert set(ODD) < set(captions) and len(captions) == 8
    assert all((trained_proposals.folder / f"pictures/test/{name}.png").is_file() for name in ODD)
    for name in captions:
        caption = captioner.caption(odd_squares / name)
        assert caption.text == captions[name], "a caption does not depend on its batch"
        assert np.isfinite(caption.log_prob)
        assert caption.boxes.min() > -1e-5 and caption.boxes.max() < 1 + 1e-5
        if caption.words:
            np.testing.assert_allclose(caption.attention.sum(axis=1), 1, rtol=1e-5)
        if name.startswith(("line", "empty")):
            whole = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
            np.testing.assert_allclose(caption.boxes, whole, atol=1e-5, err_msg=name)


def test_a_file_with_exif_rotation_is_captioned_upright(captioner, odd_squares, tmp_path):
    upright = read_image(odd_squares / "turned-test.jpg")
    assert upright.shape == (60, 40, 3)
    turned, plain = captioner.caption(odd_squares / "turned-test.jpg"), captioner.caption(upright)
    assert turned.text == plain.text
    np.testing.assert_array_equal(turned.boxes, plain.boxes)
    # Without the EXIF orientation, the stored pixels are a different image.
    jpeg = cv2.imencode(".jpg", np.rot90(upright)[:, :, ::-1])[1].tobytes()
    one, other = captioner.caption(jpeg), captioner.caption(insert(jpeg, exif(6)))
    assert one.image.shape != other.image.shape == upright.shape


def test_saved_pictures_equal_the_returned_pictures(captioner, odd_squares, tmp_path):
    for name in ODD:
        picture = captioner.caption(odd_squares / name).picture(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.png"), picture)


def test_captions_from_the_command_line_of_the_number_that_is_asked_for(
    trained_proposals, odd_squares, capsys
):
    image = odd_squares / "00.png"
    expected = ImageCaptioner(trained_proposals.folder, proposals=1, max_words=2).caption(image)
    short = ["--regions", "1", "--max-words", "2"]
    caption.main([str(trained_proposals.folder), str(image), *short])
    assert capsys.readouterr().out == f"{image}: {expected.text} ({expected.log_prob:.2f})\n"
    with pytest.raises(UserError, match=r"stride: does not apply to regions 'proposals'"):
        caption.main([str(trained_proposals.folder), str(image), "--stride", "1"])


def test_a_reloaded_run_has_trained_weights_in_both_networks(trained_proposals):
    arrays, _ = weights.load_arrays(trained_proposals.best_file)
    first, best = trained_proposals.make_captioner(), trained_proposals.load_captioner()
    for part in ("backbone", "region_backbone"):
        saved = [array for name, array in arrays.items() if name.startswith(f"{part}/")]
        for array, variable in zip(saved, getattr(best, part).variables, strict=True):
            np.testing.assert_array_equal(variable, array)
        kernels = [v for v in getattr(best, part).variables if len(v.shape) == 4]
        untrained = [v for v in getattr(first, part).variables if len(v.shape) == 4]
        assert not any(
            np.array_equal(own, other) for own, other in zip(kernels, untrained, strict=True)
        )
    assert not np.array_equal(best.backbone.variables[0], best.region_backbone.variables[0])


# --- the edge model -------------------------------------------------------------------------------


@pytest.fixture
def settings(squares_settings, tmp_path):
    return dataclasses.replace(
        squares_settings,
        output=str(tmp_path / "runs"),
        regions="proposals",
        edge_model=str(tmp_path / "forest.v1.yml"),
    )


@pytest.fixture
def model(tmp_path):
    (tmp_path / "forest.v1.yml").write_text(forest(0.8))
    return tmp_path / "forest.v1.yml"


def test_a_missing_model_is_reported_before_any_file_is_created(settings, tmp_path, monkeypatch):
    for other in (
        {},
        {"data": "scenes", "scenes_images": 5, "image_size": 96},
        {"backbone": "scenes-pretrained"},
    ):
        with pytest.raises(UserError, match=r"expected a structured-forest model file.*forest\.v1"):
            training.train(dataclasses.replace(settings, **other))
        assert list(tmp_path.iterdir()) == [], other


def test_an_invalid_model_file_creates_no_run(settings, model):
    model.write_text("no forest")
    with pytest.raises(UserError, match=r"expected a structured-forest model for OpenCV"):
        training.train(settings)
    assert not settings.folder.exists()


def test_a_run_copies_its_model_and_resumes_without_the_original(settings, model):
    run, _, images, _ = preparation.prepare_run(settings, contextlib.ExitStack())
    kept = run.folder / "edge_model.v1.yml"
    assert kept.read_bytes() == model.read_bytes()
    assert run.proposal_view.search.edge_model == str(kept)
    before = sorted((run.folder.parent / "data").rglob("*.npy"))
    assert len(before) == 12
    model.unlink()
    others = preparation.prepare_run(settings, contextlib.ExitStack())[2]
    for index in images.readable:
        boxes = [each.proposals(index, lambda count: slice(None)) for each in (images, others)]
        np.testing.assert_array_equal(*boxes)
    assert sorted((run.folder.parent / "data").rglob("*.npy")) == before, (
        "cached by content, not by path"
    )
    shutil.move(run.folder, run.folder.with_name("moved"))
    moved = Run(run.folder.with_name("moved"))
    assert moved.proposal_view.search.edge_model == str(moved.folder / kept.name)


def test_other_kinds_of_regions_need_no_model(settings):
    run, *_ = preparation.prepare_run(
        dataclasses.replace(settings, regions="grid"), contextlib.ExitStack()
    )
    assert run.proposal_view is None
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "backbone.keras", "config.json", "data.json", "lock", "vocabulary.json",
    ]  # fmt: skip


# --- commands before training ---------------------------------------------------------------------


def test_training_reuses_the_proposals_of_the_propose_command(
    squares_settings, odd_squares, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "data"
    shutil.copytree(odd_squares, folder)
    (folder / "04.png").write_text("no picture")
    propose.main(["--data", str(folder), "--output", str(tmp_path / "runs")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "train: proposals of 13 of 14 images are ready.",
        f"train: cannot read {folder / '04.png'}: Unknown image file format: expected JPEG, PNG, "
        "GIF, BMP or WebP.",
        "val: proposals of 3 of 3 images are ready.",
    ]
    kept = re.fullmatch(r"The proposals are in (.*)\.", lines[-1])[1]
    files = sorted((tmp_path / "runs").rglob("*.npy"))
    assert len(files) == 24 and all(str(path).startswith(kept) for path in files)

    def refuse(*_):
        raise AssertionError("the proposals are already cached")

    monkeypatch.setattr("keras_aoa.data.proposals.edge_boxes.edge_boxes", refuse)
    preparation.prepare_run(
        dataclasses.replace(
            squares_settings, data=str(folder), output=str(tmp_path / "runs"), regions="proposals"
        ),
        contextlib.ExitStack(),
    )
    propose.main(["--data", str(folder), "--output", str(tmp_path / "runs"), "--crop", "0.5"])
    assert sorted((tmp_path / "runs").rglob("*.npy")) == files


def test_the_network_is_pretrained_once_and_used_by_training(
    squares_settings, tmp_path, capsys, monkeypatch
):
    class Little(pretraining.PretrainingSettings):
        @classmethod
        def of(cls, configuration):
            full = pretraining.PretrainingSettings(
                configuration.image_size, 1000 + configuration.scenes_seed
            )
            return dataclasses.replace(full, images=12, epochs=1)

    full = pretraining.PretrainingSettings.of(
        dataclasses.replace(squares_settings, scenes_seed=3, image_size=96)
    )
    assert (full.scenes_seed, full.image_size, full.images) == (1003, 96, 7500)
    for module in (pretraining, preparation):
        monkeypatch.setattr(module, "PretrainingSettings", Little)
    few = functools.partial(pretraining.scenes.ScenesSettings, val=20)
    monkeypatch.setattr(pretraining.scenes, "ScenesSettings", few)
    arguments = ["--output", str(tmp_path / "runs"), "--image-size", "64", "--scenes-seed", "3"]
    pretrain.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    (path,) = (tmp_path / "runs" / "data").glob("scenes-backbone-*.keras")
    assert (
        lines[0]
        == f"{path}: pretraining a network on 12 drawn scenes for 1 epochs; this happens once."
    )
    assert lines[-1] == f"{path}: ready."
    before = path.read_bytes()

    def refuse(*_):
        raise AssertionError("the network already exists")

    monkeypatch.setattr(pretraining, "pretrain", refuse)
    pretrain.main(arguments)
    assert capsys.readouterr().out == f"{path}: ready.\n"
    run, *_ = preparation.prepare_run(
        dataclasses.replace(
            squares_settings,
            output=str(tmp_path / "runs"),
            scenes_seed=3,
            image_size=64,
            backbone="scenes-pretrained",
        ),
        contextlib.ExitStack(),
    )
    expected, captioner = load_backbone(path), run.make_captioner()
    assert path.read_bytes() == before
    for own, value in zip(captioner.backbone.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(own, value)
    assert captioner.from_scratch is False
    assert not list((tmp_path / "runs").rglob("*.part*"))
    with pytest.raises(AssertionError, match="the network already exists"):
        pretrain.main([*arguments[:-1], "4"])
