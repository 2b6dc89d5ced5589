"""Images of a bright square on black, a backbone that outputs brightness, and untrained runs."""

import pathlib
from dataclasses import dataclass

import cv2
import keras
import numpy as np
from image_files import exif, insert

from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.data.proposals import edge_boxes as edges
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.models import weights
from keras_aoa.runs.run import Run
from keras_aoa.settings.configuration import Configuration

CELL, CELLS = 8, 24  # pixels of a cell, cells of a map
ASPECTS = {"wide": (90, 160), "tall": (150, 64), "square": (96, 96), "panorama": (64, 144)}


@dataclass(frozen=True)
class Scene:
    """An image file and the box of its square: x0, y0, x1, y1 in 0..1 of the upright image."""

    path: pathlib.Path
    box: tuple[float, float, float, float]


def draw(folder, height, width, orientation=1):
    """Draw a bright square to the upper right of the center, inside the central crop.

    The file is a PNG, or a JPEG with EXIF data for an `orientation` other than 1.
    """
    short = min(height, width)
    side = round(0.3 * short)
    left, top = round(width / 2 + 0.12 * short), round(height / 2 - 0.38 * short)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[top : top + side, left : left + side] = 255
    box = np.array([left, top, left + side, top + side]) / (width, height, width, height)
    path = folder / f"{height}x{width}-{orientation}.png"
    if orientation == 1:
        cv2.imwrite(str(path), picture)
    else:
        # The stored pixels are rotated; EXIF gives the upright orientation.
        turns = {3: 2, 6: 1, 8: -1}[orientation]
        path = path.with_suffix(".jpg")
        options = (cv2.IMWRITE_JPEG_QUALITY, 100)
        jpeg = cv2.imencode(".jpg", np.rot90(picture, turns), options)[1].tobytes()
        path.write_bytes(insert(jpeg, exif(orientation)))
    return Scene(path, tuple(box.tolist()))


def draw_all(folder):
    """Scenes of several aspect ratios by name; one is rotated by its EXIF orientation."""
    scenes = {name: draw(folder, *size) for name, size in ASPECTS.items()}
    return {**scenes, "exif": draw(folder, 90, 160, 6)}


def brightness():
    """A backbone whose map is each cell's mean color, 0..255."""
    pixels = keras.Input((None, None, 3))
    activations = keras.layers.AveragePooling2D(CELL)(pixels)
    vector = keras.layers.GlobalAveragePooling2D()(activations)
    return keras.Model(pixels, {"map": activations, "vector": vector})


def settings(folder, **changes):
    """A `Configuration` of a tiny captioner."""
    return Configuration(
        **{
            "name": "run",
            "output": str(folder),
            "image_size": CELL * CELLS,
            "proposals_size": CELL * CELLS,
            "stride": 1,
            "units": 7,
            "embedding_dim": 6,
            "max_words": 1,
            "beam": 1,
            "feature_length": 0.0,
            "transformer_filter": "own",
            "anchor_scale": 1.0,
            **changes,
        }
    )


VOCABULARY = Vocabulary(["a", "square"])


def make_run(configuration, backbone, change=lambda captioner: None):
    """A run whose best weights are the initial ones after `change(captioner)`."""
    keras.utils.set_random_seed(0)
    run = Run.create(configuration, VOCABULARY, backbone)
    captioner = run.make_captioner()
    change(captioner)
    arrays = weights.values(weights.captioner_variables(captioner, with_backbone=False))
    weights.save_arrays(run.best_file, arrays, run.digests)
    return run


def propose_these(monkeypatch, scenes, boxes):
    """Replace the proposals of scenes by `boxes`: x0, y0, x1, y1 in 0..1, by scene name."""
    known = {read_image(scenes[name].path).tobytes(): np.array(own) for name, own in boxes.items()}
    monkeypatch.setattr(edges, "edge_boxes", lambda image, model="": known[image.tobytes()])
