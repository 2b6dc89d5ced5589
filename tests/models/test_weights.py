"""Weights in one file: round trips, files that are damaged or of another model."""

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
FACTS = {"vocabulary": "0a1b", "cider": 0.5}


def test_arrays_and_facts_come_back_as_they_were(tmp_path):
    weights.save_arrays(tmp_path / "best.npz", ARRAYS, FACTS)
    arrays, facts = weights.load_arrays(tmp_path / "best.npz")
    assert facts == FACTS
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["best.npz"]


def test_saving_that_breaks_off_leaves_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / "best.npz"
    weights.save_arrays(path, ARRAYS, FACTS)

    def full_disk(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        weights.save_arrays(path, {"other": np.zeros(3)}, {})
    arrays, facts = weights.load_arrays(path)
    assert set(arrays) == set(ARRAYS)
    assert facts == FACTS


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match=r"best.npz: expected saved weights, found no file"):
        weights.load_arrays(tmp_path / "best.npz")


@pytest.mark.parametrize("damage", ["empty", "text", "half", "flipped", "other zip", "no facts"])
def test_a_damaged_file_is_told_in_one_line(damage, tmp_path):
    path = tmp_path / "best.npz"
    weights.save_arrays(path, {**ARRAYS, "noise": np.random.default_rng(0).random(999)}, FACTS)
    content = path.read_bytes()
    if damage == "flipped":
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    elif damage == "half":
        content = content[: len(content) // 2]
    path.write_bytes({"empty": b"", "text": b"weights"}.get(damage, content))
    if damage == "no facts":
        np.savez(path, **ARRAYS)
    elif damage == "other zip":
        np.savez(path, facts=np.array("{half"), **ARRAYS)
    with pytest.raises(UserError, match=r"best.npz: expected .* damaged file .*restore it") as told:
        weights.load_arrays(path)
    assert "\n" not in str(told.value)


def test_nothing_in_a_file_is_unpickled(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    np.savez(
        tmp_path / "best.npz",
        facts=np.array(json.dumps(FACTS)),
        kernel=np.array([Harm()], dtype=object),
    )
    with pytest.raises(UserError, match=r"received a damaged file .*allow_pickle=False"):
        weights.load_arrays(tmp_path / "best.npz")
    (tmp_path / "best.npz").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(UserError, match="received a damaged file"):
        weights.load_arrays(tmp_path / "best.npz")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("variant", ["baseline", "full"])
def test_a_captioner_gets_its_weights_back_whatever_was_made_before(variant, tmp_path):
    captioner = tiny.make_captioner(variant, weights=1)
    saved = weights.values(weights.captioner_variables(captioner, with_backbone=True))
    weights.save_arrays(tmp_path / "best.npz", saved, {})
    arrays, _ = weights.load_arrays(tmp_path / "best.npz")
    other = tiny.make_captioner(variant, weights=2)
    inputs = {"images": tiny.make_images(2), "captions": np.array([[[1, 4, 7, 2]]] * 2)}
    assert np.abs(other(inputs) - captioner(inputs)).max() > 0.1
    weights.assign(weights.captioner_variables(other, with_backbone=True), arrays, "best.npz")
    np.testing.assert_array_equal(other(inputs), captioner(inputs))


def test_names_of_an_optimizers_variables_do_not_count_the_models_made_before():
    names = []
    for _ in range(2):
        optimizer = keras.optimizers.Adam()
        optimizer.build(tiny.make_captioner().trainable_variables)
        names.append(list(weights.named_variables("optimizer", optimizer.variables)))
    assert names[0] == names[1]
    assert len(set(names[0])) == len(optimizer.variables)


def test_a_backbone_that_is_never_trained_and_seeds_are_left_out():
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
        message = r"last.npz: captioner/001/kernel should have shape \(2, 3\), received \(3, 2\)"
    with pytest.raises(UserError, match=message):
        weights.assign(variables, arrays, "last.npz")
    assert all((np.asarray(variable) == 1).all() for variable in variables.values())


def test_the_digest_tells_files_apart(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (weights.file_digest(tmp_path / name) for name in "abc")
    assert a == c != b
    assert a == "7692c3ad3540bb80"
