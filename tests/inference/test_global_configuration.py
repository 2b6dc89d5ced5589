"""Settings of other programs, and other packages of OpenCV, do not change a command."""

import contextlib
import json
import os
import subprocess
import sys

import cv2
import graphs
import keras
import numpy as np
import pytest
from bright_square import brightness, make_run, settings

from keras_aoa import caption
from keras_aoa.data.proposals.cache import ProposalCache, ProposalSettings, propose
from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.models.backbones import BackboneSettings, make_backbone
from keras_aoa.settings.search import SearchSettings
from keras_aoa.training.preparation import prepare_run
from keras_aoa.utils.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained run with the backbone of drawn scenes."""
    folder = tmp_path_factory.mktemp("runs")
    configuration = settings(folder, image_size=64, max_words=3)
    return make_run(configuration, make_backbone(BackboneSettings("scenes", 64)))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "noise.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    return path


# With the graphs of this process, because optimized graphs round differently and take longer.
CAPTION = """
from keras_aoa import caption
from keras_aoa.utils.command_line import run

def main(arguments):
    import graphs
    graphs.create_graphs_faster()
    caption.main(arguments)

run(main)
"""


def command(run, photo, **environment):
    """Caption a photo with the command, and return its output."""
    support = os.path.dirname(graphs.__file__)
    paths = os.pathsep.join((support, os.environ.get("PYTHONPATH", "")))
    # Commands that other tests run in this process set the backend here.
    own = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    finished = subprocess.run(
        [sys.executable, "-c", CAPTION, str(run.folder), str(photo), "--json"],
        env={**own, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_keras_json_does_not_change_a_command(run, photo, tmp_path, capsys):
    changes = {"floatx": "float64", "image_data_format": "channels_first", "backend": "jax"}
    (tmp_path / "keras.json").write_text(json.dumps(changes))
    caption.main([str(run.folder), str(photo), "--json"])
    assert command(run, photo, KERAS_HOME=str(tmp_path)) == capsys.readouterr().out != ""


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_another_floatx_is_refused_by_name_in_python(run, floatx):
    keras.config.set_floatx(floatx)
    try:
        with pytest.raises(UserError, match=f"floatx to be float32, .* received {floatx}"):
            ImageCaptioner(run.folder)
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize("name", ["scenes", "MobileNetV2"])
def test_channels_first_does_not_change_a_new_backbone(name):
    def outputs():
        keras.utils.set_random_seed(0)
        chosen = BackboneSettings(name, 64, weights="none")
        return make_backbone(chosen)(np.full((1, 64, 64, 3), 100.0, "float32"))

    last = outputs()
    keras.config.set_image_data_format("channels_first")
    try:
        first = outputs()
        assert keras.config.image_data_format() == "channels_first"
    finally:
        keras.config.set_image_data_format("channels_last")
    for part in ("map", "vector"):
        np.testing.assert_array_equal(first[part], last[part])


# --- OpenCV without contrib -----------------------------------------------------------------------

IMAGE = np.zeros((64, 64, 3), np.uint8)


def test_opencv_without_contrib_is_reported_with_the_command(monkeypatch, tmp_path):
    run = make_run(settings(tmp_path, regions="proposals"), brightness())
    monkeypatch.delattr(cv2, "ximgproc")
    for use in (
        lambda: propose(IMAGE, ProposalSettings()),
        lambda: ProposalCache(tmp_path, ProposalSettings()),
        lambda: ImageCaptioner(run.folder),
    ):
        with pytest.raises(UserError, match="pip install --force-reinstall opencv-contrib-python"):
            use()


def test_opencv_that_does_not_load_is_reported_with_its_reason(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"OpenCV cannot be imported \(.*cv2.*\); run pip install"):
        ProposalCache(tmp_path, ProposalSettings())


def test_training_on_proposals_without_contrib_ends_before_any_file(monkeypatch, tmp_path):
    monkeypatch.delattr(cv2, "ximgproc")
    with contextlib.ExitStack() as held, pytest.raises(UserError, match=r"without cv2\.ximgproc"):
        prepare_run(settings(tmp_path, regions="proposals", name="new"), held)
    assert not list(tmp_path.iterdir())


# --- Search settings in Python --------------------------------------------------------------------


@pytest.mark.parametrize("value", [2.5, "3", True])
def test_a_number_of_another_type_is_refused_by_name(value):
    with pytest.raises(UserError, match=f"beam: expected a whole number, received {value!r}"):
        SearchSettings(beam=value)
    assert SearchSettings(beam=np.int64(2)).beam == 2


def test_a_length_penalty_of_another_type_is_refused_by_name():
    with pytest.raises(UserError, match="length_penalty: expected a finite number, received '1'"):
        SearchSettings(length_penalty="1")
