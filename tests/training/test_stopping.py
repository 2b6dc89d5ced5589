"""Signals that ask a training to stop."""

import os
import signal
import threading

import pytest

from keras_aoa.training.stopping import StopRequest


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


def test_training_in_a_thread_sets_no_signal_handlers():
    requests = []

    def ask():
        with StopRequest() as stop:
            requests.append(stop.asked)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert requests == [False]
