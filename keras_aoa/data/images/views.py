"""Converts upright pixels to network inputs, and decodes batches of image files in the graph."""

import os
from dataclasses import dataclass

import tensorflow as tf

from keras_aoa.data.images.decoding import decode
from keras_aoa.data.images.preprocessing import ImageSettings, prepare, window
from keras_aoa.data.proposals.cache import ProposalSettings


@dataclass(frozen=True)
class ProposalView:
    """Settings of object proposals.

    `settings` describes the input from which features of proposals are pooled. `search` describes
    how proposals are found, and `folder` contains their cache.
    """

    settings: ImageSettings
    search: ProposalSettings
    folder: str | os.PathLike


@dataclass(frozen=True)
class NetworkViews:
    """Prepares network inputs; training, evaluation, captioning and export all use this class.

    Args:
        image_settings: `ImageSettings` of the network's input.
        proposal_settings: `ImageSettings` of the input from which features of proposals are pooled,
            or None if the regions are not proposals.
    """

    image_settings: ImageSettings
    proposal_settings: ImageSettings | None = None

    @property
    def pixel_settings(self):
        """`ImageSettings` by output name: `images`, and `region_images` for proposals."""
        settings = {"images": self.image_settings}
        if self.proposal_settings is not None:
            settings["region_images"] = self.proposal_settings
        return settings

    @property
    def shapes(self):
        """Shapes of the outputs by name."""
        sides = {name: settings.side for name, settings in self.pixel_settings.items()}
        return {**{name: (side, side, 3) for name, side in sides.items()}, "window": (4,)}

    def __call__(self, pixels):
        """Return a dictionary of float32 tensors from upright uint8 `pixels (height, width, 3)`.

        The dictionary contains the inputs named in `pixel_settings`. The dictionary also contains
        `window`, the part of the image from which the regions are computed.
        """
        views = {name: prepare(pixels, each) for name, each in self.pixel_settings.items()}
        height, width = tf.unstack(tf.shape(pixels)[:2])
        return {**views, "window": window(height, width, list(self.pixel_settings.values())[-1])}


def read_batch(image_bytes, view, shapes, max_pixels):
    """Decode image files and apply `view` to each; unreadable files do not affect others.

    Args:
        image_bytes: Contents of the files, as strings `(n,)`.
        view: Function such as `NetworkViews`, from upright uint8 pixels `(height, width, 3)` to a
            dictionary of float32 tensors.
        shapes: Dictionary of the shapes of the tensors that `view` returns. All dimensions must be
            known.
        max_pixels: Maximum number of pixels; larger images count as unreadable.

    Returns:
        Two values: a dictionary of tensors `(n, …)`, and an array of booleans `(n,)`. The booleans
        are true for readable files. The tensors are 0 for unreadable files.
    """
    count = tf.size(image_bytes, tf.int64)
    files = tf.data.Dataset.from_tensor_slices(image_bytes).enumerate()
    read = files.map(
        lambda index, file: (index, view(decode(file, max_pixels))),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).ignore_errors()
    # One extra row, because `get_single_element` fails on an empty dataset.
    blank = (count, {name: tf.zeros(shape) for name, shape in shapes.items()})
    together = read.concatenate(tf.data.Dataset.from_tensors(blank)).batch(count + 1)
    indices, views = together.get_single_element()

    def at_index(values):
        shape = tf.concat([[count + 1], tf.shape(values, tf.int64)[1:]], 0)
        return tf.scatter_nd(indices[:, None], values, shape)[:count]

    valid = at_index(tf.ones_like(indices)) > 0
    return {name: at_index(values) for name, values in views.items()}, valid
