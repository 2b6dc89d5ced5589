"""Folders that cannot be written: told before any work, and what is in them still serves."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable

# Several commands of one process, which imports once: `[[module, arguments, folder], …]`.
COMMANDS = """
import contextlib, importlib, io, json, sys
from keras_aoa.utils.command_line import run
answers = []
for module, arguments in json.load(sys.stdin):
    said, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        try:
            run(importlib.import_module(f"keras_aoa.{module}").main, arguments)
            status = 0
        except SystemExit as stop:
            status = stop.code
    answers.append([status, said.getvalue(), wrong.getvalue()])
print(json.dumps(answers))
"""


def ordinary_user():
    """What begins a command so that permissions count, also for root."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write everywhere, and there is no setpriv to become less")
    return ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"]


@pytest.fixture
def locked_run(trained, tmp_path):
    """A copy of a run that nobody may write to."""
    folder = shutil.copytree(trained.folder, tmp_path / "runs" / trained.folder.name)
    config = folder / "config.json"
    settings = {**json.loads(config.read_text()), "output": str(tmp_path / "runs")}
    config.write_text(json.dumps(settings))
    folders = [folder.parent, folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for each in folders:
        each.chmod(0o555)
    yield folder
    for each in folders:
        each.chmod(0o755)


def test_read_only_folders_are_a_line_and_their_run_still_captions(locked_run, squares, tmp_path):
    config = str(locked_run / "config.json")
    elsewhere = tmp_path / "elsewhere"
    refused = [
        ["train", ["--config", config]],
        ["train", ["--config", config, "--name", "new"]],
        ["evaluate", [str(locked_run)]],
        ["evaluate", [str(locked_run), "--report"]],
        ["evaluate", [str(locked_run), "--correctness"]],
        ["evaluate", [str(locked_run), "--stride", "1,2"]],
        ["caption", [str(locked_run), str(squares / "00.png"), "--pictures", str(locked_run)]],
        ["export", [str(locked_run), str(locked_run / "exported")]],
    ]
    allowed = [
        ["caption", [str(locked_run), str(squares / "00.png")]],
        ["evaluate", [str(locked_run), "--tokenizer", "python", "--output", str(elsewhere)]],
    ]
    before = {path: path.stat().st_mtime_ns for path in locked_run.rglob("*")}
    ended = subprocess.run(
        [*ordinary_user(), sys.executable, "-c", COMMANDS],
        input=json.dumps(refused + allowed),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = json.loads(ended.stdout)
    for command, (status, said, wrong) in zip(refused, answers, strict=False):
        assert status == 2, command
        assert "expected a folder that can be written, received permission denied" in wrong
        assert wrong.count("\n") == 1, command
        assert said.count("\n") == (command[0] == "export"), command
    captioned, evaluated = answers[len(refused) :]
    assert captioned[0] == 0 and "00.png" in captioned[1]
    assert evaluated[0] == 0 and (elsewhere / "scores.json").exists()
    assert {path: path.stat().st_mtime_ns for path in locked_run.rglob("*")} == before


def test_a_folder_to_be_made_is_refused_for_the_one_it_would_be_in(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"file/b: expected .*, received not a directory \(.*file\)"
    ):
        check_writable(tmp_path / "file" / "b")
