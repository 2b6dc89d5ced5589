"""Interrupted and failed trainings resume exactly, or report why they cannot."""

import contextlib
import dataclasses
import errno
import json
import os
import re
import resource
import shutil
import signal

import exhausted
import numpy as np
import pytest
from shared_graphs import share_graphs

from keras_aoa.evaluation import evaluate as evaluation
from keras_aoa.models import weights
from keras_aoa.runs.run import Run
from keras_aoa.training import epochs, preparation
from keras_aoa.training import loop as training
from keras_aoa.training.trainer import Trainer
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import exclusive_lock


@pytest.fixture(autouse=True)
def without_evaluation(monkeypatch):
    """Skip the evaluation after a training, which other files test."""
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: None)
    monkeypatch.setattr(evaluation, "start_meteor", lambda: False)


@pytest.fixture(scope="module", autouse=True)
def start_to_exhaust_memory():
    exhausted.start()


@pytest.fixture(scope="module", autouse=True)
def shared_graphs():
    """Trainings share graphs; `tests/distribution/test_processes.py` resumes in a new process."""
    with pytest.MonkeyPatch.context() as patch:
        share_graphs(patch)
        yield


@pytest.fixture
def settings(squares_settings, tmp_path):
    """Five steps of stage 1 and five of stage 2, with a checkpoint every two steps.

    The last of the five batches has another size, so its step is another graph.
    """
    return dataclasses.replace(
        squares_settings,
        output=str(tmp_path),
        max_words=2,
        batch_size=2,
        rnn_epochs=1,
        joint_epochs=1,
        checkpoint_steps=2,
        flip=True,
        crop=0.7,
    )


@pytest.fixture(scope="module")
def finished(squares_settings, tmp_path_factory):
    """An uninterrupted run with these settings, beside a copy of it before step 7, `stopped`.

    Its folder has an additional file with the loss of each step, `losses.json`.
    """
    own = settings.__wrapped__(squares_settings, tmp_path_factory.mktemp("whole"))
    step, losses = Trainer.step, []

    def copied(trainer, *arguments):
        if trainer.steps == 6:
            shutil.copytree(own.folder, own.folder.parent / "stopped")
        metrics, stopped = step(trainer, *arguments)
        losses.append(metrics["loss"])
        return metrics, stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "evaluate", lambda *_, **__: None)
        patch.setattr(Trainer, "step", copied)
        run = training.train(own)
    (run.folder / "losses.json").write_text(json.dumps(losses))
    return run


@pytest.fixture
def at_step(monkeypatch):
    """Schedule one call of a function in place of the step with a given number, or after it."""

    def plan(number, function, after=False):
        step = Trainer.step

        def planned(trainer, *arguments):
            if trainer.steps + 1 != number:
                return step(trainer, *arguments)
            monkeypatch.setattr(Trainer, "step", step)
            result = step(trainer, *arguments) if after else None
            answer = function()
            return result if after else answer

        monkeypatch.setattr(Trainer, "step", planned)

    return plan


