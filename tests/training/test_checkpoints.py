"""Checkpoints: files of older versions, and file systems without hard links."""

import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest

from keras_aoa.models import weights
from keras_aoa.training.checkpoints import Checkpoints, Progress, link_or_copy


@pytest.mark.parametrize("with_sum", [False, True])
def test_checkpoints_of_older_runs_are_read(with_sum, tmp_path):
    restored = []
    run = SimpleNamespace(
        last_file=tmp_path / "last.npz",
        best_file=tmp_path / "best.npz",
        digests={},
        check=lambda metadata, file: None,
    )
    trainer = SimpleNamespace(restore=lambda *given: restored.append(given), steps=12)
    old = {"epochs": 2, "stopped": False, "best": 0.5, "history": [{"epoch": 1, "loss": 3.0}]}
    old |= {"loss_sum": 4.5} if with_sum else {}
    weights.save_arrays(run.best_file, {"a": np.ones(1)}, {})
    weights.save_arrays(run.last_file, {"a": np.zeros(1)}, {"steps": 12, "progress": old})
    progress = Checkpoints(run, True, 0.0).restore(trainer)
    sums = {"loss": 4.5} if with_sum else {}
    assert progress == Progress(2, 0, sums, 0.5, False, 0.0, [{"epoch": 1, "loss": 3.0}])
    [(arrays, steps, file)] = restored
    assert (list(arrays), steps, file) == (["a"], 12, run.last_file)


def test_the_previous_checkpoint_is_copied_if_hard_links_fail(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "last").write_text("whole")
    link_or_copy(tmp_path / "last", tmp_path / "previous")
    assert (tmp_path / "previous").read_text() == "whole"
