"""Without Python: a C program on TensorFlow's C API, which is what a server runs underneath."""

import pathlib
import shutil
import subprocess

import pytest
import tensorflow as tf
from pictures_of_all_kinds import bad_files, good_files
from tensorflow.core.protobuf import saved_model_pb2

from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.serving.save import export_run
from keras_aoa.settings.search import SearchSettings

ROOT = pathlib.Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: gcc")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The C program, built against the installed TensorFlow."""
    home = pathlib.Path(tf.__file__).parent
    path = tmp_path_factory.mktemp("native") / "caption"
    libraries = [home / f"libtensorflow_{name}.so.2" for name in ("cc", "framework")]
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", f"-I{home}/include"]
    command += [ROOT / "export/caption.c", *libraries, f"-Wl,-rpath,{home}", "-o", path]
    subprocess.run(command, check=True)
    return path


def test_a_c_program_says_what_the_live_model_says(program, trained, tmp_path):
    exported = export_run(trained, tmp_path / "out", SearchSettings())
    saved = exported.folder / "saved_model.pb"
    graph = saved_model_pb2.SavedModel.FromString(saved.read_bytes())
    signature = graph.meta_graphs[0].signature_def["serving_default"]
    given = signature.inputs["image_bytes"].name.split(":")[0]
    output, number = signature.outputs["captions"].name.split(":")
    live = ImageCaptioner(trained.folder)
    files = {**good_files(), "broken": bad_files()["half a jpeg"]}
    for name, file in files.items():
        (tmp_path / name).write_bytes(file)
    expected = []
    for place, (name, file) in enumerate(files.items()):
        texts = ["", ""] if name == "broken" else [found.text for found in live.captions(file)]
        expected += [f"{place}\t{text}" for text in texts]
    command = [program, exported.folder, given, output, number, *(tmp_path / n for n in files)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == expected


def test_a_c_program_tells_its_mistakes(program, tmp_path):
    ended = subprocess.run([program], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "usage: caption" in ended.stderr
    command = [program, tmp_path, "a", "b", "0", "c"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert str(tmp_path) in ended.stderr
