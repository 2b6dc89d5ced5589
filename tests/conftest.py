"""Fixtures shared by several test files; they import TensorFlow only when a test uses them."""

import dataclasses
import gc
import pathlib
import sys

import pytest
from made_once import made_once

ODD = ("turned-*.jpg", "cmyk-*.jpg", "gray-*.png", "line-*.png", "empty-*.png")

# The files that take longest start first, so that no worker waits for another at the end.
LONGEST = (
    "tests/distribution/test_processes.py",
    "tests/training/test_resume.py",
    "tests/training/test_training.py",
    "tests/evaluation/test_report.py",
    "tests/models/test_region_boxes.py",
    "tests/serving/test_server.py",
    "tests/training/test_warm_start.py",
    "tests/training/test_chained_runs.py",
    "tests/data/test_features.py",
    "tests/serving/test_export.py",
    "tests/collection/test_collection.py",
    "tests/test_commands.py",
    "tests/training/test_read_only.py",
    "tests/data/images/test_hostile_images.py",
    "tests/collection/test_beam.py",
    "tests/models/test_scheduled_sampling.py",
    "tests/training/test_self_critical.py",
    "tests/models/test_ensemble.py",
)


def pytest_collection_modifyitems(items):
    """Sort the tests of the files that take longest before all others."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))


def pytest_collectstart():
    """Make Python search for no reference cycles while the tests' modules are imported."""
    gc.disable()


def pytest_collection_finish():
    """Make Python search for reference cycles less often, and TensorFlow create graphs faster.

    TensorFlow creates many objects when it traces a function. A tenth of the processor time would
    go into searching among them and among those of the imported modules.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 5)
    gc.enable()
    if "tensorflow" in sys.modules:
        from graphs import create_graphs_faster

        create_graphs_faster()


@pytest.fixture(scope="session")
def shared():
    """The folder of real photographs, captions and a pretrained network beside the checkout."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder 'shared' with real data beside the checkout")
    return folder


@pytest.fixture
def in_float64():
    """All weights and layers are float64."""
    import keras

    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_floatx(floatx)


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """The folder of a data set: squares of three colors on the left or the right of the image."""
    return made_once(tmp_path_factory, "squares", write_squares)


def write_squares(folder):
    """Draw the squares and write their captions."""
    import cv2
    import numpy as np

    colors = {"red": (30, 30, 220), "green": (30, 200, 30), "blue": (220, 60, 30)}
    lines = ["image,caption,split"]
    for number in range(15):
        color = list(colors)[number % 3]
        side = ("left", "right")[number % 2]
        picture = np.full((40, 60, 3), 235, np.uint8)
        left = 6 if side == "left" else 36
        picture[8:28, left : left + 18] = colors[color]
        cv2.imwrite(str(folder / f"{number:02d}.png"), picture)
        split = "train" if number < 9 else "val" if number < 12 else "test"
        lines.append(f"{number:02d}.png,a {color} square on the {side},{split}")
        lines.append(f'{number:02d}.png,"One {color} square, {side} side.",{split}')
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def squares_settings(squares):
    """A configuration that trains on the squares within seconds."""
    from keras_aoa.settings.configuration import Configuration

    return Configuration(
        name="squares",
        data=str(squares),
        minimum_count=1,
        captions_per_image=2,
        max_words=5,
        image_size=32,
        fit="stretch",
        backbone="scenes",
        stride=1,
        units=12,
        embedding_dim=8,
        rnn_epochs=1,
        joint_epochs=2,
        batch_size=3,  # equal batches: the training step is traced once per batch size
        learning_rate=0.01,
        backbone_learning_rate=0.01,
        dropout=0.2,
        average=0.9,
        beam=2,
    )


@pytest.fixture(scope="session")
def trained(squares_settings, tmp_path_factory):
    """A finished run on the squares; tests that change its files must copy it."""
    return trained_once(tmp_path_factory, squares_settings)


