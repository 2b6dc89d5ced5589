"""Read-only folders are reported before any work, and their runs can still be used."""

import contextlib
import importlib
import io
import json
import shutil

import pytest
from capabilities import call_as_ordinary_user

from keras_aoa.evaluation import evaluate
from keras_aoa.utils.command_line import run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable


def answer(module, arguments):
    """Return a command's exit status, output and errors."""
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            run(importlib.import_module(f"keras_aoa.{module}").main, arguments)
        except SystemExit as stop:
            status = stop.code
    return status, output.getvalue(), errors.getvalue()


@pytest.fixture
def locked_run(trained, tmp_path):
    """A read-only copy of a run."""
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


def test_read_only_folders_are_reported_and_their_run_can_caption(
    locked_run, squares, tmp_path, monkeypatch
):
    # METEOR, which `test_metrics.py` tests, takes seconds.
    monkeypatch.setattr(evaluate, "start_meteor", lambda: False)
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
    answers = call_as_ordinary_user(lambda: [answer(*each) for each in refused + allowed])
    for command, (status, output, errors) in zip(refused, answers, strict=False):
        assert status == 2, command
        assert "expected a folder that can be written, received permission denied" in errors
        assert errors.count("\n") == 1, command
        assert output.count("\n") == (command[0] == "export"), command
    captioned, evaluated = answers[len(refused) :]
    assert captioned[0] == 0 and "00.png" in captioned[1]
    assert evaluated[0] == 0 and (elsewhere / "scores.json").exists()
    assert {path: path.stat().st_mtime_ns for path in locked_run.rglob("*")} == before


def test_check_writable_checks_the_nearest_existing_parent_folder(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"file/b: expected .*, received not a directory \(.*file\)"
    ):
        check_writable(tmp_path / "file" / "b")
