"""Captions with random attention, and records of what is drawn on a page."""

import numpy as np

from keras_aoa.inference.caption import Caption
from keras_aoa.visualization.canvas import Page

TWENTY = " ".join(f"word{number}" for number in range(20))


def photograph(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grid(side):
    y, x = np.mgrid[:side, :side]
    cell = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    return (np.stack([x, y], axis=-1).reshape(-1, 1, 2) + cell) / side


def generated(caption, side=4, **changes):
    words = tuple(caption.split())
    attention = np.random.default_rng(len(words)).dirichlet(np.full(side**2, 0.3), len(words))
    fields = {"attention": attention, "boxes": grid(side), "mask": np.ones(side**2, bool)}
    return Caption(caption, words, -4.2, **{**fields, **changes})


def record(monkeypatch, method, argument):
    """Record an argument of all calls of a method of `Page`; returns the list that grows."""
    values, original = [], getattr(Page, method)

    def recording(self, *arguments):
        values.append(arguments[argument])
        return original(self, *arguments)

    monkeypatch.setattr(Page, method, recording)
    return values