def trained_once(tmp_path_factory, configuration):
    """Train a configuration once for all workers, without METEOR, and return a copy: a `Run`."""
    import shutil

    from keras_aoa.runs.run import Run

    def train(folder):
        from keras_aoa.evaluation import evaluate
        from keras_aoa.training.loop import train

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluate, "start_meteor", lambda: False)
            train(dataclasses.replace(configuration, output=str(folder)))

    made = made_once(tmp_path_factory, f"runs-{configuration.regions}", train)
    # Each worker has its own copy, because tests write results into the run's folder.
    folder = tmp_path_factory.mktemp("runs") / "copy"
    shutil.copytree(made, folder)
    return Run(folder / configuration.name)


@pytest.fixture(scope="session")
def odd_squares(squares, tmp_path_factory):
    """The squares, with unusual kinds of images in the training and the test split."""
    return made_once(
        tmp_path_factory, "odd-squares", lambda folder: write_odd_squares(squares, folder)
    )


def write_odd_squares(squares, folder):
    """Copy the squares and add unusual kinds of images."""
    import shutil

    import cv2
    import numpy as np
    from image_files import exif, insert
    from PIL import Image

    shutil.copytree(squares, folder, dirs_exist_ok=True)
    picture = cv2.imread(str(squares / "03.png"))
    lines = []
    for split in ("train", "test"):
        jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        (folder / f"turned-{split}.jpg").write_bytes(insert(jpeg, exif(6)))
        Image.fromarray(picture).convert("CMYK").save(folder / f"cmyk-{split}.jpg")
        Image.fromarray(picture).convert("L").save(folder / f"gray-{split}.png")
        cv2.imwrite(str(folder / f"line-{split}.png"), np.full((1, 200, 3), 90, np.uint8))
        cv2.imwrite(str(folder / f"empty-{split}.png"), np.full((40, 60, 3), 200, np.uint8))
        for name in ODD:
            lines.append(f"{name.replace('*', split)},a square,{split}")
    with open(folder / "captions.csv", "a") as file:
        file.write("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def trained_proposals(squares_settings, odd_squares, tmp_path_factory):
    """A finished run on object proposals, both stages; tests that change its files must copy it."""
    configuration = dataclasses.replace(
        squares_settings,
        data=str(odd_squares),
        joint_epochs=1,
        batch_size=7,
        regions="proposals",
        train_proposals=3,
        test_proposals=5,
        proposals_size=40,
        flip=True,
    )
    return trained_once(tmp_path_factory, configuration)


@pytest.fixture
def trained_runs(monkeypatch):
    """Replace training by writing a configuration and scores; list the names of trained runs."""
    import json

    import numpy as np

    from keras_aoa.models.weights import save_arrays
    from keras_aoa.reproduction import runs, tables

    made = []

    def train(configuration):
        made.append(configuration.name)
        configuration.folder.mkdir(parents=True, exist_ok=True)
        (configuration.folder / "config.json").write_text(configuration.to_json())
        search = {"beam": configuration.beam, "stride": configuration.test_stride}
        scores = {"split": configuration.test_split, "search": search}
        timing = {"seconds_per_caption": 0.0125}
        (configuration.folder / "timing.json").write_text(json.dumps(timing))
        scores |= {"Bleu_4": 0.1, "METEOR": None, "CIDEr": 0.5 + 0.1 * configuration.seed}
        if configuration.variant != "baseline":
            scores["grounding"] = {"attention_on_object": 0.25}
        # 1.5 million parameters besides the network's
        arrays = {"cell/0": np.zeros((1000, 1500), bool), "backbone/0": np.zeros(7, bool)}
        save_arrays(configuration.folder / "best.npz", arrays, {})
        progress = {"step_seconds": 0.25 + 0.5 * configuration.seed}
        save_arrays(configuration.folder / "last.npz", {}, {"progress": progress})
        (configuration.folder / "scores.json").write_text(json.dumps(scores))

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(tables, "prepare", lambda base, chains: None)
    return made
