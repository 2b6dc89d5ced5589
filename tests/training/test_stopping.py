"""Signals that ask a training to stop, and the error of a loss that is not finite."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from keras_aoa.training.stopping import StopRequest, not_finite


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_recorded_and_the_second_one_acts(number):
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


@pytest.mark.parametrize(
    ("stage", "rates"),
    [
        (1, "learning_rate"),
        (2, "learning_rate, backbone_learning_rate"),
        (3, "reward_learning_rate"),
    ],
)
def test_the_error_of_a_loss_that_is_not_finite_names_the_rates_of_the_stage(stage, rates):
    checkpoints = SimpleNamespace(another_run=lambda: "a new run", last_good=lambda: "It is kept.")
    error = str(not_finite(float("inf"), 7, ["a.png"], stage, checkpoints))
    assert error == (
        f"train: the loss became inf at step 7, images a.png; lower {rates} or clip_norm in a new "
        "run. It is kept."
    )


def test_training_in_a_thread_sets_no_signal_handlers():
    requests = []

    def ask():
        with StopRequest() as stop:
            requests.append(stop.asked)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert requests == [False]
