"""Caches the features of a frozen network, so that later epochs and runs do not recompute them."""

import functools
import hashlib
import json
import pathlib
import shutil
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.split_images import batched, cropped_window
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import atomic_write, identity, settings_digest
from keras_aoa.utils.progress import print_progress, progress_bar

FORMAT_VERSION = 1  # increase it if a code change alters the features
SHARD = 256  # images per file
BATCH = 32  # images per call of the network
OPEN_FILES = 128  # each uses a file descriptor, and 1,024 is a common limit


class StoredArray(NamedTuple):
    """An array of 16-bit numbers in a file, without the file's header."""

    path: pathlib.Path
    offset: int
    shape: tuple[int, ...]


class FeatureFiles:
    """Feature files of a split; each file has the features of at most `SHARD` images.

    A file's name contains a digest of its images' paths, sizes and modification times. The folder's
    name contains a digest of the network and preprocessing. If the images or the settings change,
    new files are therefore written.

    Args:
        folder: Parent of the folder `features-<digest>`.
        settings: Dictionary of all settings that affect the features, with values that JSON can
            represent.
        dtype: Storage type of the features, `float16` or `bfloat16`.
    """

    def __init__(self, folder, settings, dtype):
        settings = {"format": FORMAT_VERSION, **settings, "dtype": dtype}
        self.folder = pathlib.Path(folder) / f"features-{settings_digest(settings)}"
        self.dtype = tf.as_dtype(dtype)

    def extract(self, images, indices, mirrored, network, crops=None):
        """Compute the features whose files are missing, and return the locations of all features.

        If a call is interrupted, the next call computes only the files that are still missing.

        Args:
            images: `Images`.
            indices: Indices of the images in `images.examples`.
            mirrored: Whether to mirror the images before the features are computed.
            network: Function that receives a batch of `images.batches` and returns a dictionary of
                tensors `(n, …)`.
            crops: Array `(count, 4)` with the part of each example's image to use. If `crops` is
                None, whole images are used.

        Returns:
            Dictionary whose keys are feature names. Each value is a dictionary of locations,
            `{index: (array, row)}`, where `array` is a `StoredArray`.

        Raises:
            UserError: A feature is too large for the storage type.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        locations = {}
        kind = ("mirrored " if mirrored else "") + ("images" if crops is None else "crops")
        description = f"{images.name}: features of {kind}"
        with progress_bar(total=len(indices), desc=description, unit="image", delay=3) as bar:
            for shard, columns, stem in self._shards(images, indices, mirrored, crops):
                arrays = self._arrays(stem, len(shard))
                if arrays is None:
                    self._write(images, columns, stem, network)
                    arrays = self._arrays(stem, len(shard))
                for name, array in arrays.items():
                    rows = {index: (array, row) for row, index in enumerate(shard)}
                    locations.setdefault(name, {}).update(rows)
                bar.update(len(shard))
        return locations

    def missing(self, images, indices, mirrored, crops=None):
        """Return the number of images whose features `extract` would compute."""
        return sum(
            len(shard)
            for shard, _, stem in self._shards(images, indices, mirrored, crops)
            if self._arrays(stem, len(shard)) is None
        )

    def _shards(self, images, indices, mirrored, crops):
        """Yield each shard's image indices, dataset columns and file stem."""
        for start in range(0, len(indices), SHARD):
            shard = indices[start : start + SHARD]
            columns = {"index": np.asarray(shard, np.int32)}
            columns["flipped"] = np.full(len(shard), mirrored)
            if crops is not None:
                columns["crop"] = crops[shard]
            yield shard, columns, self._stem(images, columns)

    def _arrays(self, stem, count):
        """Return a shard's arrays by feature name, or None if a file is missing or incomplete."""
        try:
            names = json.loads((self.folder / f"{stem}.json").read_text(encoding="utf-8"))
            paths = {name: self.folder / f"{stem}-{name}.npy" for name in names}
            arrays = {name: np.load(path, "r", allow_pickle=False) for name, path in paths.items()}
        except (OSError, ValueError, EOFError):
            return None
        if any(len(array) != count or array.dtype != np.uint16 for array in arrays.values()):
            return None
        return {
            name: StoredArray(paths[name], array.offset, array.shape)
            for name, array in arrays.items()
        }

    def _stem(self, images, columns):
        paths = [images.examples[index].path for index in columns["index"]]
        mirrored = str(columns["flipped"][0])
        text = "\n".join([mirrored, *map(identity, paths)]).encode("utf-8", "surrogateescape")
        crops = columns["crop"].tobytes() if "crop" in columns else b""
        return hashlib.sha256(text + crops).hexdigest()[:32]

    def _write(self, images, columns, stem, network):
        features = {}
        for batch in images.batches(columns, BATCH):
            for name, values in network(batch).items():
                stored = tf.cast(values, self.dtype)
                if not tf.reduce_all(tf.math.is_finite(tf.cast(stored, tf.float32))):
                    raise UserError(
                        f"feature_cache: {name} of {images.name} has numbers too large for "
                        f"{self.dtype.name}; set feature_cache to bfloat16 or none."
                    )
                stored = tf.bitcast(stored, tf.uint16).numpy()
                features.setdefault(name, []).append(stored)
        for name, parts in features.items():
            with atomic_write(self.folder / f"{stem}-{name}.npy") as temporary:
                np.save(temporary, np.concatenate(parts), allow_pickle=False)
        # The JSON file is written last: if it exists, the other files are complete.
        with atomic_write(self.folder / f"{stem}.json") as temporary:
            temporary.write_text(json.dumps(sorted(features)), encoding="utf-8")


