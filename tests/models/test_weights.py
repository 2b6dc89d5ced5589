"""Weights in one file: round trips, damaged files, and files of another model."""

import json
import os
import pickle

import keras
import numpy as np
import pytest
import tiny

from keras_aoa.models import weights
from keras_aoa.utils.errors import UserError

ARRAYS = {
    "captioner/000/kernel": np.arange(6, dtype="float32").reshape(2, 3),
    "steps": np.array(7, dtype="int64"),
}
METADATA = {"vocabulary": "0a1b", "cider": 0.5}


def test_arrays_and_metadata_survive_a_round_trip(tmp_path):
    weights.save_arrays(tmp_path / "best.npz", ARRAYS, METADATA)
    arrays, metadata = weights.load_arrays(tmp_path / "best.npz")
    assert metadata == METADATA
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["best.npz"]


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "best.npz"
    weights.save_arrays(path, ARRAYS, METADATA)

    def full_disk(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        weights.save_arrays(path, {"other": np.zeros(3)}, {})
    arrays, metadata = weights.load_arrays(path)
    assert set(arrays) == set(ARRAYS)
    assert metadata == METADATA


def test_a_missing_file_raises_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"best.npz: expected saved weights, found no file"):
        weights.load_arrays(tmp_path / "best.npz")


@pytest.mark.parametrize("damage", ["empty", "text", "half", "flipped", "other zip", "no metadata"])
def test_a_damaged_file_raises_a_one_line_error(damage, tmp_path):
    path = tmp_path / "best.npz"
    weights.save_arrays(path, {**ARRAYS, "noise": np.random.default_rng(0).random(999)}, METADATA)
    content = path.read_bytes()
    if damage == "flipped":
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    elif damage == "half":
        content = content[: len(content) // 2]
    path.write_bytes({"empty": b"", "text": b"weights"}.get(damage, content))
    if damage == "no metadata":
        np.savez(path, **ARRAYS)
    elif damage == "other zip":
        np.savez(path, facts=np.array("{half"), **ARRAYS)
    with pytest.raises(
        UserError, match=r"best.npz: expected .* damaged file .*restore it"
    ) as raised:
        weights.load_arrays(path)
    assert "\n" not in str(raised.value)


def test_nothing_in_a_file_is_unpickled(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    np.savez(
        tmp_path / "best.npz",
        facts=np.array(json.dumps(METADATA)),
        kernel=np.array([Harm()], dtype=object),
    )
    with pytest.raises(UserError, match=r"received a damaged file .*allow_pickle=False"):
        weights.load_arrays(tmp_path / "best.npz")
    (tmp_path / "best.npz").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(UserError, match="received a damaged file"):
        weights.load_arrays(tmp_path / "best.npz")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("variant", ["baseline", "full"])
def test_captioner_weights_survive_a_round_trip_to_another_instance(variant, tmp_path):
    captioner = tiny.make_captioner(variant, weights=1)
    saved = weights.values(weights.captioner_variables(captioner, with_backbone=True))
    weights.save_arrays(tmp_path / "best.npz", saved, {})
    arrays, _ = weights.load_arrays(tmp_path / "best.npz")
    other = tiny.make_captioner(variant, weights=2)
    inputs = {"images": tiny.make_images(2), "captions": np.array([[[1, 4, 7, 2]]] * 2)}
    assert np.abs(other(inputs) - captioner(inputs)).max() > 0.1
    weights.assign(weights.captioner_variables(other, with_backbone=True), arrays, "best.npz")
    np.testing.assert_array_equal(other(inputs), captioner(inputs))


def test_optimizer_variable_names_do_not_depend_on_models_built_before():
    names = []
    for _ in range(2):
        optimizer = keras.optimizers.Adam()
        optimizer.build(tiny.make_captioner().trainable_variables)
        names.append(list(weights.named_variables("optimizer", optimizer.variables)))
    assert names[0] == names[1]
    assert len(set(names[0])) == len(optimizer.variables)


def test_captioner_variables_exclude_seeds_and_optionally_the_backbone():
    captioner = tiny.make_captioner()
    own = weights.captioner_variables(captioner, with_backbone=False)
    every = weights.captioner_variables(captioner, with_backbone=True)
    assert len(own) == len(captioner.cell.weights) + 1
    assert len(every) == len(own) + len(captioner.backbone.weights)
    assert len({id(variable) for variable in every.values()}) == len(every)
    assert {name.split("/")[0] for name in own} == {"cell", "image_projection"}
    assert all(name.startswith("backbone/") for name in set(every) - set(own))
    assert not any(variable is captioner.seeds.state for variable in every.values())


@pytest.mark.parametrize("at_fault", ["missing", "shape"])
def test_weights_of_another_model_are_refused_and_change_nothing(at_fault):
    variables = weights.named_variables(
        "captioner", [keras.Variable(np.ones((2, 3)), name=name) for name in ("words", "kernel")]
    )
    first, second = variables
    arrays = {first: np.zeros((2, 3)), second: np.zeros((2, 3))}
    if at_fault == "missing":
        del arrays[second]
        message = "last.npz: expected weights captioner/001/kernel, found none"
    else:
        arrays[second] = np.zeros((3, 2))
        message = r"last.npz: expected captioner/001/kernel of shape \(2, 3\), received \(3, 2\)"
    with pytest.raises(UserError, match=message):
        weights.assign(variables, arrays, "last.npz")
    assert all((np.asarray(variable) == 1).all() for variable in variables.values())


def test_file_digests_differ_if_and_only_if_contents_differ(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (weights.file_digest(tmp_path / name) for name in "abc")
    assert a == c != b
    assert a == "7692c3ad3540bb80"
