"""Reads weights that PyTorch saved, without PyTorch and without executing the file.

A file of PyTorch contains pickles: small programs that may call any Python function. Python's own
reader runs the programs in pickles. The reader in this module interprets only the instructions that
describe names and tensors. The reader refuses all other instructions, and calls no function that
the file names.

Source: the format of `torch.save` before PyTorch 1.6, `torch/serialization.py`.
"""

import io
import pickletools
from dataclasses import dataclass

import numpy as np

from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import first_line, printable

# Two pickles: PyTorch's magic number and the version of the format, 1001.
HEADER = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
DICTIONARY = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"
DTYPES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
MARK = object()


@dataclass(frozen=True)
class _Name:
    """A module and a name in it, to which the file refers but which the reader never imports."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """Numbers that tensors share. In the file, the numbers follow the pickles."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A tensor as part of a storage. The unit of `offset` and `strides` is one number."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


def read_torch_weights(path):
    """Read a dictionary of tensors that PyTorch saved.

    Args:
        path: A file of `torch.save(model.state_dict(), path)`, in the format before PyTorch 1.6,
            with tensors of float32 and int64.

    Returns:
        Dictionary from names to read-only arrays.

    Raises:
        UserError: the file is missing, is damaged, has another format, or contains something other
            than named tensors.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(len(HEADER))
            if header != HEADER:
                raise ValueError(
                    "the zip format of PyTorch 1.6" if header[:2] == b"PK" else "another format"
                )
            return _read_tensors(io.BytesIO(file.read()))
    except Exception as error:  # an untrusted file can raise any error
        reason = printable(first_line(str(error), type(error).__name__))
        raise UserError(
            f"{path}: expected a dictionary of tensors in PyTorch's format before version 1.6, "
            f"received a file that cannot be read ({reason}); give another file."
        ) from error


def _read_tensors(file):
    if not _read_value(file)["little_endian"]:
        raise ValueError("numbers with the most significant byte first")
    tensors = _read_value(file)
    if not isinstance(tensors, dict) or not all(isinstance(x, _Tensor) for x in tensors.values()):
        raise ValueError("a value that is not a dictionary of tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    buffers = {}
    for key in _read_value(file):
        storage = storages[key]
        count = int.from_bytes(file.read(8), "little")
        size = storage.count * np.dtype(storage.dtype).itemsize
        buffers[key] = file.read(size)
        if count != storage.count or len(buffers[key]) != size:
            raise ValueError(f"a wrong number of values in storage {key}")
    return {name: _array(tensor, buffers) for name, tensor in tensors.items()}


def _array(tensor, buffers):
    """Return the array of a tensor. NumPy raises an error if the tensor exceeds its storage."""
    dtype = np.dtype(tensor.storage.dtype)
    return np.ndarray(
        tensor.shape,
        dtype,
        buffers[tensor.storage.key],
        tensor.offset * dtype.itemsize,
        [stride * dtype.itemsize for stride in tensor.strides],
    )


def _read_value(file):
    """Read the next pickle: numbers, text, tuples, lists, dictionaries and `_Tensor`."""
    stack, memo = [], {}
    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "STOP":
                pass
            case name if name in LITERALS:
                stack.append(argument)
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "MARK":
                stack.append(MARK)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_known(argument))
            case "TUPLE":
                stack.append(tuple(_after_mark(stack)))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                length = int(name[-1])
                stack[-length:] = [tuple(stack[-length:])]
            case "APPENDS":
                items = _after_mark(stack)
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS" as name:
                items = _after_mark(stack) if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                if not all(isinstance(key, str) for key in items[::2]):
                    raise ValueError("a dictionary whose keys are not text")
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "BINPERSID":
                stack.append(_storage(*stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_made(function, arguments))
            case "BUILD":  # attributes of a dictionary, such as the versions of its modules
                stack.pop()
            case name:
                raise ValueError(f"the pickle instruction {name}")
    (value,) = stack
    return value


def _known(name):
    if name not in (DICTIONARY, TENSOR, *DTYPES):
        raise ValueError(f"the name {name!r}, which is not part of a tensor")
    return _Name(name)


def _after_mark(stack):
    """Remove the last mark and the values after the mark from the stack. Return these values."""
    start = len(stack) - 1
    while stack[start] is not MARK:
        start -= 1
        if start < 0:
            raise ValueError("a pickle without a mark")
    values = stack[start + 1 :]
    del stack[start:]
    return values


def _storage(kind, dtype, key, _device, count, view):
    if kind != "storage" or view is not None or type(key) is not str or type(count) is not int:
        raise ValueError("a storage of another kind")
    return _Storage(DTYPES[dtype.text], key, count)


def _made(function, arguments):
    if function == _Name(DICTIONARY) and arguments == ():
        return {}
    if function == _Name(TENSOR) and isinstance(arguments[0], _Storage):
        return _Tensor(*arguments[:4])
    raise ValueError("a call of another function")
