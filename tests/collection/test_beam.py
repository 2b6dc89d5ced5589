"""Tests captioning of shards on Beam's local runner, in an environment with Apache Beam."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
from collection_files import read_lines, write_list, write_tar

from keras_aoa import caption
from keras_aoa.utils.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
INSTALLED = importlib.util.find_spec("apache_beam") is not None
PYTHON = pathlib.Path(sys.executable) if INSTALLED else ROOT / ".venv-beam/bin/python"

needs_beam = pytest.mark.skipif(
    not INSTALLED and not (ROOT / ".venv-beam/installed").exists(),
    reason="no Apache Beam installed: make .venv-beam/installed",
)

# The command, and then a user's pipeline, in one process, because loading TensorFlow and Beam takes
# seconds. It prints the command's exit status, and whether the pipeline left its files unchanged.
PROGRAM = """
import pathlib
import sys
from keras_aoa.cli import start

run, output, *paths = sys.argv[1:]
sys.argv = ["caption", run, "--shards", *paths, "--output", output, "--runner", "DirectRunner"]
try:
    start("caption")
except SystemExit as stop:
    print("status", stop.code)

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to
from keras_aoa.beam import CaptionShards

def times():
    return {path: path.stat().st_mtime_ns for path in pathlib.Path(output).glob("*.jsonl")}

before = times()
print("errors end", file=sys.stderr)
with beam.Pipeline("DirectRunner") as pipeline:
    counts = pipeline | beam.Create(paths) | CaptionShards(run, output)
    actual = counts | beam.Map(lambda row: (row["shard"], row.get("images"), "error" in row))
    expected = [(paths[0], 3, False), (paths[1], 2, False), (paths[2], None, True)]
    assert_that(actual, equal_to(expected))
print("unchanged", times() == before)
"""

# Several invalid commands in one process: after the errors of each, its exit status.
INVALID = """
import json, sys
from keras_aoa import caption
from keras_aoa.utils.command_line import run

for arguments in json.loads(sys.argv[1]):
    try:
        run(caption.main, arguments)
    except SystemExit as stop:
        print("status", stop.code, file=sys.stderr)
"""


@pytest.fixture
def shards(squares, tmp_path):
    """A list, an archive with one unreadable image, and a truncated archive."""
    images = [squares / f"{number:02d}.png" for number in range(3)]
    write_list(tmp_path / "part-0.txt", images)
    image = images[0].read_bytes()
    write_tar(tmp_path / "part-1.tar", [("a.png", image), ("b.png", b"text")])
    (tmp_path / "part-2.tar").write_bytes((tmp_path / "part-1.tar").read_bytes()[:600])
    return sorted(map(str, tmp_path.glob("part-*")))


def call(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [str(PYTHON), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@needs_beam
def test_a_pipeline_writes_the_same_captions_as_one_process_and_resumes(trained, shards, tmp_path):
    one_process, pipeline = tmp_path / "one_process", tmp_path / "pipeline"
    with pytest.raises(UserError, match="1 of 3 shards could not be read"):
        caption.main([str(trained.folder), "--shards", *shards, "--output", str(one_process)])
    done = call("-c", PROGRAM, trained.folder, pipeline, *shards)
    assert done.returncode == 0, done.stderr
    assert "status 2" in done.stdout.splitlines()
    assert "2 of 3 shards are finished, 0 of them by earlier commands; 5 images, 1" in done.stdout
    assert "part-2.tar: expected a complete, uncompressed tar archive" in done.stderr
    errors = done.stderr.splitlines()
    last = errors[errors.index("errors end") - 1]
    assert last.startswith("caption: 1 of 3 shards could not be read")
    for name in ("part-0", "part-1"):
        expected, actual = (read_lines(out / f"{name}.jsonl") for out in (one_process, pipeline))
        for line, other in zip(expected, actual, strict=True):
            assert other.get("log_prob") == pytest.approx(line.get("log_prob"), abs=1e-4)
            for key in ("image", "caption", "error"):
                assert other.get(key) == line.get(key)
    assert not (pipeline / "part-2.jsonl").exists()
    assert done.stdout.splitlines()[-1] == "unchanged True"


@needs_beam
def test_invalid_runner_options_are_reported_in_one_line(shards, tmp_path):
    command = ["run", "--shards", *shards, "--output", str(tmp_path / "out"), "--runner"]
    options = [["DirektRunner"], ["DirectRunner", "--runner-options", "direct_num_worker=2"]]
    done = call("-c", INVALID, json.dumps([command + each for each in options]))
    assert done.returncode == 0
    errors = done.stderr.splitlines()
    ends = [index for index, line in enumerate(errors) if line == "status 2"]
    assert len(ends) == 2 and ends[1] == ends[0] + 2, done.stderr
    assert "runner: Unexpected pipeline runner: DirektRunner." in errors[ends[0] - 1]
    unknown = "unknown option 'direct_num_worker=2'. Did you mean direct_num_workers"
    assert unknown in errors[ends[1] - 1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(INSTALLED, reason="Apache Beam is installed here")
def test_without_beam_the_error_names_the_install_command(shards, tmp_path):
    command = ["run", "--shards", *shards, "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"pip install 'keras-aoa\[train,beam\]'"):
        caption.main([*command, "--runner", "DirectRunner"])
    assert not (tmp_path / "out").exists()
