"""Tests captioning of shards on Beam's local runner, in an environment with Apache Beam."""

import importlib.util
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

PIPELINE = """
import sys
import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to
from keras_aoa.beam import CaptionShards

run, output, *paths = sys.argv[1:]
with beam.Pipeline("DirectRunner") as pipeline:
    counts = pipeline | beam.Create(paths) | CaptionShards(run, output)
    actual = counts | beam.Map(lambda row: (row["shard"], row.get("images"), "error" in row))
    expected = [(paths[0], 3, False), (paths[1], 2, False), (paths[2], None, True)]
    assert_that(actual, equal_to(expected))
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
    command = ["-m", "keras_aoa.caption", trained.folder, "--shards", *shards]
    with pytest.raises(UserError, match="1 of 3 shards could not be read"):
        caption.main([*map(str, command[2:]), "--output", str(one_process)])
    done = call(*command, "--output", pipeline, "--runner", "DirectRunner")
    assert done.returncode == 2, done.stderr
    assert "2 of 3 shards are finished, 0 of them by earlier commands; 5 images, 1" in done.stdout
    assert "part-2.tar: expected a complete, uncompressed tar archive" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("caption: 1 of 3 shards could not be read")
    for name in ("part-0", "part-1"):
        expected, actual = (read_lines(out / f"{name}.jsonl") for out in (one_process, pipeline))
        for line, other in zip(expected, actual, strict=True):
            assert other.get("log_prob") == pytest.approx(line.get("log_prob"), abs=1e-4)
            for key in ("image", "caption", "error"):
                assert other.get(key) == line.get(key)
    assert not (pipeline / "part-2.jsonl").exists()
    times = {path.name: path.stat().st_mtime_ns for path in pipeline.glob("*.jsonl")}
    done = call("-c", PIPELINE, trained.folder, pipeline, *shards)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.stat().st_mtime_ns for path in pipeline.glob("*.jsonl")} == times


@needs_beam
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--runner", "DirektRunner"], "runner: Unexpected pipeline runner: DirektRunner."),
        (
            ["--runner", "DirectRunner", "--runner-options", "direct_num_worker=2"],
            "unknown option 'direct_num_worker=2'. Did you mean direct_num_workers",
        ),
    ],
)
def test_invalid_runner_options_are_reported_in_one_line(options, line, shards, tmp_path):
    command = ["-m", "keras_aoa.caption", "run", "--shards", *shards, "--output", tmp_path / "out"]
    done = call(*command, *options)
    assert done.returncode == 2
    assert line in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(INSTALLED, reason="Apache Beam is installed here")
def test_without_beam_the_error_names_the_install_command(shards, tmp_path):
    command = ["run", "--shards", *shards, "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"pip install 'keras-aoa\[train,beam\]'"):
        caption.main([*command, "--runner", "DirectRunner"])
    assert not (tmp_path / "out").exists()
