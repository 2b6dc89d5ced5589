"""Trainings on two replicas of one process: equivalence to one device, and reproducibility."""

import json
import subprocess
import sys

import numpy as np
import pytest
from processes import ROOT, TRAIN, TWO_CPUS

from benchmarks import kill_and_resume as killing
from keras_aoa.models.weights import load_arrays

pytestmark = pytest.mark.slow


# One step with and without dropout, on one image or on two replicas that both have this image.
STEP = """
import dataclasses, json
import keras
from keras_aoa.data.images.split_images import Images
from keras_aoa.data.images.preprocessing import ImageSettings
from keras_aoa.data.build import load_data
from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.distribution.process import Process, make_strategy
from keras_aoa.models.build import make_captioner
from keras_aoa.models.scenes_network import scenes_backbone
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.trainer import Trainer

kind, config = sys.argv[1:]
losses = []
for dropout in (0.0, 0.5):
    configuration = dataclasses.replace(
        Configuration.read(config), dropout=dropout, scheduled_sampling=0.0
    )
    process = Process(make_strategy(kind))
    examples = load_data(configuration.data, cache=configuration.data).splits["train"]
    images = Images("train", examples, ImageSettings(32, "stretch"))
    texts = [text for example in examples for text in example.captions]
    vocabulary = Vocabulary.from_captions(texts, 1)
    batches = CaptionBatches(images, vocabulary, 1, 2, 5)
    with process.strategy.scope():
        keras.utils.set_random_seed(0)
        captioner = make_captioner(configuration, scenes_backbone(), len(vocabulary))
        trainer = Trainer(captioner, configuration, batches.batches_per_epoch)
    part = next(iter(batches.epoch(0)))
    (batch,) = process.feed([part] * process.replicas.count)
    losses.append(trainer.step(batch, 1)[0]["loss"])
print(json.dumps(losses))
"""


def run(program, *arguments):
    """Run a program on two logical CPUs and return the last line it prints."""
    result = subprocess.run(
        [sys.executable, "-c", TWO_CPUS + program, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`trained(name, kind, **changes)`: arrays and metadata of a run's last checkpoint."""
    folder = tmp_path_factory.mktemp("mirrored")
    killing.draw(folder / "squares")

    def train(name, kind, **changes):
        config = killing.configure(folder, name)
        config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
        run(TRAIN, "--config", str(config), "--distribution", kind)
        return load_arrays(folder / name / "last.npz")

    return train


def test_batch_normalization_uses_the_statistics_of_the_whole_batch(trained):
    # Only one epoch, since Adam amplifies rounding differences in later ones.
    changes = {"dropout": 0.0, "scheduled_sampling": 0.0, "joint_epochs": 1, "rnn_epochs": 0}
    one, two = (trained(kind, kind, **changes)[1] for kind in ("one", "mirrored"))
    history, others = (metadata["progress"]["history"] for metadata in (one, two))
    np.testing.assert_allclose(
        [epoch["loss"] for epoch in history], [epoch["loss"] for epoch in others], rtol=2e-5
    )


def test_two_trainings_on_two_replicas_are_bitwise_equal(trained):
    one, other = (trained(name, "mirrored")[0] for name in ("first", "second"))
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_replicas_draw_different_dropout_masks(tmp_path):
    killing.draw(tmp_path / "squares")
    config = killing.configure(tmp_path, "noise")
    one, two = (json.loads(run(STEP, kind, str(config))) for kind in ("one", "mirrored"))
    assert two[0] == pytest.approx(one[0], rel=1e-6), "without dropout"
    assert abs(two[1] - one[1]) > 1e-3
