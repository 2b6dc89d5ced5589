"""Weights of PyTorch: tensors are read exactly, and any other content is refused, never run."""

import pathlib
import pickle
import struct

import numpy as np
import pytest

from keras_aoa.models.torch_weights import HEADER, read_torch_weights
from keras_aoa.utils.errors import UserError

NUMBERS = np.random.default_rng(0).normal(size=24).astype("<f4")
STEPS = np.array([7, -(2**40)], "<i8")


def pickled(value):
    """Pickle a value as part of another pickle."""
    return pickle.dumps(value, 2)[2:-1]


def tensor(shape, strides, offset=0, key="first", kind="FloatStorage", count=24):
    """Pickle a tensor as PyTorch does; offset and strides are in numbers."""
    storage = b"(" + pickled("storage") + b"ctorch\n" + kind.encode() + b"\n"
    storage += pickled(key) + pickled("cpu") + pickled(count) + pickled(None) + b"tQ"
    part = pickled(offset) + pickled(shape) + pickled(strides) + pickled(False)
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + part + hooks + b"tR"


def content(tensors, keys=("first", "second"), little_endian=True):
    """Build the bytes of a file.

    Args:
        tensors: Dictionary from names to pickled tensors, or a pickle in place of all tensors.
        keys: Keys of the storages.
        little_endian: The order of bytes that the file states.
    """
    if isinstance(tensors, dict):
        items = b"".join(pickled(name) + value for name, value in tensors.items())
        state = pickled({"_metadata": {"": {"version": 1}}})
        tensors = b"ccollections\nOrderedDict\n)R(" + items + b"u" + state + b"b"
    data = struct.pack("<q", 24) + NUMBERS.tobytes() + struct.pack("<q", 2) + STEPS.tobytes()
    system = pickle.dumps({"protocol_version": 1001, "little_endian": little_endian}, 2)
    return HEADER + system + b"\x80\x02" + tensors + b"." + pickle.dumps(list(keys), 2) + data


TENSORS = {
    "plain": tensor((2, 3, 4), (12, 4, 1)),
    "transposed": tensor((4, 6), (1, 4)),
    "part": tensor((5,), (1,), offset=19),
    "number": tensor((), (), offset=3),
    "steps": tensor((2,), (1,), 0, "second", "LongStorage", 2),
}


@pytest.fixture
def refused(tmp_path):
    """Check that bytes are refused in one line; returns the message."""

    def check(written):
        path = tmp_path / "weights.pth"
        path.write_bytes(written)
        with pytest.raises(UserError, match=r"weights\.pth: expected a dictionary") as raised:
            read_torch_weights(path)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return check


def test_tensors_are_parts_of_their_storages(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content(TENSORS))
    arrays = read_torch_weights(path)
    expected = {
        "plain": NUMBERS.reshape(2, 3, 4),
        "transposed": NUMBERS.reshape(6, 4).T,
        "part": NUMBERS[19:],
        "number": NUMBERS[3],
        "steps": STEPS,
    }
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name], strict=True)


class Touch:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_a_hostile_pickle_does_not_run(tmp_path, refused):
    marker = tmp_path / "marker"
    harm = pickled(Touch(marker))
    pickle.loads(b"\x80\x02" + harm + b".")
    assert marker.exists()  # it would run
    marker.unlink()
    assert "the name '" in refused(content(harm))
    assert "the name '" in refused(content({"weight": harm}))
    assert "the name 'posix system'" in refused(content(b"cposix\nsystem\n(Vtouch x\ntR"))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (b"(iposix\nsystem\n", "instruction INST"),
        (b"\x8c\x05posix\x8c\x06system\x93", "instruction SHORT_BINUNICODE"),
        (b"ctorch\nFloatStorage\n)R", "a call of another function"),
        (b"ccollections\nOrderedDict\n" + pickled((1,)) + b"R", "a call of another function"),
        (b"ctorch\nFloatStorage\n)\x81", "instruction NEWOBJ"),
        (b"ctorch\r\nevil\x1b[31m\n", "the name"),
        (pickled(b"bytes"), "the name '_codecs encode'"),
    ],
)
def test_any_other_instruction_is_refused(hostile, reason, refused):
    message = refused(content({"weight": hostile}))
    assert reason in message and message.isprintable()


@pytest.mark.parametrize("share", [0, 0.03, 0.2, 0.5, 0.8, 0.99])
def test_a_truncated_file_is_refused(share, refused):
    whole = content(TENSORS)
    assert "cannot be read" in refused(whole[: int(share * len(whole))])


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (pickled([1, 2]), "not a dictionary of tensors"),
        (pickled("text"), "not a dictionary of tensors"),
        ({"epoch": pickled(3)}, "not a dictionary of tensors"),
        ({3: TENSORS["plain"]}, "keys are not text"),
        ({"weight": tensor((2,), (1,), kind="HalfStorage")}, "HalfStorage"),
        ({"weight": tensor((2,), (1,), count=23)}, "wrong number of values in storage first"),
        ({"weight": tensor((2,), (1,), key="third")}, "first"),
    ],
)
def test_a_wrong_type_is_refused(tensors, reason, refused):
    assert reason in refused(content(tensors))


@pytest.mark.parametrize(
    "outside",
    [
        tensor((25,), (1,)),
        tensor((5,), (1,), offset=20),
        tensor((2, 2), (24, 1)),
        tensor((2,), (-1,)),
        tensor((1,), (1,), offset=-1),
        tensor((-1,), (1,)),
        tensor((2,), (2**62,)),
        tensor((2**40, 2**40), (0, 0)),
        tensor((2, 2), (1,)),
        tensor(2.5, 1),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(outside, refused):
    refused(content({"weight": outside, "steps": TENSORS["steps"]}))


def test_other_formats_are_refused(tmp_path, refused):
    assert "zip format of PyTorch 1.6" in refused(b"PK\x03\x04" + bytes(100))
    assert "another format" in refused(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "most significant byte first" in refused(content(TENSORS, little_endian=False))
    with pytest.raises(UserError, match="No such file"):
        read_torch_weights(tmp_path / "missing.pth")
    with pytest.raises(UserError, match="directory"):
        read_torch_weights(tmp_path)
