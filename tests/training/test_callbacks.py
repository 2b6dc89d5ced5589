"""Keras callbacks receive the events of a training, and can end it."""

import csv
import dataclasses
from types import SimpleNamespace

import keras
import pytest
from simulated_epochs import Simulation, four_epochs, prepare

from keras_aoa.models import weights
from keras_aoa.training import epochs
from keras_aoa.training import loop as training
from keras_aoa.training.callbacks import Callbacks
from keras_aoa.training.checkpoints import Progress


@pytest.fixture
def settings(squares_settings, tmp_path):
    return four_epochs(squares_settings, tmp_path)


@pytest.fixture(autouse=True)
def prepared(monkeypatch):
    prepare(monkeypatch)


def test_callbacks_receive_the_captioner_and_the_metrics_of_each_epoch(
    settings, monkeypatch, tmp_path
):
    simulated = Simulation(monkeypatch, [0.5, 0.125, 0.5, 0.25])
    events = []

    class Recorder(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            assert self.model is not None and self.model.optimizer.learning_rate is not None
            events.append(("begin", self.params["epochs"]))

        def on_train_end(self, logs=None):
            events.append(("end", logs["CIDEr"]))

    begun = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: events.append((epoch, len(simulated.stages)))
    )
    table = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    run = training.train(settings, [Recorder(), begun, table])
    assert events == [("begin", 4), *((epoch, epoch) for epoch in range(4)), ("end", 0.25)]
    assert simulated.trainer.captioner is begun.model
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["CIDEr"]) for row in rows] == [0.5, 0.125, 0.5, 0.25]
    assert [float(row["loss"]) for row in rows] == [1, 2, 3, 4]
    training.train(run.configuration, [Recorder()])
    assert len(events) == 6, "a finished run calls no callbacks"


@pytest.mark.filterwarnings("ignore:Early stopping conditioned on metric `CIDEr`")
@pytest.mark.parametrize(("every", "trained"), [(1, [1, 2, 3]), (2, [2, 4])])
def test_early_stopping_on_the_validated_score_ends_the_training(
    settings, monkeypatch, every, trained
):
    simulated = Simulation(monkeypatch, [0.2, 0.6, 0.5, 0.4])
    stop = keras.callbacks.EarlyStopping(monitor="CIDEr", mode="max", patience=1)
    long = dataclasses.replace(settings, joint_epochs=3, validate_every=every)
    run = training.train(long, [stop])
    assert simulated.validated == trained
    progress = weights.load_arrays(run.last_file)[1]["progress"]
    assert (progress["epochs"], progress["stopped"]) == (trained[-1], True)
    assert progress["best"] == 0.6


def test_an_epoch_after_which_a_callback_ends_the_training_is_validated(settings, monkeypatch):
    simulated = Simulation(monkeypatch, [0.3])
    stop = keras.callbacks.EarlyStopping(monitor="loss", patience=0)  # the loss rises
    run = training.train(dataclasses.replace(settings, validate_every=4), [stop])
    assert (simulated.stages, simulated.validated) == ([1, 2], [2])
    assert run.best_file.exists()


def test_only_keras_callbacks_are_accepted(settings):
    with pytest.raises(TypeError, match=r"must contain objects of keras\.callbacks\.Callback; rec"):
        training.train(settings, [print])
    assert not settings.folder.exists()


def steps(process, callbacks):
    """Run an epoch of four steps; returns the numbers of its steps and its means."""
    settings = SimpleNamespace(checkpoint_steps=9, accumulate=1, stage=lambda epoch: 1, epochs=1)
    trainer = SimpleNamespace(steps=0, configuration=settings, steps_per_epoch=4)
    trainer.rate_factor = lambda: 1.0
    trainer.captioner = trainer.optimizer = SimpleNamespace()

    def step(batch, stage, stop):
        trainer.steps += 1
        return {"loss": float(batch[0])}, False

    trainer.step = step
    batches = SimpleNamespace(batches_per_epoch=4, epoch=lambda *_: range(1, 5))
    board = SimpleNamespace(step=lambda *_: None)
    callbacks.begin(trainer)
    means = epochs.train_epoch(trainer, process, batches, Progress(), board, None, callbacks)
    return trainer.steps, means


def test_a_callback_of_the_chief_ends_all_workers_after_the_step():
    seen = []

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((batch, logs))
            self.model.stop_training = batch == 1

    sent = []

    def send(own):
        sent.append(own)
        return own

    chief = SimpleNamespace(chief=True, replicas=None, feed=iter, any=send)
    assert steps(chief, Callbacks([Stop()], chief)) == (2, {"loss": 1.5})
    assert seen == [(0, {"loss": 1.0}), (1, {"loss": 2.0})]
    other = SimpleNamespace(chief=False, replicas=None, feed=iter)
    other.any = lambda own: own or sent.pop(0)
    assert steps(other, Callbacks([Stop()], other)) == (2, {"loss": 1.5})
    assert len(seen) == 2, "only the chief calls callbacks"
