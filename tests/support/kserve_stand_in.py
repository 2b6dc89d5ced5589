"""Loads `export/server.py` without KServe, with stand-ins for the parts that it uses."""

import contextlib
import importlib.util
import pathlib
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class InvalidInput(ValueError):
    """Stands in for KServe's error of an invalid request."""


@contextlib.contextmanager
def server_module():
    """Yield the module; the stand-ins are removed afterwards."""
    model = type("Model", (), {"__init__": lambda self, name: setattr(self, "name", name)})
    stand_ins = {"kserve": types.ModuleType("kserve"), "kserve.errors": types.ModuleType("errors")}
    stand_ins["kserve"].Model = model
    stand_ins["kserve.errors"].InvalidInput = InvalidInput
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stand_ins.items():
            patch.setitem(sys.modules, name, module)
        spec = importlib.util.spec_from_file_location("server", ROOT / "export/server.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
