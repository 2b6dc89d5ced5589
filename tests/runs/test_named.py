"""Captioners by name: in the package, on a hub, at a URL; damaged files; packing."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from bright_square import brightness, draw, make_run, settings
from hub_stand_in import hub

import keras_aoa
from keras_aoa.evaluation.split import EvaluationSettings, output_folder
from keras_aoa.models import weights
from keras_aoa.runs import named
from keras_aoa.runs.ensemble import open_run
from keras_aoa.runs.named import bundled_names, run_folder
from keras_aoa.runs.packing import pack
from keras_aoa.runs.run import Run
from keras_aoa.training.warm_start import WarmStart
from keras_aoa.utils.errors import UserError

NAME = "squares"


def network():
    """A network with weights that 16 bits cannot hold, and layers whose names start with `_`."""
    pixels = keras.Input((None, None, 3))
    activations = keras.layers.Conv2D(3, 3, padding="same", name="_conv")(
        brightness()(pixels)["map"]
    )
    activations = keras.layers.BatchNormalization(name="_bn1")(activations)
    vector = keras.layers.GlobalAveragePooling2D()(activations)
    model = keras.Model(pixels, {"map": activations, "vector": vector})
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.1, 1, weight.shape))
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(settings(tmp_path_factory.mktemp("runs"), data="/elsewhere/photos"), network())


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory):
    card = tmp_path_factory.mktemp("card") / "card.md"
    card.write_text("# Squares\n")
    (run.folder / "scores.json").write_text(
        '{"CIDEr": 0.5, "run": "/elsewhere/run", "data": "/elsewhere"}'
    )
    return pack(run, tmp_path_factory.mktemp("packed") / NAME, card=str(card))[0]


@pytest.fixture
def bundled(packed, tmp_path, monkeypatch):
    """A copy of the packed captioner among those of the package; the folder of all of them."""
    shutil.copytree(packed, tmp_path / "bundled" / NAME)
    monkeypatch.setattr(named, "BUNDLED", tmp_path / "bundled")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "bundled"


# --- packing --------------------------------------------------------------------------------------


def test_a_packed_run_has_the_weights_of_the_run_in_16_bits(run, packed):
    own, half = run.load_captioner(), Run(packed).load_captioner()
    assert len(own.weights) == len(half.weights) > 10
    for weight, other in zip(own.weights, half.weights, strict=True):
        expected = np.asarray(weight.value)
        if expected.dtype == np.float32:
            expected = expected.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(other.value, expected, err_msg=weight.path)
    arrays, _ = weights.load_arrays(packed / "best.npz")
    assert {array.dtype for array in arrays.values()} == {np.dtype("float16")}
    assert "/elsewhere" not in (packed / "config.json").read_text()
    scores = json.loads((packed / "scores.json").read_text())
    assert scores == {"CIDEr": 0.5, "run": NAME, "data": "photos"}
    assert Run(packed).configuration.name == NAME
    assert (packed / "README.md").read_text() == "# Squares\n"


def test_packing_includes_a_network_that_was_trained_too(run, tmp_path):
    captioner = run.make_captioner()
    captioner.backbone.weights[0].assign(captioner.backbone.weights[0] + 1.0)
    trained = Run(shutil.copytree(run.folder, tmp_path / "run"))
    arrays = weights.values(weights.captioner_variables(captioner, with_backbone=True))
    weights.save_arrays(trained.best_file, arrays, trained.digests)
    packed = pack(trained, tmp_path / "packed")[0]
    first = np.asarray(Run(packed).load_captioner().backbone.weights[0])
    np.testing.assert_allclose(first, captioner.backbone.weights[0], rtol=1e-3)


def test_a_packed_run_of_stage_3_alone_opens_and_names_no_folder_of_its_machine(run, tmp_path):
    rewarded = Run(shutil.copytree(run.folder, tmp_path / "run"))
    changes = {
        "rnn_epochs": 0,
        "joint_epochs": 0,
        "reward_epochs": 1,
        "feature_cache": "none",
        "start_from": "/elsewhere/runs/first",
        "edge_model": "/elsewhere/model.yml.gz",
        "backbone_weights": "/elsewhere/weights.h5",
    }
    configuration = dataclasses.replace(run.configuration, **changes)
    (rewarded.folder / "config.json").write_text(configuration.to_json())
    record = {"paths": {"data": "/elsewhere"}, "splits": {}, "earlier_runs": 2}
    (rewarded.folder / "data.json").write_text(json.dumps(record))
    opened = Run(pack(Run(rewarded.folder), tmp_path / "packed")[0])
    packed = opened.configuration
    assert opened.record == {"paths": {}, "splits": {}, "earlier_runs": 2}
    assert (packed.start_from, packed.edge_model) == ("first", "model.yml.gz")
    assert packed.backbone_weights == "weights.h5" and "/elsewhere" not in packed.to_json()


def test_packing_refuses_an_existing_folder_and_weights_that_are_too_large(run, tmp_path):
    with pytest.raises(UserError, match=r"expected a new folder, found an existing one"):
        pack(run, run.folder)
    large = Run(shutil.copytree(run.folder, tmp_path / "run"))
    arrays, metadata = weights.load_arrays(large.best_file)
    name = next(iter(arrays))
    weights.save_arrays(large.best_file, arrays | {name: arrays[name] + 1e6}, metadata)
    with pytest.raises(UserError, match=rf"{name} is too large for 16 bits"):
        pack(large, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()
    assert not list(tmp_path.glob(".*part"))


# --- names ----------------------------------------------------------------------------------------


def test_a_captioner_of_the_package_is_loaded_by_its_name(bundled, run, tmp_path):
    path = draw(tmp_path, 90, 160).path
    caption, own = keras_aoa.load(NAME).caption(path), keras_aoa.load(run.folder).caption(path)
    assert caption.text == own.text
    assert caption.log_prob == pytest.approx(own.log_prob, abs=1e-3)


def test_an_existing_folder_of_the_name_wins(bundled, run, tmp_path):
    shutil.copytree(run.folder, tmp_path / NAME)
    assert open_run(NAME).configuration.name == "run"


def test_results_of_a_captioner_of_the_package_go_to_the_folder_of_runs(bundled):
    opened = open_run(NAME)
    assert output_folder(opened, EvaluationSettings()).as_posix() == f"runs/captioner-{NAME}"


def test_names_work_for_members_of_an_ensemble_and_for_a_warm_start(bundled, run):
    shutil.copytree(run.folder, bundled.parent / "other")
    opened = open_run(f"{NAME},other")
    assert [member.folder.name for member in opened.members] == [NAME, "other"]
    assert opened.results_folder.as_posix() == f"runs/ensemble-{NAME}+other"
    assert WarmStart(NAME).run.folder == bundled / NAME


def test_a_mistyped_run_names_the_runs_with_similar_names(bundled):
    for folder in ("runs/scenes", "elsewhere/scenes", "elsewhere/photos", "runs/no-run"):
        (bundled.parent / folder).mkdir(parents=True)
        if "no-run" not in folder:
            (bundled.parent / folder / "config.json").touch()
    for name, similar in {
        "scenes": r"runs/scenes\?",
        "run/scenes": r"runs/scenes\?",
        "runs/scnes": r"runs/scenes\?",
        "elsewhere/scene": r"elsewhere/scenes or runs/scenes\?",
        "elsewhere/photo": r"elsewhere/photos\?",
        "elsewhere/sqares": rf"{NAME}\?",
    }.items():
        with pytest.raises(UserError, match=rf"found neither\. Did you mean {similar}"):
            run_folder(name)
    with pytest.raises(UserError, match=r"found neither\. Known: .*runs/scenes"):
        run_folder("runs/no-rum")


@pytest.mark.parametrize(
    ("file", "received"),
    [("photo.JPG", "an image; the run comes first"), ("a.heic", "an image"), ("a.npz", "a file")],
)
def test_a_file_in_the_place_of_a_run_is_noticed(tmp_path, file, received):
    (tmp_path / file).touch()
    with pytest.raises(UserError, match=rf"{file}: expected a run's folder .* {received}"):
        open_run(tmp_path / file)


def test_unknown_names_name_the_nearest_and_the_known_ones(bundled):
    assert bundled_names() == [NAME]
    with pytest.raises(UserError, match=r"^sqares: .*found neither\. Did you mean squares\?"):
        open_run("sqares")
    with pytest.raises(UserError, match=r"Known: squares\. To train one"):
        open_run("runs/tokyo")


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["best.npz", "backbone.keras", "vocabulary.json", "config.json"])
def test_a_damaged_or_missing_file_is_named_and_nothing_is_loaded(bundled, file):
    path = bundled / NAME / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{file}: expected the file .* but it is damaged"):
        open_run(NAME)
    path.unlink()
    with pytest.raises(UserError, match=rf"{file}: expected the file .* but it is missing"):
        open_run(NAME)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "no checksums.json that can be read"), ("[]", "no checksums.json that can be read")],
)
def test_unreadable_checksums_are_refused(bundled, content, message):
    (bundled / NAME / "checksums.json").write_text(content)
    with pytest.raises(UserError, match=message):
        open_run(NAME)


def test_another_format_is_refused(bundled):
    path = bundled / NAME / "checksums.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(UserError, match="expected format 1 of packed captioners, received 2"):
        open_run(NAME)


# --- hub and URL ----------------------------------------------------------------------------------


def test_a_captioner_of_a_hub_is_downloaded_and_verified(packed, tmp_path):
    pytest.importorskip("huggingface_hub")
    with hub(packed, "owner/squares") as url:
        folder = from_hub(url, "owner/squares", tmp_path)
        assert Run(folder).configuration.name == NAME
        message = from_hub(url, "owner/circles", tmp_path)
        assert re.match(r"hf://owner/circles: expected to download a captioner", message)
    copy = shutil.copytree(packed, tmp_path / "damaged")
    (copy / "best.npz").write_bytes(b"PK")
    with hub(copy, "owner/damaged") as url:
        message = from_hub(url, "owner/damaged", tmp_path)
        assert re.search(r"best\.npz: expected the file .* it is damaged", message)


def from_hub(url, repository, cache):
    """Return what `run_folder` returns, or its error, in a process that uses the hub at a URL."""
    program = (
        "from keras_aoa.runs.named import run_folder\n"
        "try: print(run_folder('hf://' + sys.argv[1]))\n"
        "except Exception as error: print(error)"
    )
    command = [sys.executable, "-c", f"import sys\n{program}", repository]
    environment = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(cache)}
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return completed.stdout.strip()


def test_a_missing_extra_is_reported_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'keras-aoa\[hub\]'"):
        run_folder("hf://owner/squares")


def test_an_archive_at_a_url_is_downloaded_and_verified(packed, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    archive = tmp_path / "squares.zip"
    shutil.make_archive(str(archive.with_suffix("")), "zip", packed.parent, packed.name)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    with hub(packed, "owner/squares", [archive]) as url:
        folder = run_folder(f"{url}/squares.zip#sha256={digest}")
        assert Run(folder).configuration.name == NAME
        with pytest.raises(UserError, match="expected to download a captioner"):
            run_folder(f"{url}/squares.zip#sha256={'0' * 64}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://owner", "expected hf://owner/name"),
        ("https://host/model.zip", "expected the URL of a .zip or .tar archive with #sha256="),
        ("gs://bucket/run", "expected a path on this machine"),
    ],
)
def test_other_forms_of_names_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        run_folder(name)


def test_the_captioner_of_this_package_is_small_and_has_a_card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = run_folder("flickr8k")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 25e6
    assert "## Biases to expect" in (folder / "README.md").read_text()
    assert Run(folder).vocabulary.words
