"""Imports run one way, and `--help` loads no framework."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "keras_aoa"

# Packages from the ground up. A package imports only packages of earlier rows, and a file only
# other files without a cycle. Files at the top are commands and documented imports.
ORDER = (
    {"utils", "layers"},
    {"settings", "distribution"},
    {"data"},
    {"models"},
    {"runs"},
    {"visualization"},
    {"inference"},
    {"evaluation"},
    {"training"},
    {"collection", "serving", "reproduction", "demo_page"},
)


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


def modules():
    """Names of the package's modules, and the names of those that each imports."""
    files = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in files.items():
        names = {name if name in files else name.rpartition(".")[0] for name in imported(path)}
        graph[module] = {name for name in names if name in files} - {module}
    return graph


def reachable(graph, module):
    """All modules that a module imports, also through others."""
    seen, waiting = set(), [module]
    while waiting:
        for name in graph[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def package_of(module):
    """The package of a module; None for files at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else None


def modules_after(statement):
    """Names of all modules loaded in a fresh Python after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_every_package_is_in_the_order():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set().union(*ORDER)


def test_packages_import_only_earlier_ones_also_through_others():
    graph = modules()
    earlier = set()
    for row in ORDER:
        for module in graph:
            if package_of(module) in row:
                packages = {package_of(name) for name in reachable(graph, module)}
                assert packages <= earlier | {package_of(module)}, module
        earlier |= row


def test_no_module_imports_itself_through_others():
    graph = modules()
    assert not [module for module in graph if module in reachable(graph, module)]


def test_layers_import_keras_and_nothing_else():
    files = list((PACKAGE / "layers").glob("*.py"))
    assert files
    for path in files:
        assert all(
            name.startswith("keras_aoa.layers")
            for name in imported(path)
            if name.startswith("keras_aoa.")
        ), path
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
        "keras_aoa.demo",
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
