"""Tests an exported model without Python, from a C program that uses TensorFlow's C API."""

import pathlib
import shutil
import subprocess

import pytest
import tensorflow as tf
from pictures_of_all_kinds import bad_files, good_files
from tensorflow.core.protobuf import saved_model_pb2

from keras_aoa.inference.image_captioner import ImageCaptioner

ROOT = pathlib.Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: gcc")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Build the C program against the installed TensorFlow."""
    home = pathlib.Path(tf.__file__).parent
    path = tmp_path_factory.mktemp("native") / "caption"
    libraries = [home / f"libtensorflow_{name}.so.2" for name in ("cc", "framework")]
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", f"-I{home}/include"]
    command += [ROOT / "export/caption.c", *libraries, f"-Wl,-rpath,{home}", "-o", path]
    if shutil.which("ld.gold"):
        command.append("-fuse-ld=gold")  # links in 2 s instead of 8 s
    subprocess.run(command, check=True)
    return path


def test_a_c_program_gives_the_captions_of_the_live_model(program, cropped, tmp_path):
    exported = cropped / "out/1"
    stored = tf.train.load_checkpoint(str(exported / "variables/variables"))
    assert {tf.float16, tf.float32} <= set(stored.get_variable_to_dtype_map().values())
    saved = exported / "saved_model.pb"
    graph = saved_model_pb2.SavedModel.FromString(saved.read_bytes())
    signature = graph.meta_graphs[0].signature_def["serving_default"]
    image_bytes = signature.inputs["image_bytes"].name.split(":")[0]
    output, number = signature.outputs["captions"].name.split(":")
    live = ImageCaptioner(cropped / "run")
    files = {**good_files(), "broken": bad_files()["half a jpeg"]}
    for name, file in files.items():
        (tmp_path / name).write_bytes(file)
    expected = []
    for index, (name, file) in enumerate(files.items()):
        texts = ["", ""] if name == "broken" else [caption.text for caption in live.captions(file)]
        expected += [f"{index}\t{text}" for text in texts]
    paths = [tmp_path / name for name in files]
    command = [program, exported, image_bytes, output, number, *paths]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert completed.stdout.splitlines() == expected


def test_a_c_program_reports_usage_and_a_missing_model(program, tmp_path):
    completed = subprocess.run([program], capture_output=True, text=True, check=False)
    assert completed.returncode == 2
    assert "usage: caption" in completed.stderr
    command = [program, tmp_path, "a", "b", "0", "c"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 1
    assert str(tmp_path) in completed.stderr
