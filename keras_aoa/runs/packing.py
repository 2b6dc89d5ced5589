"""Packs a trained run into a small folder for captioning, export and evaluation."""

import json
import os
import pathlib
import shutil
import tempfile
import zipfile
from dataclasses import replace

import numpy as np

from keras_aoa.models import weights
from keras_aoa.runs.data_record import save_record
from keras_aoa.runs.named import write_checksums
from keras_aoa.runs.run import Run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable


def pack(
    run: Run, output: str | os.PathLike, name: str = "", card: str = ""
) -> tuple[pathlib.Path, float]:
    """Pack the settings, vocabulary, scores, network and best weights of a run.

    The network and the weights are stored in 16 bits. The folder also contains checksums of its
    files.

    Args:
        run: Trained `Run`.
        output: Folder to create.
        name: Name of the captioner. The default is the name of the folder.
        card: Markdown file that describes the captioner. The file is copied to `README.md`.

    Returns:
        Tuple of the folder and its size in MB.

    Raises:
        UserError: the folder exists, the run is incomplete, or a weight is too large for 16 bits.
    """
    output = pathlib.Path(output)
    if output.exists():
        raise UserError(
            f"{output}: expected a new folder, found an existing one; choose another name."
        )
    check_writable(output)
    captioner = run.load_captioner()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=output.parent) as temporary:
        folder = pathlib.Path(temporary) / "packed"
        folder.mkdir()
        shutil.copyfile(run.vocabulary_file, folder / "vocabulary.json")
        for pattern in ("edge_model*", "concepts.json", "topics.npz"):
            for file in run.folder.glob(pattern):
                shutil.copyfile(file, folder / file.name)
        if card:
            shutil.copyfile(card, folder / "README.md")
        configuration = _without_paths(run.configuration, name or output.name)
        (folder / "config.json").write_text(configuration.to_json(), encoding="utf-8")
        save_record(folder, {}, {}, run.record["earlier_runs"])
        if (run.folder / "scores.json").is_file():
            scores = json.loads((run.folder / "scores.json").read_text(encoding="utf-8"))
            scores |= {"run": configuration.name, "data": configuration.data}
            (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
        save_half_network(captioner.backbone, folder / "backbone.keras")
        # The region backbone is a second copy of the network, with its own weights.
        named = weights.captioner_variables(captioner, captioner.region_backbone is not None)
        arrays = {key: _half(key, array) for key, array in weights.values(named).items()}
        weights.save_arrays(folder / "best.npz", arrays, Run(folder).digests)
        size = sum(file.stat().st_size for file in folder.iterdir())
        write_checksums(folder)
        folder.rename(output)
    return output, size / 1e6


def save_half_network(network, path):
    """Save a Keras model as a `.keras` file with float16 weights.

    When Keras loads the file, it converts the weights to the type of the variables.
    """
    import h5py

    with tempfile.TemporaryDirectory() as temporary:
        whole, half = (pathlib.Path(temporary) / name for name in ("whole.keras", "half.h5"))
        network.save(whole)
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
            for member in source.namelist():
                content = source.read(member)
                if member.endswith(".weights.h5"):
                    half.write_bytes(content)
                    _halve_file(half, h5py)
                    content = half.read_bytes()
                # The current date is left out, so that equal weights result in equal files.
                target.writestr(zipfile.ZipInfo(member), content, zipfile.ZIP_DEFLATED)


def _halve_file(path, h5py):
    whole = path.with_suffix(".whole")
    path.rename(whole)

    def copy(group, target):
        target.attrs.update(group.attrs)
        for name, item in group.items():
            if isinstance(item, h5py.Dataset):
                data = target.create_dataset(name, data=_half(item.name, item[()]))
                data.attrs.update(item.attrs)
            else:
                copy(item, target.create_group(name))

    with h5py.File(whole) as source, h5py.File(path, "w") as target:
        copy(source, target)


def _half(name, array):
    array = np.asarray(array)
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise UserError(f"pack: weight {name} is too large for 16 bits; it cannot be packed.")
    return half


def _without_paths(configuration, name):
    """Return the configuration without paths on the machine that trained the run."""
    data = pathlib.Path(configuration.data)
    own = {
        "name": name,
        "output": "runs",
        "images": "",
        "data": data.name if data.is_absolute() else configuration.data,
    }
    # A run of stage 3 alone is valid only with a `start_from`.
    for setting in ("start_from", "backbone", "backbone_weights", "edge_model"):
        own[setting] = pathlib.Path(getattr(configuration, setting)).name
    return replace(configuration, **own)
