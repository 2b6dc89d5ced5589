"""A finished training reports that it is finished, and prints commands that work."""

import dataclasses
import importlib
import os
import pathlib
import shlex
import shutil

import pytest

from keras_aoa.runs.run import Run
from keras_aoa.training import loop, next_steps
from keras_aoa.utils.command_line import parse


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of a finished run; its files keep their times."""
    return Run(shutil.copytree(trained.folder, tmp_path / "runs" / trained.folder.name))


def test_training_a_finished_run_changes_nothing_and_says_so(trained, copied, monkeypatch, capsys):
    monkeypatch.setattr(loop, "evaluate", None)
    before = {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()}
    configuration = dataclasses.replace(trained.configuration, output=str(copied.folder.parent))
    loop.train(configuration)
    after = {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    printed = capsys.readouterr().out
    assert f"{copied.folder}: this run is finished" in printed
    assert "Resuming" not in printed
    assert "Try next" in printed


def test_run_with_newer_weights_or_without_scores_is_not_evaluated(copied):
    data = copied.load_data()
    (scores,) = copied.folder.glob("scores_*.json")
    assert next_steps.is_evaluated(copied, data)
    os.utime(copied.best_file)
    assert not next_steps.is_evaluated(copied, data)
    os.utime(scores)
    assert next_steps.is_evaluated(copied, data)
    scores.unlink()
    assert not next_steps.is_evaluated(copied, data)


def test_printed_commands_are_valid_and_name_existing_files(copied, capsys):
    next_steps.print_commands(copied, copied.load_data())
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    commands = [shlex.split(line) for line in lines if " -m keras_aoa." in line]
    assert [command[2] for command in commands] == [
        "keras_aoa.caption",
        "keras_aoa.evaluate",
        "keras_aoa.export",
    ]
    for python, _, module, *arguments in commands:
        assert os.access(python, os.X_OK)
        settings = parse(importlib.import_module(module).Arguments, module, arguments)
        assert pathlib.Path(settings.run).samefile(copied.folder)
    assert pathlib.Path(commands[0][4]).is_file()


def test_only_scores_that_exist_are_explained(capsys):
    next_steps.print_meanings({"CIDEr": 0.5, "grounding": {"phrases_correct": None}})
    printed = capsys.readouterr().out
    assert "CIDEr " in printed
    assert "phrases_correct" not in printed and "How varied" not in printed
    next_steps.print_meanings({"diversity": {"distinct_1": 0.0, "novel_captions": None}})
    printed = capsys.readouterr().out
    assert "distinct_1 " in printed
    assert "novel_captions" not in printed and "higher is better" not in printed
