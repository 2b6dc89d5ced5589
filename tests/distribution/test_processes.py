"""Killed trainings, clusters of processes, and processes that share a folder.

One file, so that only one worker of pytest-xdist imports TensorFlow once more, to fork processes.
"""

import hashlib
import json
import subprocess
import sys
import time

import distributed_steps
import numpy as np
import pytest
from processes import (
    ROOT,
    chief_and_worker,
    cluster,
    exit_statuses,
    fork,
    free_ports,
    start_workers,
)
from rectangles import SETTINGS, draw, write

from benchmarks import kill_and_resume as killing
from keras_aoa.data.proposals.cache import ProposalCache

# --- killed processes -----------------------------------------------------------------------------

EQUAL_BATCHES = {"batch_size": 3, "checkpoint_steps": 2}  # half as many graphs in each process


@pytest.mark.parametrize(
    ("runs", "changes"), [(1, EQUAL_BATCHES), pytest.param(6, {}, marks=pytest.mark.slow)]
)
def test_killed_runs_end_with_the_weights_of_an_uninterrupted_run(
    runs, changes, tmp_path, monkeypatch
):
    """Each run starts in a process of its own, so the weights also depend only on the seed."""
    if runs == 1:
        monkeypatch.setattr(killing, "child", distributed_steps.child_with_faster_graphs)
    killing.draw(tmp_path / "squares")
    outcomes = killing.kill_and_resume(tmp_path, runs, seed=1, **changes)
    assert all(outcome.identical for outcome in outcomes)
    # Kills at random moments may come after the training's end; kills during a write do not.
    assert sum(outcome.kills for outcome in outcomes) >= (runs + 1) // 2
    every = changes.get("checkpoint_steps", killing.EVERY)
    assert max(outcome.steps_lost for outcome in outcomes) <= every


# --- shared folders -------------------------------------------------------------------------------


def extract_all(folder, pictures):
    assert ProposalCache(folder, SETTINGS).extract(pictures) == []


def test_two_processes_may_share_the_folder_of_proposals(tmp_path):
    boxes = [(10 + 4 * number, 10, 50 + 4 * number, 60) for number in range(8)]
    pictures = [
        write(tmp_path / f"{number}.png", draw({box: (250, 240, 20 * number)}))
        for number, box in enumerate(boxes)
    ]
    log, arguments = tmp_path / "log", (tmp_path / "cache", pictures)
    runs = [fork(log, extract_all, *arguments) for _ in range(2)]
    assert exit_statuses(runs) == [0, 0], log.read_text()
    cache = ProposalCache(tmp_path / "cache", SETTINGS)
    files = {hashlib.sha256(f.read_bytes()).digest() for f in cache.folder.rglob("*.npy")}
    assert len(files) == 8 and len(list(cache.folder.rglob("*.*"))) == 8


# --- clusters -------------------------------------------------------------------------------------


def test_a_chief_and_a_worker_form_a_cluster_without_the_evaluator(tmp_path):
    ports = free_ports(3)
    processes = [
        fork(
            tmp_path / "log",
            distributed_steps.gather,
            tmp_path / "done",
            **chief_and_worker(index, ports),
        )
        for index in range(2)
    ]
    assert exit_statuses(processes, 200) == [0, 0], (tmp_path / "log").read_text()


def test_more_replicas_than_images_per_batch_are_refused(squares_settings, tmp_path):
    arguments = ["--distribution", "mirrored", "--batch-size", "1", "--output", str(tmp_path)]
    process = fork(tmp_path / "log", distributed_steps.command_on_two_cpus, *arguments)
    assert exit_statuses([process]) == [2]
    output = (tmp_path / "log").read_text()
    assert "batch_size: expected at least one image for each of 2 replicas" in output
    assert "Traceback" not in output


# --- equal steps on all kinds of devices ----------------------------------------------------------


