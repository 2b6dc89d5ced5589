"""Packages that Keras does not need are hidden while it is imported, and only then."""

import importlib
import sys

import pytest

from keras_aoa.utils.keras_settings import _hidden


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "optional_package.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "optional_package"
    sys.modules.pop("optional_package", None)


def test_a_hidden_package_counts_as_missing_until_the_block_ends(package):
    with pytest.raises(ImportError), _hidden([package]):
        importlib.import_module(package)
    assert importlib.import_module(package).value == 1


def test_an_imported_package_stays(package):
    imported = importlib.import_module(package)
    with _hidden([package]):
        assert importlib.import_module(package) is imported
    assert sys.modules[package] is imported
