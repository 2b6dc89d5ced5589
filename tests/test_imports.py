"""Imports run one way, and `--help` loads no framework."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "keras_aoa"

# Folder of the package: what none of its files imports, at the top or inside a function.
KEEPS_AWAY_FROM = {
    "data": {
        "layers",
        "models",
        "training",
        "evaluation",
        "serving",
        "run",
        "captioning",
        "collection",
    },
    "models": {"training", "evaluation", "serving", "run", "captioning", "collection"},
    "training": {"serving", "collection"},
    "evaluation": {"training", "serving", "collection"},
    "serving": {"training", "evaluation", "captioning", "collection"},
    "collection": {"layers", "training", "serving"},
}


def imported(path):
    """Dotted names of what a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def parts_of_the_package(path):
    """Folders and modules of the package that a file imports."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("keras_aoa.")}


def modules_after(statement):
    """Names of all modules loaded in a fresh Python after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(("folder", "others"), KEEPS_AWAY_FROM.items())
def test_imports_run_one_way(folder, others):
    files = list((PACKAGE / folder).rglob("*.py"))
    assert files
    for path in files:
        assert not parts_of_the_package(path) & others, path


def test_layers_import_keras_and_nothing_else():
    files = list((PACKAGE / "layers").glob("*.py"))
    assert files
    for path in files:
        assert parts_of_the_package(path) <= {"layers"}, path
        packages = {name.split(".")[0] for name in imported(path)}
        assert packages <= {"keras", "keras_aoa", *sys.stdlib_module_names}, path


def test_importing_the_layers_loads_no_other_part_of_the_package():
    loaded = modules_after("import keras_aoa.layers")
    parts = {name.split(".")[1] for name in loaded if name.startswith("keras_aoa.")}
    assert parts == {"layers"}


@pytest.mark.parametrize(
    "module",
    [
        "keras_aoa",
        "keras_aoa.train",
        "keras_aoa.evaluate",
        "keras_aoa.caption",
        "keras_aoa.collection.work",
        "keras_aoa.export",
        "keras_aoa.propose",
        "keras_aoa.pretrain",
        "keras_aoa.data.readers",
        "keras_aoa.data.text.vocabulary",
        "keras_aoa.settings.configuration",
    ],
)
def test_frameworks_wait_until_they_are_needed(module):
    loaded = modules_after(f"import {module}")
    assert module in loaded
    assert not loaded & {"keras", "tensorflow", "cv2", "matplotlib", "pycocotools"}
