"""Features that a frozen network made of images, kept in files, in place of the images."""

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

FORMAT_VERSION = 1  # to be raised whenever the same images would give other features
SHARD = 256  # images of a file
OPEN_FILES = 128  # each holds a file descriptor, of which there are commonly 1,024


class FeatureFiles:
    """Features of the images of a split, as files of `SHARD` images each.

    A file's name tells which images it holds, by path, size and time of change, and the folder's
    by what network and preprocessing: others get files of their own.

    Args:
        folder: Where the folder `features-<digest>` is made.
        described: What the features depend on besides the image, json's types.
        dtype: `float16` or `bfloat16`, as they are kept.
    """

    def __init__(self, folder, described, dtype):
        described = {"format": FORMAT_VERSION, **described, "dtype": dtype}
        self.folder = pathlib.Path(folder) / f"features-{settings_digest(described)}"
        self.dtype = tf.as_dtype(dtype)

    def extract(self, images, places, mirrored, network):
        """Compute the files that are missing; stopped, it goes on where it was.

        Args:
            images: `Images`.
            places: Of the images wanted, in `images.examples`.
            mirrored: Whether to mirror them first.
            network: From a batch of `images` to a dictionary of tensors `(n, …)`.

        Returns:
            By name where each image's array is: `{place: (file, row)}`.

        Raises:
            UserError: a number is too large for float16.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {}
        what = f"{images.name}: features" + (" of mirrored images" if mirrored else "")
        with progress_bar(total=len(places), desc=what, unit="image", delay=3) as bar:
            for start in range(0, len(places), SHARD):
                shard = places[start : start + SHARD]
                paths = self._files(images, shard, mirrored)
                if paths is None:
                    self._write(images, shard, mirrored, network)
                    paths = self._files(images, shard, mirrored)
                for name, path in paths.items():
                    rows = {place: (path, row) for row, place in enumerate(shard)}
                    found.setdefault(name, {}).update(rows)
                bar.update(len(shard))
        return found

    def _files(self, images, places, mirrored):
        """A shard's files by feature; None where they are not all there and whole."""
        stem = self._stem(images, places, mirrored)
        try:
            names = json.loads((self.folder / f"{stem}.json").read_text(encoding="utf-8"))
            paths = {name: self.folder / f"{stem}-{name}.npy" for name in names}
            arrays = [np.load(path, "r", allow_pickle=False) for path in paths.values()]
        except (OSError, ValueError, EOFError):
            return None
        whole = all(len(array) == len(places) and array.dtype == np.uint16 for array in arrays)
        return paths if whole else None

    def _stem(self, images, places, mirrored):
        paths = [images.examples[place].path for place in places]
        text = "\n".join([str(mirrored), *map(identity, paths)]).encode("utf-8", "surrogateescape")
        return hashlib.sha256(text).hexdigest()[:32]

    def _write(self, images, places, mirrored, network):
        made = {}
        columns = {
            "index": np.asarray(places, np.int32),
            "flipped": np.full(len(places), mirrored),
        }
        for batch in images.batches(columns, 32):
            for name, values in network(batch).items():
                kept = tf.cast(values, self.dtype)
                if not tf.reduce_all(tf.math.is_finite(tf.cast(kept, tf.float32))):
                    raise UserError(
                        f"feature_cache: {name} of {images.name} holds numbers too large for "
                        f"{self.dtype.name}; set it to bfloat16 or none."
                    )
                kept = tf.bitcast(kept, tf.uint16).numpy()
                made.setdefault(name, []).append(kept)
        stem = self._stem(images, places, mirrored)
        for name, parts in made.items():
            with atomic_write(self.folder / f"{stem}-{name}.npy") as temporary:
                np.save(temporary, np.concatenate(parts), allow_pickle=False)
        # Last: it says that the others are whole.
        with atomic_write(self.folder / f"{stem}.json") as temporary:
            temporary.write_text(json.dumps(sorted(made)), encoding="utf-8")


class ImageFeatures:
    """A split's images as a frozen network saw them; it stands where `Images` do.

    Args:
        images: `Images`.
        files: `FeatureFiles`.
        network: From a batch of images to a dictionary of tensors `(n, …)`.
        mirrored: Places of the images that are also wanted mirrored.
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
            name: _opened(self._features[0][name][int(self.readable[0])][0]).shape[1:]
            for name in self._names
        }

    def batches(self, columns, batch_size):
        """As of `Images.batches`, with `features` for pixels."""
        return batched(self.dataset(columns), batch_size)

    def dataset(self, columns):
        """One element for each of `columns["index"]`: its row of all columns, and `features`."""
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

    def _read(self, place, mirrored):
        of_image = functools.partial(self._row, int(place), int(mirrored))
        return [of_image(name) for name in self._names]

    def _row(self, place, mirrored, name):
        path, row = self._features[mirrored][name][place]
        return np.ascontiguousarray(_opened(path)[row])


@functools.lru_cache(OPEN_FILES)
def _opened(path):
    return np.load(path, "r", allow_pickle=False)
