"""The program `keras-aoa`: its commands, its name in messages, and missing packages."""

import importlib
import os
import pathlib
import runpy
import sys

import pytest

from keras_aoa import __version__, cli, evaluate
from keras_aoa.utils.command_line import EXTRAS
from keras_aoa.utils.errors import UserError

GROWTH = "TF_FORCE_GPU_ALLOW_GROWTH"  # read by TensorFlow
ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that calls `keras-aoa`, and returns its status, output and errors."""
    # `python -m pytest` is not the program.
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)

    def run(*arguments, program="bin/keras-aoa", start=cli.command):
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        status = 0
        try:
            start()
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(("before", "after"), [("", "true"), ("false", "false")])
def test_gpu_memory_grows_unless_the_user_chose_otherwise(call, monkeypatch, before, after):
    monkeypatch.setenv(GROWTH, "x")  # restored after the test
    monkeypatch.delenv(GROWTH)
    if before:
        monkeypatch.setenv(GROWTH, before)
    assert call("--help")[0] == 0
    assert os.environ[GROWTH] == after


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_help_lists_all_commands_with_one_line_each(call, arguments):
    status, printed, _ = call(*arguments)
    lines = printed.splitlines()
    assert status == 0 and lines[0] == "usage: keras-aoa COMMAND ..."
    for name, command in cli.COMMANDS.items():
        assert f"  {name:<10} {command.purpose}" in lines


def test_every_command_exists():
    for command in cli.COMMANDS.values():
        assert callable(importlib.import_module(command.module).main)


def test_the_version_is_printed(call):
    assert call("--version")[:2] == (0, f"{__version__}\n")


def test_an_unknown_command_is_answered_with_the_nearest(call):
    status, _, error = call("trian", "--lr", "1")
    assert (status, error) == (2, "keras-aoa: unknown command 'trian'. Did you mean train?\n")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_and_errors_name_the_command_as_it_was_called(call, name):
    status, printed, _ = call(name, "--help")
    assert status == 0 and f"usage: keras-aoa {name} " in printed
    if name not in ("reproduce", "download"):  # they check their first argument first
        status, _, error = call(name, "a", "b", "--no-such-setting")
        assert status == 2 and error.startswith(f"keras-aoa {name}: un")


@pytest.mark.parametrize(
    ("file", "name"),
    [("train.py", "train"), ("evaluate.py", "evaluate"), ("export/server.py", "serve")],
)
def test_scripts_have_their_own_names(call, file, name):
    def script():
        runpy.run_path(str(ROOT / file), run_name="__main__")

    status, printed, _ = call("--help", program=file, start=script)
    assert status == 0 and f"usage: {pathlib.Path(file).name} [-h]" in printed
    assert name in cli.COMMANDS


def test_modules_have_their_own_names(call, monkeypatch):
    for module, name in {
        "keras_aoa.train": "python -m keras_aoa.train",
        "keras_aoa.__main__": "python -m keras_aoa",
    }.items():
        spec = importlib.machinery.ModuleSpec(module, None)
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
        _, _, error = call("--lr", "1", start=lambda: cli.start("train"))
        assert error.startswith(f"{name}: unknown setting '--lr'")


def test_the_report_is_an_evaluation_with_report(call, monkeypatch):
    received = []
    monkeypatch.setattr("keras_aoa.evaluate.main", received.append)
    assert call("report", "runs/a", "--beam", "5")[0] == 0
    assert received == [["--report", "runs/a", "--beam", "5"]]


@pytest.mark.parametrize("package", EXTRAS)
def test_a_missing_package_is_one_line_with_the_command_that_installs_it(
    call, monkeypatch, package
):
    def main(_):
        importlib.import_module(f"{package}.part")

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("keras_aoa.pack.main", main)
    status, _, error = call("pack")
    assert status == 2
    assert error == (
        f"keras-aoa pack: needs {package}, which is not installed; run pip install "
        f"'keras-aoa[{EXTRAS[package]}]'.\n"
    )


def test_a_command_with_an_extra_of_its_own_names_it(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    monkeypatch.delitem(sys.modules, "keras_aoa.serve", raising=False)
    assert call("serve", "exported")[2].endswith("run pip install 'keras-aoa[serve]'.\n")


def test_outside_of_the_program_messages_have_the_default_name(call):
    assert call("evaluate")[2].startswith("keras-aoa evaluate: expected the folder")
    with pytest.raises(UserError, match=r"^evaluate\.py: expected the folder"):
        evaluate.main([])


def test_a_missing_module_of_this_package_is_no_missing_package(call, monkeypatch):
    monkeypatch.setattr("keras_aoa.pack.main", lambda _: importlib.import_module("keras_aoa.no"))
    with pytest.raises(ModuleNotFoundError, match=r"keras_aoa\.no"):
        call("pack")