class ImageFeatures:
    """Features of a split's images, with the same interface as `Images`.

    Args:
        images: `Images`.
        files: `FeatureFiles`.
        network: As for `FeatureFiles.extract`.
        mirrored: Indices of the images whose mirrored features are also needed.
        views: Array `(views, n, 4)`, as returned by `CaptionBatches.fixed_views`. In `dataset`, the
            column `view` selects the view of each image. If `views` is None, only whole images are
            used.
        image_bytes: Function that returns the number of bytes that the features of one image need.
            If the features of more than `SHARD` images are missing, their total size is printed and
            must fit on the disk. If the function is None, the size is not checked.

    Raises:
        UserError: The features do not fit on the disk, or `FeatureFiles.extract` fails.
    """

    def __init__(self, images, files, network, mirrored=(), views=None, image_bytes=None):
        self._images = images
        self._dtype = files.dtype
        self.views = views
        crops = [None] if views is None else [None, *views[1:]]  # the first is the whole image
        parts = (images.readable, False), (np.asarray(mirrored, int), True)
        if image_bytes:
            missing = sum(files.missing(images, *part, each) for each in crops for part in parts)
            if missing > SHARD:
                _reserve(files.folder, images.name, missing, missing * image_bytes() / 1e9)
        self._features = [
            [files.extract(images, *part, network, each) for part in parts] for each in crops
        ]
        self._names = tuple(self._features[0][0])
        self.name, self.examples = images.name, images.examples
        self.readable, self.skipped = images.readable, images.skipped
        self.windows, self.has_proposals = images.windows, images.has_proposals
        self.proposal_count, self.proposals = images.proposal_count, images.proposals
        self._shapes = {
            name: self._features[0][0][name][int(self.readable[0])][0].shape[1:]
            for name in self._names
        }

    def batches(self, columns, batch_size):
        """Return the batches of `Images.batches` with `features` instead of pixels."""
        return batched(self.dataset(columns), batch_size)

    def dataset(self, columns):
        """Return a dataset whose elements are the rows of `columns`, each with its `features`."""
        columns = columns | {"window": self.windows[columns["index"]]}
        rows = tf.data.Dataset.from_tensor_slices(columns)
        if "crop" in columns:
            rows = rows.map(cropped_window)
        return rows.map(self._with_features, tf.data.AUTOTUNE, deterministic=True)

    def _with_features(self, row):
        key = row["index"], row.get("flipped", False), row.pop("view", 0)
        values = tf.numpy_function(self._read, key, [tf.uint16] * len(self._names), stateful=False)
        features = {}
        for name, value in zip(self._names, values, strict=True):
            value = tf.ensure_shape(value, self._shapes[name])
            features[name] = tf.cast(tf.bitcast(value, self._dtype), tf.float32)
        return row | {"features": features}

    def _read(self, index, mirrored, view):
        locations = self._features[int(view)][int(mirrored)]
        return [self._row(*locations[name][int(index)]) for name in self._names]

    def _row(self, array, row):
        return np.ascontiguousarray(_open_array(array)[row])


def _reserve(folder, name, count, gigabytes):
    """Print the size of the missing features; raise an error if the disk has too little space."""
    existing = next(each for each in folder.absolute().parents if each.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < gigabytes:
        raise UserError(
            f"feature_cache: expected {gigabytes:.1f} GB of free space for the features of {name} "
            f"in {folder.parent}, received {free:.1f} GB; free some space, lower cached_views, or "
            "set feature_cache to none."
        )
    print_progress(f"{name}: caching features of {count} images, {gigabytes:.1f} GB, in {folder}.")


@functools.lru_cache(OPEN_FILES)
def _open_array(array):
    # Several threads read. `np.load` would parse the header, which is not safe in several threads
    # of Python 3.11.
    return np.memmap(array.path, np.uint16, "r", array.offset, array.shape)
