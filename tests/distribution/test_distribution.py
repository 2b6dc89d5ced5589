"""Batches shared by replicas, and training on two of them, in one process and in two."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from processes import ROOT, TRAIN, TWO_CPUS, cluster, free_ports, start_workers

from keras_aoa.data.build import load_data
from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.images.preprocessing import ImageSettings
from keras_aoa.data.images.split_images import Images, image_batches
from keras_aoa.data.text.vocabulary import PAD, Vocabulary
from keras_aoa.distribution.process import check_cluster
from keras_aoa.distribution.replicas import ONE_REPLICA, Replicas
from keras_aoa.utils.errors import UserError

PROGRAM = ROOT / "tests" / "support" / "distributed_steps.py"
REGIONS = ("grid", "transformer", "proposals")


# --- parts of batches -----------------------------------------------------------------------------


@pytest.mark.parametrize("total", [2, 3, 5])
@pytest.mark.parametrize(("rows", "batch_size"), [(12, 6), (13, 6), (7, 5), (3, 5), (9, 4)])
def test_parts_of_all_replicas_are_the_batches_each_row_real_once(rows, batch_size, total):
    rows = 100 + np.arange(rows)
    parts = [Replicas(total, first, 1).parts(rows, batch_size) for first in range(total)]
    sizes = {size for _, _, size in parts}
    assert sizes == {-(-batch_size // total)}
    (size,) = sizes
    batches = -(-len(rows) // batch_size)
    assert all(len(own) == len(real) == batches * size for own, real, _ in parts)
    for number in range(batches):
        here = slice(number * size, (number + 1) * size)
        batch = np.concatenate([own[here][real[here]] for own, real, _ in parts])
        whole = rows[number * batch_size : (number + 1) * batch_size]
        np.testing.assert_array_equal(np.sort(batch), whole)
        filled = np.concatenate([own[here][~real[here]] for own, real, _ in parts])
        assert set(filled) <= {whole[0]}


def test_a_process_with_two_replicas_gets_one_after_the_other():
    rows = np.arange(7)
    both, real, size = Replicas(4, 2, 2).parts(rows, 4)
    assert size == 1
    np.testing.assert_array_equal(both, [2, 3, 6, 4])
    np.testing.assert_array_equal(real, [True, True, True, False])


def test_one_replica_gets_rows_as_they_are():
    own, real, size = ONE_REPLICA.parts(np.arange(7), 4)
    np.testing.assert_array_equal(own, np.arange(7))
    assert real.all()
    assert size == 4


@pytest.fixture(scope="module")
def training_images(squares):
    return Images(
        "train", load_data(squares, cache=squares).splits["train"], ImageSettings(16, "stretch")
    )


def test_replicas_see_the_captions_and_pixels_of_one_each_once(training_images):
    texts = [text for each in training_images.examples for text in each.captions]
    batches = CaptionBatches(training_images, Vocabulary.from_captions(texts, 1), 4, flip=True)
    alone = [{name: v.numpy() for name, v in batch.items()} for batch in batches.epoch(3)]
    shared = [list(batches.epoch(3, 0, Replicas(3, first, 1))) for first in range(3)]
    assert [len(parts) for parts in shared] == [3, 3, 3]
    for batch, *parts in zip(alone, *shared, strict=True):
        together = {name: np.concatenate([part[name] for part in parts]) for name in batch}
        real = (together["captions"] != PAD).any(axis=(1, 2))
        order = np.argsort(together["index"][real])
        own = np.argsort(batch["index"])
        for name in batch:
            np.testing.assert_array_equal(together[name][real][order], batch[name][own])
        assert (together["captions"][~real] == PAD).all()
        assert len(real) == 6


def test_replicas_caption_each_image(training_images):
    shared = [image_batches(training_images, 2, replicas=Replicas(2, first, 1)) for first in (0, 1)]
    seen = [[batch["index"].numpy() for batch in part] for part in shared]
    assert [len(each) for part in seen for each in part] == [2] * 6
    assert set(np.concatenate([each for part in seen for each in part])) == set(range(9))


# --- which workers there are ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "worker 0",
        '{"cluster": {}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_cluster_that_cannot_be_is_refused_with_an_example(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=r'TF_CONFIG: expected \{"cluster".*received'):
        check_cluster()


def test_more_replicas_than_images_of_a_batch_are_refused(squares_settings, tmp_path):
    arguments = ["--distribution", "mirrored", "--batch-size", "1", "--output", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-c", TWO_CPUS + TRAIN, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ended.returncode == 2
    assert "batch_size: expected at least one image for each of 2 replicas" in ended.stderr
    assert "Traceback" not in ended.stderr


# --- the same steps -------------------------------------------------------------------------------


def steps_of(kind, optimizer, regions, squares, folder):
    """What the program finds with a kind of devices."""
    output = folder / f"{kind}.npz"
    environments = [{}]
    if kind == "workers":
        ports = free_ports(2)
        environments = [cluster(index, ports) for index in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, PROGRAM, kind, optimizer, squares, output, *regions],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for environment in environments
    ]
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return np.load(output)


def assert_equal_steps(optimizer, tolerance, kinds, squares, folder, kinds_of_regions=REGIONS):
    """The same losses and weights on one device as on two of other kinds."""
    alone, *others = [
        steps_of(kind, optimizer, kinds_of_regions, squares, folder) for kind in ("one", *kinds)
    ]
    for kind, other in zip(kinds, others, strict=True):
        assert other["replicas"] == 2
        assert other["workers"] == (2 if kind == "workers" else 1)
    for regions in kinds_of_regions:
        losses = alone[f"{regions}/losses"]
        assert len(losses) == 20
        assert losses[-3:].mean() < losses[:3].mean()
        for other in others:
            for name in (name for name in alone.files if name.startswith(regions)):
                if name.endswith("captions"):
                    assert other[name].tolist() == alone[name].tolist()
                else:
                    # A search adds up what the weights' differences make of several words.
                    searched = name.endswith(("log_probs", "attention"))
                    atol = 10 * tolerance if searched else tolerance
                    np.testing.assert_allclose(
                        other[name], alone[name], rtol=0, atol=atol, err_msg=name
                    )


def test_two_processes_do_the_steps_of_one(squares, tmp_path):
    assert_equal_steps("Adam", 1e-9, ["workers"], squares, tmp_path, ["transformer"])


@pytest.mark.slow
def test_two_replicas_and_two_processes_do_the_steps_of_one_with_adam(squares, tmp_path):
    assert_equal_steps("Adam", 1e-9, ["mirrored", "workers"], squares, tmp_path)


@pytest.mark.slow
def test_two_replicas_and_two_processes_do_the_steps_of_one_with_sgd(squares, tmp_path):
    assert_equal_steps("SGD", 1e-5, ["mirrored", "workers"], squares, tmp_path)


# --- a cluster that loses a worker ----------------------------------------------------------------


@pytest.mark.slow
def test_a_lost_worker_ends_the_job_which_goes_on_and_scores_as_one(tmp_path):
    from benchmarks import kill_and_resume as killing

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
    said = files[0].read_text()
    assert "another of the 2 workers ended or cannot be reached (" in said
    assert "start all again with the same command, which goes on from the last checkpoint." in said
    assert "Traceback" not in said
    kept = killing.checkpoint_step(config)
    processes, files = start_workers(command, tmp_path, "second")
    assert [process.wait(300) for process in processes] == [0, 0], files[0].read_text()
    assert f"Going on after step {kept}, in epoch" in files[0].read_text()
    assert "epoch" not in files[1].read_text(), "only the chief speaks of them"
    scores = tmp_path / "shared" / "scores.json"
    both = json.loads(scores.read_text())
    evaluate = ["-m", "keras_aoa.evaluate", str(tmp_path / "shared")]
    subprocess.run([sys.executable, *evaluate], cwd=ROOT, check=True)
    assert json.loads(scores.read_text()) == both
