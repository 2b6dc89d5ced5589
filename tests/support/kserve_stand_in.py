"""Imports `keras_aoa.serving.server` without KServe, with stand-ins for the parts that it uses."""

import contextlib
import importlib
import sys
import types

import pytest

SERVER = "keras_aoa.serving.server"


class InvalidInput(ValueError):
    """Stands in for KServe's error of an invalid request."""


@contextlib.contextmanager
def server_module():
    """Yield the module; the stand-ins are removed afterwards."""
    model = type("Model", (), {"__init__": lambda self, name: setattr(self, "name", name)})
    contents = {
        "kserve": {"Model": model},
        "kserve.errors": {"InvalidInput": InvalidInput, "ModelNotFound": KeyError},
        "kserve.protocol": {},
        "kserve.protocol.rest": {},
        "kserve.protocol.rest.server": {"RESTServer": None},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, content in contents.items():
            patch.setitem(sys.modules, name, types.ModuleType(name))
            vars(sys.modules[name]).update(content)
        patch.delitem(sys.modules, SERVER, raising=False)
        module = importlib.import_module(SERVER)
        patch.setitem(sys.modules, SERVER, module)
        yield module
