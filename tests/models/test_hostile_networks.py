"""Network and array files that contain code are refused in one line and nothing is executed."""

import json
import pathlib
import pickle
import tempfile
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from pictures_of_all_kinds import file_of, photograph

from keras_aoa.data.proposals.cache import ProposalCache, ProposalSettings
from keras_aoa.models.backbones import load_backbone
from keras_aoa.models.weights import load_arrays
from keras_aoa.utils.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Touch:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


# --- untrusted network files ----------------------------------------------------------------------


def saved(folder):
    """Save a valid network; returns its path and its config."""
    pixels = keras.Input((16, 16, 3))
    outputs = layers.Conv2D(2, 3, name="last")(layers.Activation("relu", name="first")(pixels))
    path = folder / "network.keras"
    keras.Model(pixels, outputs).save(path)
    with zipfile.ZipFile(path) as archive:
        return path, json.loads(archive.read("config.json"))


def rewritten(path, config, more=()):
    """Replace the config in the file and add members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = config if isinstance(config, bytes) else json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (*members.items(), *more):
            archive.writestr(name, content)


def replace_first_layer(config, layer):
    """Replace the first layer in a config and keep its name."""
    for index, original in enumerate(config["config"]["layers"]):
        if original["name"] == "first":
            config["config"]["layers"][index] = {**original, **layer}
    return config


def python(marker):
    """Python code that creates a file, serialized as Keras does."""
    touch = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
    code, defaults, closure = keras.src.utils.python_utils.func_dump(touch)
    return {"code": code, "defaults": defaults, "closure": closure}


def evil_layers(marker):
    """Malicious layer configs by the kind of attack."""
    code = {"class_name": "__lambda__", "config": python(marker)}
    value = {"class_name": "__lambda__", "config": {"value": python(marker)["code"]}}
    built_in = {"module": "keras.layers", "registered_name": None, "build_config": None}
    called = {"module": "builtins", "class_name": "function", "registered_name": "function"}
    config = {"name": "first", "trainable": True, "dtype": "float32"}

    def layer(name, **more):
        return {**built_in, "class_name": name, "config": {**config, **more}}

    return {
        "lambda": layer("Lambda", function=code, arguments={}),
        "lambda as activation": layer("Activation", activation=value),
        "lambda by name": layer("Lambda", function={**called, "config": "exec"}, arguments={}),
        "os.system": {
            **built_in,
            "module": "os",
            "class_name": "system",
            "config": {"command": f"touch {marker}"},
        },
        "subprocess": {
            **built_in,
            "module": "subprocess",
            "class_name": "Popen",
            "config": {"args": ["touch", str(marker)]},
        },
        "function of builtins": layer("Activation", activation={**called, "config": "eval"}),
        "function of Keras": layer(
            "Activation",
            activation={**called, "module": "keras.utils", "config": "get_file"},
        ),
        "unsafe loading": layer(
            "Activation",
            activation={
                **called,
                "module": "keras.config",
                "config": "enable_unsafe_deserialization",
            },
        ),
        "a saved graph": layer("TFSMLayer", filepath=str(marker.parent / "graph")),
        "a file's words": layer("StringLookup", vocabulary=str(marker.parent / "words.txt")),
        "torch": layer("TorchModuleWrapper", module={"class_name": "__bytes__", "config": "x"}),
        "unknown": {**layer("Own"), "module": "photographs", "registered_name": "photographs>Own"},
        "unknown of ours": {**layer("Own"), "module": None, "registered_name": "keras_aoa>Own"},
    }


def refuses(path, marker, reason=""):
    with pytest.raises(UserError) as refusal:
        load_backbone(path)
    message = str(refusal.value)
    assert len(message.splitlines()) == 1 and len(message) < 600
    assert f"{path}: expected a backbone in Keras's .keras format" in message
    assert reason in message
    assert not marker.exists()


@pytest.fixture
def marker(tmp_path):
    (tmp_path / "words.txt").write_text("secret\nwords")
    return tmp_path / "executed"


@pytest.mark.parametrize(
    ("evil", "reason"),
    {
        "lambda": "a Python lambda",
        "lambda as activation": "a Python lambda",
        "lambda by name": "Could not locate function 'exec'",
        "os.system": "Could not locate class 'system'",
        "subprocess": "Could not locate class 'Popen'",
        "function of builtins": "Could not locate function 'eval'",
        "function of Keras": "not a modeling function",
        "unsafe loading": "not a modeling function",
        "a saved graph": "loads an external SavedModel",
        "a file's words": "vocabulary",
        "torch": "",
        "unknown": "Could not locate class 'Own'",
        "unknown of ours": "Could not locate class 'Own'",
    }.items(),
)
def test_a_network_that_contains_code_or_reads_files_is_refused(evil, reason, tmp_path, marker):
    path, config = saved(tmp_path)
    if evil == "a saved graph":
        module = tf.Module()
        module.f = tf.function(
            lambda x: tf.io.write_file(str(marker), "executed") and x,
            input_signature=[tf.TensorSpec((None, 16, 16, 3))],
            autograph=False,
        )
        tf.saved_model.save(module, str(tmp_path / "graph"))
    assert load_backbone(path)
    rewritten(path, replace_first_layer(config, evil_layers(marker)[evil]))
    refuses(path, marker, reason)


def test_the_code_runs_without_safe_mode(tmp_path, marker):
    path, config = saved(tmp_path)
    rewritten(path, replace_first_layer(config, evil_layers(marker)["lambda"]))
    keras.models.load_model(path, compile=False, safe_mode=False)
    assert marker.exists()


@pytest.mark.parametrize(
    "config",
    [b"", b"[" * 100_000, b"\xff\xfe", b"{}", b"[1]", b'{"class_name": 3, "config": {}}', b"null"],
)
def test_an_invalid_config_is_refused(config, tmp_path, marker):
    path, _ = saved(tmp_path)
    rewritten(path, config)
    refuses(path, marker)


@pytest.mark.filterwarnings("ignore:Skipping invalid path")
def test_loading_a_network_writes_no_files(tmp_path, marker, monkeypatch):
    folders = [tmp_path / "a/b" / name for name in ("network", "working", "temporary")]
    for folder in folders:
        folder.mkdir(parents=True)
    path, config = saved(folders[0])
    monkeypatch.chdir(folders[1])
    monkeypatch.setattr(tempfile, "tempdir", str(folders[2]))
    names = ["../../executed", "assets/../../../executed", "assets/inside", str(marker)]
    rewritten(path, config, [(name, b"executed") for name in names])
    before = set(tmp_path.rglob("*"))
    try:
        load_backbone(path)
    except UserError as mistake:
        message = str(mistake)
        assert len(message.splitlines()) == 1
    # Neither outside, nor beside the file, in the working folder or left as temporary files.
    assert set(tmp_path.rglob("*")) == before and not marker.exists()


def test_formats_other_than_keras_are_refused(tmp_path, marker):
    pixels = keras.Input((16, 16, 3))
    model = keras.Model(pixels, layers.Conv2D(2, 3)(pixels))
    model.save(tmp_path / "network.h5")
    model.export(tmp_path / "graph.keras", verbose=False)
    for name in ("network.h5", "graph.keras"):
        refuses(tmp_path / name, marker)


# --- arrays ---------------------------------------------------------------------------------------


def test_pickles_in_arrays_are_not_loaded(tmp_path, marker):
    evil = np.array([Touch(marker)], dtype=object)
    np.savez(tmp_path / "best.npz", facts=evil, weights=evil)
    with pytest.raises(UserError, match=r"best.npz: expected saved weights, .* damaged") as raised:
        load_arrays(tmp_path / "best.npz")
    assert len(str(raised.value).splitlines()) == 1
    (tmp_path / "image.png").write_bytes(file_of(photograph(), "PNG"))
    cache = ProposalCache(tmp_path, ProposalSettings(count=5))
    image = [str(tmp_path / "image.png")]
    assert cache.extract(image) == []
    (kept,) = cache.folder.rglob("*.npy")
    np.save(kept, evil)
    assert len(cache.read(image)[0]) and not marker.exists()
    kept.write_bytes(pickle.dumps(Touch(marker)))
    assert len(cache.read(image)[0]) and not marker.exists()
    pickle.loads(pickle.dumps(Touch(marker)))
    assert marker.exists(), "unpickling would have created the file"


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "__import__('os').system('true')",
        "[" * 5000,
        "",
    ],
)
def test_an_array_with_an_invalid_header_raises_a_one_line_error(header, tmp_path):
    with zipfile.ZipFile(tmp_path / "best.npz", "w") as archive:
        archive.writestr("facts.npy", npy(header))
        archive.writestr("weights.npy", npy(header))
    with pytest.raises(UserError, match=r"best.npz: expected saved weights, .* damaged") as raised:
        load_arrays(tmp_path / "best.npz")
    assert len(str(raised.value).splitlines()) == 1


def npy(header):
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode()
