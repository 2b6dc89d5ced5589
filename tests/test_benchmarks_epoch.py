"""Tests the benchmarks of an epoch and of peak memory: arguments, points, and results."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import epoch, peaks
from keras_aoa.utils.errors import UserError

SIZES = {
    "train": 6001,
    "validation": 1000,
    "validated": 500,
    "read": 1300,
    "reading": 2.0,
    "steps": 30,
}
SECONDS = {
    "training": [12.0, 15.0, 60.0],  # the last epoch beside other work
    "decoder": [11.64, 14.4, 58.2],
    "memory": [11.4, 13.5, 57.0],
    "validation": [30.0, 12.02],
    "written": [0.025, 0.02, 0.1],
    "network": [0.02, 0.02, 0.09],
}


def test_results_are_medians_scaled_to_an_epoch():
    row = epoch.summary(SIZES, SECONDS, SimpleNamespace(batch_size=10, validate_every=4))
    assert row["measured_steps"] == 90
    assert row["step_from_cache"] == pytest.approx(0.5)
    assert row["step_in_memory"] == pytest.approx(0.45)
    assert row["share_of_decoder"] == pytest.approx(0.95)
    assert row["epoch"] == pytest.approx(601 * 0.5)
    assert row["epoch_decoder"] == pytest.approx(601 * 0.48)
    assert row["epoch_input"] == pytest.approx(601 * 0.02)
    assert row["validation_share"] == pytest.approx(24.04 / (4 * 300.5))
    assert row["reading_rate"] == pytest.approx(650)
    assert row["extraction_rate"] == pytest.approx(40)
    assert row["network_rate"] == pytest.approx(50)
    assert row["share_of_network"] == pytest.approx(0.9)
    assert "95 % of the decoder's own rate (90 steps each)" in epoch.text(row)


def test_an_epoch_needs_a_second_file_of_the_cache():
    with pytest.raises(UserError, match="more than 512 --images"):
        epoch.main(["--images", "512"])


def test_few_images_cuts_splits_and_keeps_the_others(monkeypatch):
    from keras_aoa.data.examples import CaptionData
    from keras_aoa.training import preparation

    received = []
    monkeypatch.setattr(preparation, "load_images", lambda *arguments: received.append(arguments))
    original = preparation.load_images
    data = CaptionData("data", {"train": tuple(range(50)), "val": tuple("abc"), "test": (7,)})
    with epoch.few_images(25, 2) as loaded:
        preparation.load_images(SimpleNamespace(batch_size=10, selecting_split="val"), data, None)
    assert received[0][1].splits == {"train": tuple(range(20)), "val": ("a", "b"), "test": (7,)}
    expected = {"train": 50, "validation": 3, "validated": 2, "read": 22, "reading": 0}
    assert {**loaded, "reading": 0} == expected
    assert preparation.load_images is original


def test_each_size_of_peak_memory_changes_alone(monkeypatch, capsys):
    calls = []

    def measured(module, kind, **sizes):
        calls.append((kind, sizes))
        return {"peak_gigabytes": 1 + sizes["beam"] / 100 + sizes.get("photographs", 0) / 1000}

    monkeypatch.setattr(peaks, "in_new_process", measured)
    peaks.main(["--kinds", "export", "caption", "epoch", "--captioner", "run"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "export   beam              1: 1.01 GB"
    assert lines[1] == "export   beam              5: 1.05 GB, +10 MB each"
    assert lines[4] == "caption  photographs      32: 1.08 GB, +1 MB each"
    assert len(lines) == 9  # no epoch without data
    assert len(calls) == 8  # a point that two axes share is measured once
    assert {kind for kind, sizes in calls if sizes["captioner"] == "run"} == {"export", "caption"}


def test_a_failed_process_is_a_row(monkeypatch, capsys):
    failed = {"failed": "killed by signal 9"}
    monkeypatch.setattr(peaks, "in_new_process", lambda *_, **__: failed)
    peaks.main(["--kinds", "export", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[1]) == {
        "kind": "export", "axis": "beam", "value": 5, **failed,
    }  # fmt: skip
    with pytest.raises(UserError, match="Did you mean search"):
        peaks.main(["--kinds", "serch"])