def interrupt():
    """Send the signal of Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def assert_same_run(run, other):
    for file in ("last_file", "best_file"):
        arrays, metadata = weights.load_arrays(getattr(run, file))
        others, other_metadata = weights.load_arrays(getattr(other, file))
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[name], err_msg=name)
        metadata, other_metadata = (
            dict(each.get("progress", {})) for each in (metadata, other_metadata)
        )
        for each in (metadata, other_metadata):
            for duration in ("seconds", "step_seconds"):
                each.pop(duration, None)
        assert metadata == other_metadata


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps(finished):
    losses = json.loads((finished.folder / "losses.json").read_text())
    history = weights.load_arrays(finished.last_file)[1]["progress"]["history"]
    means = np.reshape(losses, (2, 5)).mean(axis=1)
    np.testing.assert_allclose([epoch["loss"] for epoch in history], means, rtol=1e-6)


# --- exact resume ---------------------------------------------------------------------------------


def test_after_interrupts_and_a_full_disk_the_same_command_resumes(
    settings, finished, at_step, monkeypatch, capsys
):
    """A run is interrupted in the last step of an epoch, in its validation, and amid the next.

    Then a limit on the file size simulates a full disk: both make a write fail half-way.
    """
    at_step(4, interrupt, after=True)
    with pytest.raises(KeyboardInterrupt):
        training.train(settings)
    # The step in which the signal arrives completes, and the next one informs all workers.
    assert "Saved after step 5." in capsys.readouterr().out
    left = settings.folder / "last.123-456.part.npz"
    left.write_bytes(b"half")
    own = settings.folder / "album.part1.txt"
    own.write_text("a user's")

    validate = epochs.captions_for_validation

    def interrupted(*_):
        monkeypatch.setattr(epochs, "captions_for_validation", validate)
        raise KeyboardInterrupt

    monkeypatch.setattr(epochs, "captions_for_validation", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(settings)
    assert "Resuming after step 5, in epoch 1." in capsys.readouterr().out
    assert own.exists()
    assert not left.exists(), "temporary files of a killed process are removed"

    at_step(6, interrupt, after=True)
    with pytest.raises(KeyboardInterrupt):
        training.train(settings)
    output = capsys.readouterr().out
    assert "Resuming after step 5, in epoch 1." in output
    assert "Saved after step 7." in output

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = finished.last_file.stat().st_size // 2
    at_step(8, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1])), after=True)
    try:
        with pytest.raises(
            UserError,
            match=rf"{os.strerror(errno.EFBIG)}; free some space\. "
            r"The same command resumes after step 7\.",
        ):
            training.train(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert weights.load_arrays(settings.folder / "last.npz")[1]["steps"] == 7
    assert not list(settings.folder.glob("*.part.*"))
    resumed = training.train(settings)
    assert capsys.readouterr().out.count("Resuming after step 7, in epoch 2.") == 2
    assert_same_run(resumed, finished)
    assert own.exists()


def test_an_interrupted_validation_loses_no_steps(settings, finished, monkeypatch):
    """Without checkpoints amid an epoch, the one before the validation has all its steps."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(epochs, "captions_for_validation", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(dataclasses.replace(settings, checkpoint_steps=1000))
    metadata = weights.load_arrays(settings.folder / "last.npz")[1]
    assert metadata["steps"] == metadata["progress"]["steps"] == 5
    assert metadata["progress"]["epochs"] == 0
    assert not (settings.folder / "best.npz").exists()


def test_a_damaged_checkpoint_falls_back_to_the_previous_one(settings, finished, at_step, caplog):
    def lost():
        raise ZeroDivisionError

    shutil.copytree(finished.folder.parent / "stopped", settings.folder)
    metadata = weights.load_arrays(settings.folder / "last.npz")[1]
    assert metadata["steps"] == 6
    assert metadata["progress"]["steps"] == 1
    assert metadata["progress"]["seconds"] > 0
    last, previous = (settings.folder / name for name in ("last.npz", "previous.npz"))
    last.write_bytes(last.read_bytes()[:-200])
    best = settings.folder / "best.npz"
    best.write_bytes(best.read_bytes()[:100])
    whole = previous.read_bytes()
    at_step(7, lost)
    with pytest.raises(ZeroDivisionError):
        training.train(settings)
    assert previous.read_bytes() == whole, "kept until another intact checkpoint exists"
    assert weights.load_arrays(last)[1]["steps"] == 6
    resumed = training.train(settings)
    assert re.search(
        r"last\.npz: .* damaged .* Resuming from the previous checkpoint, .*previous\.npz",
        caplog.text,
    )
    assert re.search(r"best\.npz: .* damaged .* The best weights will be chosen", caplog.text)
    weights.load_arrays(best)  # of the epoch that remained, whatever its score
    arrays, whole = (weights.load_arrays(run.last_file)[0] for run in (resumed, finished))
    for name, array in whole.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_damaged_checkpoints_are_reported_and_not_changed(finished, tmp_path):
    copied = Run(shutil.copytree(finished.folder, tmp_path / finished.folder.name))
    configuration = dataclasses.replace(finished.configuration, output=str(tmp_path))
    for name in ("last.npz", "previous.npz"):
        (copied.folder / name).write_bytes(b"PK")
    with pytest.raises(UserError, match=r"previous\.npz: expected saved weights.*damaged"):
        training.train(configuration)
    assert copied.last_file.read_bytes() == b"PK"
    with (
        exclusive_lock(copied.folder),
        pytest.raises(UserError, match="another training is writing"),
    ):
        training.train(configuration)


