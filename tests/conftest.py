"""Fixtures that several test files use."""

import pathlib

import pytest


@pytest.fixture(scope="session")
def shared():
    """Folder of real photographs, captions and a pretrained network, beside the checkout."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder 'shared' with real data beside the checkout")
    return folder
