"""Simulated epochs, captions and scores of a training, to test the training loop's decisions."""

import dataclasses
from types import SimpleNamespace

import numpy as np
from bright_square import brightness

from keras_aoa.training import checkpoints as saving
from keras_aoa.training import epochs, preparation
from keras_aoa.training import loop as training

WORDS = "cell/000/word_kernel"


def four_epochs(configuration, folder):
    """Return a configuration of one epoch of stage 1 and three of stage 2, with averages."""
    return dataclasses.replace(
        configuration, output=str(folder), average=0.9, rnn_epochs=1, joint_epochs=3
    )


def prepare(monkeypatch):
    """Prepare runs without reading images, and with a backbone without weights."""

    def images(configuration, data, view):
        return [
            SimpleNamespace(
                name=name,
                examples=data.splits[name],
                readable=np.arange(len(data.splits[name])),
                has_proposals=False,
            )
            for name in ("train", "val")
        ]

    monkeypatch.setattr(preparation, "load_images", images)
    monkeypatch.setattr(preparation, "make_backbone", lambda settings: brightness())


class Simulation:
    """Replaces epochs, captions and scores of a training; records what the loop does.

    Each epoch adds 1 to the word vectors and 0.5 to their averages and takes `seconds` of a
    simulated clock. Validations return `scores` one after the other. `metrics` are the results of
    some epochs by their number.
    """

    def __init__(self, monkeypatch, scores, seconds=0.0):
        self.scores, self.seconds, self.now = list(scores), seconds, 0.0
        self.metrics, self.plateaus = {}, []
        self.stages, self.validated, self.starts, self.evaluated = [], [], [], []
        monkeypatch.setattr(epochs, "train_epoch", self.epoch)
        monkeypatch.setattr(epochs, "caption_split", self.captions)
        monkeypatch.setattr(epochs, "validation_cider", lambda *_: self.scores.pop(0))
        monkeypatch.setattr(epochs.TensorBoard, "validation", lambda *_: None)
        monkeypatch.setattr(training, "evaluate", lambda *_, **__: None)
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(training, "time", clock)
        monkeypatch.setattr(saving, "time", clock)

    def epoch(self, trainer, process, batches, progress, *_):
        words, average = trainer.trained[WORDS], trainer.averages[WORDS]
        self.trainer, self.number = trainer, progress.epochs + 1
        self.plateaus.append(trainer.plateaus)
        self.stages.append(trainer.configuration.stage(progress.epochs))
        self.starts.append(np.array(words.value))
        words.assign(np.array(words.value) + 1)
        average.assign(np.array(average.value) + 0.5)
        self.now += self.seconds
        return self.metrics.get(self.number, {"loss": float(self.number)})

    def captions(self, *_):
        self.validated.append(self.number)
        self.evaluated.append(np.array(self.trainer.trained[WORDS].value))
        return {}
