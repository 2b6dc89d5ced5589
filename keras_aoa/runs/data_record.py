"""The file `data.json` of a run: the paths of its data, and digests that show later changes.

The file also contains the number of earlier runs in the chain of `start_from`, which determines the
random choices of a training.
"""

import hashlib
import json
import os
import pathlib

from keras_aoa.utils.files import write_text
from keras_aoa.utils.text import first_three

FILE = "data.json"
PATHS = ("data", "images", "backbone", "backbone_weights", "edge_model", "start_from")
_ID_DIGITS = 16  # hexadecimal digits of an id's digest; with 8, ids of COCO would collide
_DIGITS = 8  # of the other digests


def write_record(folder, configuration, data, earlier_runs=0):
    """Write the absolute paths of a run's data, and digests of each image's id, captions and file.

    Args:
        folder: The run's folder.
        configuration: `Configuration`.
        data: `CaptionData`.
        earlier_runs: Number of runs in the chain of `start_from` before this run.
    """
    given = {name: getattr(configuration, name) for name in PATHS}
    paths = {name: os.path.abspath(path) for name, path in given.items() if os.path.exists(path)}
    if configuration.data == "scenes":
        paths.pop("data", None)
    splits = {
        split: ["".join(_digests(example, _ID_DIGITS)) for example in examples]
        for split, examples in data.splits.items()
    }
    save_record(folder, paths, splits, earlier_runs)


def save_record(folder, paths, splits, earlier_runs):
    """Write `data.json`, given its content."""
    record = {"paths": paths, "splits": splits, "earlier_runs": earlier_runs}
    write_text(pathlib.Path(folder) / FILE, json.dumps(record) + "\n")


def read_record(folder):
    """Return the content of `data.json`.

    If `data.json` is missing or damaged, `paths` and `splits` are empty and `earlier_runs` is 0.
    Records of earlier versions do not contain `earlier_runs`; it is then 0, too.
    """
    empty = {"paths": {}, "splits": {}, "earlier_runs": 0}
    try:
        record = json.loads((pathlib.Path(folder) / FILE).read_text(encoding="utf-8"))
        return {name: type(value)(record.get(name, value)) for name, value in empty.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return empty


def data_changes(record, data):
    """Return a phrase for each split whose data changed since the record was written."""
    changes = []
    for split in dict.fromkeys((*record["splits"], *data.splits)):
        lines = record["splits"].get(split, ())
        # Older records have shorter digests of ids.
        digits = len(lines[0]) - 2 * _DIGITS if lines else _ID_DIGITS
        before = {line[:digits]: line[digits:] for line in lines}
        gone, kinds = set(before), {"new": [], "with other captions": [], "with another file": []}
        for example in data.splits.get(split, ()):
            key, captions, file = _digests(example, digits)
            gone.discard(key)
            old = before.get(key)
            if old is None:
                kinds["new"].append(example.image_id)
                continue
            if old[:_DIGITS] != captions:
                kinds["with other captions"].append(example.image_id)
            if old[_DIGITS:] != file:
                kinds["with another file"].append(example.image_id)
        phrases = [f"{len(gone)} gone"] if gone else []
        phrases += [f"{len(ids)} {kind} ({first_three(ids)})" for kind, ids in kinds.items() if ids]
        if phrases:
            changes.append(f"images of {split}: {', '.join(phrases)}")
    return changes


def differences(theirs, own, locate=None):
    """Return the names of the settings that differ in two configurations.

    Different paths of the same file count as equal.

    Args:
        theirs: `Configuration` of a run.
        own: `Configuration`.
        locate: Function from a name in `PATHS` to the run's path. The default is the path in
            `theirs`.
    """
    locate = locate or (lambda name: getattr(theirs, name))
    return [
        name
        for name in theirs.differences(own)
        if name not in PATHS or not same_path(locate(name), getattr(own, name))
    ]


def same_path(path, other):
    """Return whether two values of a path setting name the same file or folder."""
    if path == other:
        return True
    if "" in (path, other) or "scenes" in (path, other):
        return False
    return os.path.realpath(path) == os.path.realpath(other)


def _digests(example, id_digits):
    """Return digests of the id, the captions and the file size of an example."""
    try:
        size = os.stat(example.path).st_size
    except OSError:
        size = -1
    parts = (str(example.image_id), "\n".join(example.captions), str(size))
    return [
        hashlib.sha256(part.encode(errors="surrogateescape")).hexdigest()[:digits]
        for part, digits in zip(parts, (id_digits, _DIGITS, _DIGITS), strict=True)
    ]
