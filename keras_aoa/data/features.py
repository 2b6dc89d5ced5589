"""Cached features of a frozen network, which replace the images as its input."""

import functools
import hashlib
import json
import pathlib

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.split_images import batched
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import atomic_write, identity, settings_digest
from keras_aoa.utils.progress import progress_bar

FORMAT_VERSION = 1  # increase it if the same images would yield other features
SHARD = 256  # images per file
OPEN_FILES = 128  # each uses a file descriptor, and 1,024 is a common limit


class FeatureFiles:
    """Feature files of a split, with `SHARD` images each.

    A file's name is a digest of its images' paths, sizes and modification times. The folder's name
    is a digest of the network and preprocessing. Other images or settings thus use other files.

    Args:
        folder: Parent of the folder `features-<digest>`.
        settings: Dictionary, with values that JSON can represent, of everything except the image
            that the features depend on.
        dtype: Storage type, `float16` or `bfloat16`.
    """

    def __init__(self, folder, settings, dtype):
        settings = {"format": FORMAT_VERSION, **settings, "dtype": dtype}
        self.folder = pathlib.Path(folder) / f"features-{settings_digest(settings)}"
        self.dtype = tf.as_dtype(dtype)

    def extract(self, images, indices, mirrored, network):
        """Compute the missing files; after an interruption, it resumes.

        Args:
            images: `Images`.
            indices: Indices of the images in `images.examples`.
            mirrored: Whether to mirror the images first.
            network: Function from a batch of `images` to a dictionary of tensors `(n, …)`.

        Returns:
            For each feature name, the location of each image's array: `{index: (file, row)}`.

        Raises:
            UserError: A value is too large for float16.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        locations = {}
        description = f"{images.name}: features" + (" of mirrored images" if mirrored else "")
        with progress_bar(total=len(indices), desc=description, unit="image", delay=3) as bar:
            for start in range(0, len(indices), SHARD):
                shard = indices[start : start + SHARD]
                paths = self._files(images, shard, mirrored)
                if paths is None:
                    self._write(images, shard, mirrored, network)
                    paths = self._files(images, shard, mirrored)
                for name, path in paths.items():
                    rows = {index: (path, row) for row, index in enumerate(shard)}
                    locations.setdefault(name, {}).update(rows)
                bar.update(len(shard))
        return locations

    def _files(self, images, indices, mirrored):
        """Return a shard's files by feature name, or None if any is missing or incomplete."""
        stem = self._stem(images, indices, mirrored)
        try:
            names = json.loads((self.folder / f"{stem}.json").read_text(encoding="utf-8"))
            paths = {name: self.folder / f"{stem}-{name}.npy" for name in names}
            arrays = [np.load(path, "r", allow_pickle=False) for path in paths.values()]
        except (OSError, ValueError, EOFError):
            return None
        complete = all(len(array) == len(indices) and array.dtype == np.uint16 for array in arrays)
        return paths if complete else None

    def _stem(self, images, indices, mirrored):
        paths = [images.examples[index].path for index in indices]
        text = "\n".join([str(mirrored), *map(identity, paths)]).encode("utf-8", "surrogateescape")
        return hashlib.sha256(text).hexdigest()[:32]

    def _write(self, images, indices, mirrored, network):
        features = {}
        columns = {
            "index": np.asarray(indices, np.int32),
            "flipped": np.full(len(indices), mirrored),
        }
        for batch in images.batches(columns, 32):
            for name, values in network(batch).items():
                stored = tf.cast(values, self.dtype)
                if not tf.reduce_all(tf.math.is_finite(tf.cast(stored, tf.float32))):
                    raise UserError(
                        f"feature_cache: {name} of {images.name} holds numbers too large for "
                        f"{self.dtype.name}; set it to bfloat16 or none."
                    )
                stored = tf.bitcast(stored, tf.uint16).numpy()
                features.setdefault(name, []).append(stored)
        stem = self._stem(images, indices, mirrored)
        for name, parts in features.items():
            with atomic_write(self.folder / f"{stem}-{name}.npy") as temporary:
                np.save(temporary, np.concatenate(parts), allow_pickle=False)
        # Written last, because its presence means that the other files are complete.
        with atomic_write(self.folder / f"{stem}.json") as temporary:
            temporary.write_text(json.dumps(sorted(features)), encoding="utf-8")


class ImageFeatures:
    """Features of a split's images; it has the interface of `Images` and replaces them.

    Args:
        images: `Images`.
        files: `FeatureFiles`.
        network: Function from a batch of images to a dictionary of tensors `(n, …)`.
        mirrored: Indices of the images whose mirror images are also needed.
    """

    def __init__(self, images, files, network, mirrored=()):
        self._images = images
        self._dtype = files.dtype
        self._features = [
            files.extract(images, images.readable, False, network),
            files.extract(images, np.asarray(mirrored, int), True, network),
        ]
        self._names = tuple(self._features[0])
        self.name, self.examples = images.name, images.examples
        self.readable, self.skipped = images.readable, images.skipped
        self.windows, self.has_proposals = images.windows, images.has_proposals
        self.proposal_count, self.proposals = images.proposal_count, images.proposals
        self._shapes = {
            name: _open_array(self._features[0][name][int(self.readable[0])][0]).shape[1:]
            for name in self._names
        }

    def batches(self, columns, batch_size):
        """Return the batches of `Images.batches` with `features` instead of pixels."""
        return batched(self.dataset(columns), batch_size)

    def dataset(self, columns):
        """Return a dataset with one element per row of `columns`: the row and its `features`."""
        columns = columns | {"window": self.windows[columns["index"]]}
        rows = tf.data.Dataset.from_tensor_slices(columns)
        return rows.map(self._with_features, tf.data.AUTOTUNE, deterministic=True)

    def _with_features(self, row):
        flipped = row.get("flipped", False)
        values = tf.numpy_function(
            self._read, (row["index"], flipped), [tf.uint16] * len(self._names), stateful=False
        )
        features = {}
        for name, value in zip(self._names, values, strict=True):
            value = tf.ensure_shape(value, self._shapes[name])
            features[name] = tf.cast(tf.bitcast(value, self._dtype), tf.float32)
        return row | {"features": features}

    def _read(self, index, mirrored):
        read_feature = functools.partial(self._row, int(index), int(mirrored))
        return [read_feature(name) for name in self._names]

    def _row(self, index, mirrored, name):
        path, row = self._features[mirrored][name][index]
        return np.ascontiguousarray(_open_array(path)[row])


@functools.lru_cache(OPEN_FILES)
def _open_array(path):
    return np.load(path, "r", allow_pickle=False)
