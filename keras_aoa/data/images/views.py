"""Batches of image files read in the graph: one that cannot be read does not spoil the others."""

import tensorflow as tf

from keras_aoa.data.images.preprocessing import decode, prepare, window


def read_batch(image_bytes, view, shapes, max_pixels):
    """What `view` makes of each image of a batch; zeros where it cannot be read.

    Args:
        image_bytes: The files' contents, `(n,)`, strings.
        view: Function from upright pixels `(height, width, 3)`, uint8, to a dictionary of float32.
        shapes: Shapes of these by name, all sizes known.
        max_pixels: Of the largest image that is decoded.

    Returns:
        Dictionary of `(n, …)`, and which images could be read, booleans, `(n,)`.
    """
    count = tf.size(image_bytes, tf.int64)
    files = tf.data.Dataset.from_tensor_slices(image_bytes).enumerate()
    read = files.map(
        lambda place, one: (place, view(decode(one, max_pixels))),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).ignore_errors()
    # One more, since a data set of nothing has no single element.
    blank = (count, {name: tf.zeros(shape) for name, shape in shapes.items()})
    together = read.concatenate(tf.data.Dataset.from_tensors(blank)).batch(count + 1)
    places, found = together.get_single_element()

    def in_place(values):
        shape = tf.concat([[count + 1], tf.shape(values, tf.int64)[1:]], 0)
        return tf.scatter_nd(places[:, None], values, shape)[:count]

    valid = in_place(tf.ones_like(places)) > 0
    return {name: in_place(values) for name, values in found.items()}, valid


class NetworkViews:
    """What the networks are given of an upright image: a `view` for `read_batch`.

    Args:
        image_settings: `ImageSettings` of the network's input.
        proposal_settings: Those of the images that proposals are pooled from; None for other
            kinds of regions.

    Attributes:
        shapes: Of what it makes, by name: `images`, with proposals `region_images`, and `window`,
            what the network that makes the regions sees of the image.
    """

    def __init__(self, image_settings, proposal_settings=None):
        self._settings = {"images": image_settings}
        if proposal_settings is not None:
            self._settings["region_images"] = proposal_settings
        self._seen = proposal_settings or image_settings
        sides = {name: settings.side for name, settings in self._settings.items()}
        self.shapes = {**{name: (side, side, 3) for name, side in sides.items()}, "window": (4,)}

    def __call__(self, pixels):
        """Dictionary of float32 of `pixels (height, width, 3)`, uint8."""
        views = {name: prepare(pixels, settings) for name, settings in self._settings.items()}
        height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
        return {**views, "window": window(height, width, self._seen)}
