"""Helpers that write shards and create untrained runs with any kind of regions."""

import dataclasses
import io
import json
import tarfile

import keras
import numpy as np

from keras_aoa.models import weights
from keras_aoa.models.backbones import make_backbone
from keras_aoa.models.build import backbone_settings
from keras_aoa.runs.run import Run


def write_tar(path, files):
    """Write a tar archive of `(name, content)` pairs or bare `tarfile.TarInfo` headers."""
    with tarfile.open(path, "w") as archive:
        for member in files:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return str(path)


def write_list(path, images):
    """Write a text file with one path per line."""
    path.write_text("".join(f"{image}\n" for image in images))
    return str(path)


def read_lines(path):
    """Read the json lines of a finished shard."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def untrained(trained, folder, **changes):
    """Create a run with the vocabulary of another and random weights; its captions vary."""
    configuration = dataclasses.replace(
        trained.configuration, name="untrained", output=str(folder), **changes
    )
    keras.utils.set_random_seed(3)
    backbone = make_backbone(backbone_settings(configuration))
    run = Run.create(configuration, trained.vocabulary, backbone)
    captioner = run.make_captioner()
    random = np.random.default_rng(0)
    for weight in (*captioner.cell.weights, *captioner.image_projection.weights):
        if str(weight.dtype).startswith("float"):
            weight.assign(random.normal(0, 0.7, weight.shape))
    named = weights.captioner_variables(captioner, with_backbone=False)
    weights.save_arrays(run.best_file, weights.values(named), run.digests)
    return run
