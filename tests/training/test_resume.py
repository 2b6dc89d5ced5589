"""Trainings that stop at any moment and in any way go on exactly, or say why not."""

import contextlib
import dataclasses
import errno
import os
import re
import resource
import shutil
import signal
import threading

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import kill_and_resume as killing
from keras_aoa.evaluation import evaluate as evaluation
from keras_aoa.models import weights
from keras_aoa.runs.run import Run
from keras_aoa.training import loop as training
from keras_aoa.training import preparation
from keras_aoa.training.checkpoints import Progress, second_name
from keras_aoa.training.stopping import StopRequest
from keras_aoa.training.trainer import Trainer
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import exclusive_lock


@pytest.fixture(autouse=True)
def without_evaluation(monkeypatch):
    """What follows a training is tested elsewhere."""
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: None)
    monkeypatch.setattr(evaluation, "start_meteor", lambda: False)


@pytest.fixture
def settings(squares_settings, tmp_path):
    """Five steps of stage 1 and five of stage 2, a checkpoint after every second."""
    return dataclasses.replace(
        squares_settings,
        output=str(tmp_path),
        batch_size=2,
        rnn_epochs=1,
        joint_epochs=1,
        checkpoint_steps=2,
        flip=True,
        crop=0.7,
    )


@pytest.fixture(scope="module")
def finished(squares_settings, tmp_path_factory):
    """The run of these settings that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "evaluate", lambda *_, **__: None)
        own = settings.__wrapped__(squares_settings, tmp_path_factory.mktemp("whole"))
        return training.train(dataclasses.replace(own, checkpoint_steps=1000))


@pytest.fixture
def at_step(monkeypatch):
    """Calls a function instead of the step of a number, or after it; once."""

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
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def assert_same_run(run, other):
    for file in ("last_file", "best_file"):
        arrays, facts = weights.load_arrays(getattr(run, file))
        others, other_facts = weights.load_arrays(getattr(other, file))
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[name], err_msg=name)
        facts, other_facts = (dict(each.get("progress", {})) for each in (facts, other_facts))
        facts.pop("seconds", None), other_facts.pop("seconds", None)
        assert facts == other_facts


# --- exactly as if it had never stopped -----------------------------------------------------------


@pytest.mark.parametrize(("step", "epoch"), [(5, 1), (9, 2)])  # 5 is the last of its epoch
def test_interrupt_saves_at_once_and_the_same_command_goes_on(
    settings, finished, at_step, capsys, step, epoch
):
    at_step(step - 1, interrupt, after=True)
    with pytest.raises(KeyboardInterrupt):
        training.train(settings)
    # The step under way when asked ends, and tells all workers.
    assert f"Saved after step {step}." in capsys.readouterr().out
    left = settings.folder / "last.123-456.part.npz"
    left.write_bytes(b"half")
    own = settings.folder / "album.part1.txt"
    own.write_text("a user's")
    resumed = training.train(settings)
    assert f"Going on after step {step}, in epoch {epoch}." in capsys.readouterr().out
    assert_same_run(resumed, finished)
    assert own.exists()
    assert not left.exists(), "what a killed process wrote temporary is removed"


def test_interrupted_validation_costs_no_step(settings, finished, monkeypatch, capsys):
    validate = training.captions_for_validation

    def interrupted(*_):
        monkeypatch.setattr(training, "captions_for_validation", validate)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "captions_for_validation", interrupted)
    own = dataclasses.replace(settings, checkpoint_steps=1000)
    with pytest.raises(KeyboardInterrupt):
        training.train(own)
    resumed = training.train(own)
    assert "Going on after step 5, in epoch 1." in capsys.readouterr().out
    assert_same_run(resumed, finished)


@pytest.mark.parametrize("runs", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_killed_runs_end_with_the_weights_of_one_never_killed(runs, tmp_path):
    killing.draw(tmp_path / "squares")
    outcomes = killing.kill_and_resume(tmp_path, runs, seed=1)
    assert all(outcome.identical for outcome in outcomes)
    # A moment at random may come after the end, one of writing does not.
    assert sum(outcome.kills for outcome in outcomes) >= (runs + 1) // 2
    assert max(outcome.steps_lost for outcome in outcomes) <= killing.EVERY


def test_damaged_checkpoint_gives_way_to_the_one_before(settings, finished, at_step, caplog):
    def lost():
        raise ZeroDivisionError

    at_step(8, lost)
    with pytest.raises(ZeroDivisionError):
        training.train(settings)
    facts = weights.load_arrays(settings.folder / "last.npz")[1]
    assert facts["steps"] == 6
    assert facts["progress"]["steps"] == 1
    assert facts["progress"]["seconds"] > 0
    last, previous = (settings.folder / name for name in ("last.npz", "previous.npz"))
    last.write_bytes(last.read_bytes()[:-200])
    best = settings.folder / "best.npz"
    best.write_bytes(best.read_bytes()[:100])
    whole = previous.read_bytes()
    at_step(7, lost)
    with pytest.raises(ZeroDivisionError):
        training.train(settings)
    assert previous.read_bytes() == whole, "until there is another whole one"
    assert weights.load_arrays(last)[1]["steps"] == 6
    resumed = training.train(settings)
    assert re.search(r"last\.npz: .* damaged .* Going on from .*previous\.npz", caplog.text)
    assert re.search(r"best\.npz: .* damaged .* best of the epochs to come", caplog.text)
    arrays, whole = (weights.load_arrays(run.last_file)[0] for run in (resumed, finished))
    for name, array in whole.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_damaged_checkpoints_are_told_and_left(finished, tmp_path):
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


def test_damaged_best_weights_of_a_finished_run_are_those_of_its_end(finished, tmp_path, caplog):
    copied = Run(shutil.copytree(finished.folder, tmp_path / finished.folder.name))
    copied.best_file.write_bytes(b"PK")
    training.train(dataclasses.replace(finished.configuration, output=str(tmp_path)))
    assert re.search(r"best\.npz: .* damaged .* The weights of the last epoch", caplog.text)
    arrays, last = (weights.load_arrays(file)[0] for file in (copied.best_file, copied.last_file))
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, last.get(f"average/{name}", last.get(name)))
    copied.load_captioner()


def test_a_disk_without_second_names_keeps_a_copy(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "last").write_text("whole")
    second_name(tmp_path / "last", tmp_path / "previous")
    assert (tmp_path / "previous").read_text() == "whole"


def test_a_run_made_by_another_command_meanwhile_stays_as_it_is(settings, monkeypatch):
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

    def made_and_left(*arguments):
        found = meanwhile(*arguments)
        first.close()
        return found

    monkeypatch.setattr(preparation, "load_images", made_and_left)
    with pytest.raises(UserError, match="another training made it meanwhile"):
        training.train(settings)
    assert Run(settings.folder).configuration.units == 13


def test_progress_of_runs_before_there_were_steps_is_read():
    assert Progress(epochs=2, stopped=False, best=0.5, history=[]).steps == 0


# --- asked to stop --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_request_is_noted_and_the_second_acts(number):
    taken = []
    before = signal.signal(number, lambda *_: taken.append(number))
    try:
        with StopRequest() as stop:
            assert not stop.asked
            os.kill(os.getpid(), number)
            assert stop.asked
            assert taken == []
            os.kill(os.getpid(), number)
            assert taken == [number]
        with StopRequest():
            pass
        os.kill(os.getpid(), number)
        assert taken == [number] * 2
    finally:
        signal.signal(number, before)


def test_a_thread_trains_without_handlers():
    seen = []

    def ask():
        with StopRequest() as stop:
            seen.append(stop.asked)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen == [False]


# --- hard days ------------------------------------------------------------------------------------


def test_loss_that_is_no_number_names_images_and_the_last_checkpoint(settings, at_step):
    at_step(4, lambda: (float("nan"), False))
    with pytest.raises(
        UserError,
        match=r"loss became nan at step 3, images .*\.png; lower learning_rate or clip_norm in a "
        r"run of another --name\. The last checkpoint is kept: .*last\.npz, after step 2\.",
    ):
        training.train(settings)


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(settings, monkeypatch):
    step = Trainer.step

    def spoilt(trainer, *arguments):
        result = step(trainer, *arguments)
        if trainer.steps == 4:
            trainer.own_variables[0].assign(trainer.own_variables[0] * np.nan)
        return result

    monkeypatch.setattr(Trainer, "step", spoilt)
    with pytest.raises(UserError, match=r"weights became infinite or NaN before step 5 \(cell/"):
        training.train(settings)
    arrays, facts = weights.load_arrays(settings.folder / "last.npz")
    assert facts["steps"] == 2
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_out_of_memory_says_what_to_lower_and_where_it_goes_on(settings, at_step):
    at_step(4, lambda: tf.zeros((2**44,)))
    with pytest.raises(
        UserError,
        match=r"out of memory \(.*\); lower batch_size \(2\), captions_per_image \(2\), .* in a "
        r"run of another --name, or give it more\. The same command goes on after step 2\.",
    ):
        training.train(settings)


def test_full_disk_keeps_the_last_checkpoint_and_says_so(settings, finished, at_step):
    """A limit on file size stands for a full disk: writing fails half-way in the same manner."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = finished.last_file.stat().st_size // 2
    at_step(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1])), after=True)
    try:
        with pytest.raises(
            UserError,
            match=rf"{os.strerror(errno.EFBIG)}; free some space\. "
            r"The same command goes on after step 2\.",
        ):
            training.train(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert weights.load_arrays(settings.folder / "last.npz")[1]["steps"] == 2
    assert not list(settings.folder.glob("*.part*"))
    assert_same_run(training.train(settings), finished)
