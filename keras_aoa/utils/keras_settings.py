"""Keras's global settings, which the user's `keras.json` changes."""

import contextlib


def use_keras_defaults():
    """Replace the settings in `keras.json` by Keras's defaults; commands call this first.

    The results of a command would depend on them, or it would fail.
    """
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)


@contextlib.contextmanager
def channels_last():
    """Context in which new layers of Keras expect the channels of an image last."""
    import keras

    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before)