def test_the_last_weights_replace_damaged_best_weights_of_a_finished_run(
    finished, tmp_path, caplog
):
    copied = Run(shutil.copytree(finished.folder, tmp_path / finished.folder.name))
    copied.best_file.write_bytes(b"PK")
    training.train(dataclasses.replace(finished.configuration, output=str(tmp_path)))
    assert re.search(r"best\.npz: .* damaged .* The last epoch's weights", caplog.text)
    arrays, last = (weights.load_arrays(file)[0] for file in (copied.best_file, copied.last_file))
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, last.get(f"average/{name}", last.get(name)))
    copied.load_captioner()


def test_a_run_created_meanwhile_by_another_command_is_not_changed(settings, monkeypatch):
    load, first = preparation.load_images, contextlib.ExitStack()

    def meanwhile(*arguments):
        monkeypatch.setattr(preparation, "load_images", load)
        preparation.prepare_run(dataclasses.replace(settings, units=13), first)
        return load(*arguments)

    monkeypatch.setattr(preparation, "load_images", meanwhile)
    with pytest.raises(UserError, match="another training is writing to it"):
        training.train(settings)
    shutil.rmtree(settings.folder)
    first.close()

    def created_and_finished(*arguments):
        images = meanwhile(*arguments)
        first.close()
        return images

    monkeypatch.setattr(preparation, "load_images", created_and_finished)
    with pytest.raises(UserError, match="another training created this run meanwhile"):
        training.train(settings)
    assert Run(settings.folder).configuration.units == 13


# --- failures -------------------------------------------------------------------------------------


def test_the_error_of_a_nan_loss_names_images_and_the_last_checkpoint(settings, at_step):
    at_step(4, lambda: ({"loss": float("nan")}, False))
    with pytest.raises(
        UserError,
        match=r"loss became nan at step 3, images .*\.png; lower learning_rate or clip_norm in a "
        r"run of another --name\. The last checkpoint is kept: .*last\.npz, after step 2\.",
    ):
        training.train(settings)


def test_nan_weights_never_replace_a_checkpoint(settings, monkeypatch):
    step = Trainer.step

    def set_nan(trainer, *arguments):
        result = step(trainer, *arguments)
        if trainer.steps == 4:
            trainer.own_variables[0].assign(trainer.own_variables[0] * np.nan)
        return result

    monkeypatch.setattr(Trainer, "step", set_nan)
    with pytest.raises(UserError, match=r"weights became infinite or NaN before step 5 \(cell/"):
        training.train(settings)
    arrays, metadata = weights.load_arrays(settings.folder / "last.npz")
    assert metadata["steps"] == 2
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_the_error_of_exhausted_memory_suggests_settings_to_lower(settings, at_step):
    at_step(4, exhausted.fail)
    with pytest.raises(
        UserError,
        match=r"out of memory \(.*\); lower batch_size \(2\), captions_per_image \(2\), .* in a "
        r"run of another --name, or use a machine with more memory\. "
        r"The same command resumes after step 2\.",
    ):
        training.train(settings)