def steps_of(kind, optimizer, captioners, squares, folder):
    """Train with a kind of devices and return the results."""
    output, log = folder / f"{kind}.npz", folder / f"{kind}.log"
    environments = [{}]
    if kind == "workers":
        ports = free_ports(2)
        environments = [cluster(index, ports) for index in range(2)]
    arguments = (kind, optimizer, squares, output, *captioners)
    processes = [
        fork(log, distributed_steps.main, *arguments, **environment) for environment in environments
    ]
    assert exit_statuses(processes) == [0] * len(processes), log.read_text()
    return np.load(output)


def assert_equal_steps(optimizer, tolerance, kinds, squares, folder, captioners):
    """Assert that losses and weights on one device equal those on two replicas of other kinds."""
    single, *others = [
        steps_of(kind, optimizer, captioners, squares, folder) for kind in ("one", *kinds)
    ]
    for kind, other in zip(kinds, others, strict=True):
        assert other["replicas"] == 2
        assert other["workers"] == (2 if kind == "workers" else 1)
    for captioner in captioners:
        losses = single[f"{captioner}/losses"]
        assert len(losses) == 20
        assert losses[12:15].mean() < losses[:3].mean()
        for other in others:
            for name in (name for name in single.files if name.startswith(f"{captioner}/")):
                if name.endswith("captions"):
                    assert other[name].tolist() == single[name].tolist()
                else:
                    # Search accumulates the effect of weight differences over several words.
                    searched = name.endswith(("log_probs", "attention"))
                    atol = 10 * tolerance if searched else tolerance
                    np.testing.assert_allclose(
                        other[name], single[name], rtol=0, atol=atol, err_msg=name
                    )


def test_two_processes_take_the_same_steps_as_one(squares, tmp_path):
    assert_equal_steps("Adam", 1e-9, ["workers"], squares, tmp_path, ["transformer"])


@pytest.mark.slow
def test_two_replicas_and_two_processes_take_the_same_steps_as_one_with_adam(squares, tmp_path):
    kinds, captioners = ["mirrored", "workers"], distributed_steps.CAPTIONERS
    assert_equal_steps("Adam", 1e-9, kinds, squares, tmp_path, captioners)


@pytest.mark.slow
def test_two_replicas_and_two_processes_take_the_same_steps_as_one_with_sgd(squares, tmp_path):
    kinds, captioners = ["mirrored", "workers"], ["grid", "transformer", "proposals"]
    assert_equal_steps("SGD", 1e-5, kinds, squares, tmp_path, captioners)


# --- lost workers ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_stops_when_a_worker_is_lost_and_resumes(tmp_path):
    killing.draw(tmp_path / "squares")
    config = killing.configure(tmp_path, "shared")
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "rnn_epochs": 4, "joint_epochs": 1}))
    command = ["-m", "keras_aoa.train", "--config", str(config)]
    processes, files = start_workers(command, tmp_path, "first")
    chief, other = processes
    while killing.checkpoint_step(config) < 6 and chief.poll() is None:
        time.sleep(0.1)
    other.kill()
    assert chief.wait(60) == 2, files[0].read_text()
    output = files[0].read_text()
    assert "another of the 2 workers ended or cannot be reached (" in output
    assert "with the same command, which resumes from the last checkpoint." in output
    assert "Traceback" not in output
    kept = killing.checkpoint_step(config)
    processes, files = start_workers(command, tmp_path, "second")
    assert [process.wait(300) for process in processes] == [0, 0], files[0].read_text()
    assert f"Resuming after step {kept}, in epoch" in files[0].read_text()
    assert "epoch" not in files[1].read_text(), "only the chief prints epochs"
    scores = tmp_path / "shared" / "scores.json"
    both = json.loads(scores.read_text())
    evaluate = ["-m", "keras_aoa.evaluate", str(tmp_path / "shared")]
    subprocess.run([sys.executable, *evaluate], cwd=ROOT, check=True)
    assert json.loads(scores.read_text()) == both
