"""Tests the benchmarks beside other implementations: arguments, workers and rows."""

import contextlib
import json
import sys

import pytest

from benchmarks import caption, peers, start
from benchmarks.workers import Worker, alternate
from keras_aoa.utils.errors import UserError

FAKE = """
import json, os, sys
from benchmarks.workers import serve
options = json.loads(sys.argv[1])
def die():
    os.kill(os.getpid(), 9)
def fail():
    raise ValueError("no such model")
def make():
    print("a line of a library")
    if options == "broken":
        fail()
    return {"work": lambda: print("another line"), "die": die, "fail": fail}, {"parameters": 7}
serve(make)
"""


@pytest.fixture
def start_fake(tmp_path, monkeypatch):
    """Return a function that starts a `Worker` of the module above."""
    (tmp_path / "fake_worker.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with contextlib.ExitStack() as stack:
        yield lambda options="": stack.enter_context(
            contextlib.closing(Worker(sys.executable, "fake_worker", options))
        )


def test_workers_alternate_and_failures_have_one_line(start_fake):
    worker, killed, broken = start_fake(), start_fake(), start_fake("broken")
    asked = {"good": (worker, "work"), "killed": (killed, "die"), "broken": (broken, "work")}
    results = alternate(asked, turns=2, calls=3)
    good = results.pop("good")
    assert results == {
        "killed": {"failed": "killed by signal 9"},
        "broken": {"failed": "ValueError: no such model"},
    }
    assert 0 < good["fastest"] <= good["seconds"] <= good["slowest"]
    assert good["parameters"] == 7
    assert good["peak_gigabytes"] > 0


class Answers:
    """Stands in for a `Worker`: answers with given seconds."""

    def __init__(self, *seconds):
        self.seconds, self.requests = list(seconds), []

    def ask(self, **request):
        self.requests.append(request)
        return {"seconds": self.seconds.pop(0)}


def test_the_first_turn_warms_up_and_all_later_calls_count():
    worker = Answers([9.0, 9.0], [1.0, 5.0], [2.0, 4.0], [3.0, 3.0])
    result = alternate({"one": (worker, "work")}, turns=3, calls=2)["one"]
    assert result == {"seconds": 3.0, "fastest": 1.0, "slowest": 5.0}
    assert worker.requests == 4 * [{"name": "work", "calls": 2}]


def test_a_missing_environment_is_one_line_with_the_command():
    with pytest.raises(UserError, match=r"^no/python: .*run make \.venv-peers/installed\.$"):
        peers.main(["--python", "no/python"])


def test_a_folder_that_is_no_checkout_is_named(tmp_path):
    arguments = ["--python", sys.executable, "--checkout", str(tmp_path)]
    with pytest.raises(UserError, match=r"^checkout: .*git clone"):
        peers.main(arguments)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [("--sizes", "10x5", "sizes: .*10x5/49.*'10x5'"), ("--peers", "BLIP-2", "peers: .*BLIP-base")],
)
def test_wrong_arguments_are_refused(setting, value, message):
    with pytest.raises(UserError, match=message):
        peers.main([setting, value])


def test_a_size_is_images_captions_and_regions():
    size = peers.size_of("50x4/196")
    assert (size.images, size.captions, size.regions) == (50, 4, 196)


def test_steps_are_compared_with_the_peer(monkeypatch):
    seconds = {"seconds": 0.5, "fastest": 0.4, "slowest": 0.6, "peak_gigabytes": 1.0}
    results = {"ours": seconds, "Att2in2": {**seconds, "seconds": 2.0}}
    monkeypatch.setattr(peers, "alternate", lambda *_, **__: results)
    monkeypatch.setattr(peers, "started", lambda *_, **__: None)
    own, peer = peers.step_rows(peers.Arguments(checkout="."), "python", "10x5/49", "float32")
    assert own["captions_a_second"] == 100.0
    assert own["times_as_fast"] == 4.0
    assert peer["times_as_fast"] == 1.0
    assert "4.00 times as fast" in peers.step_line(own)
    assert json.loads(json.dumps(own))["size"] == "10x5/49"
    results["Att2in2"] = {"failed": "no memory"}
    own, peer = peers.step_rows(peers.Arguments(checkout="."), "python", "10x5/49", "float32")
    assert "times_as_fast" not in own
    assert peers.step_line(peer).endswith("failed: no memory")


def test_the_rest_of_a_caption_is_the_total_without_the_parts():
    times = {"read": [1, 2, 9], "network": [20, 10, 30], ("search", 3): [4, 5, 6]}
    row = caption.row({**times, ("total", 3): [50, 40, 30]}, batch=2, beam=3)
    expected = {"milliseconds": 40, "read": 2, "network": 20, "search": 5, "rest": 13}
    assert {name: row[name] for name in expected} == expected
    assert "20.0 per image" in caption.line(row)


def test_without_a_compiler_the_c_program_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(start.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="gcc"):
        start.c_program("flickr8k", tmp_path / "photo.jpg")
