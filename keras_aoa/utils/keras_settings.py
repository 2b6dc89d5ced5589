"""Sets Keras's global settings, which the user's `keras.json` may change."""

import contextlib


def use_keras_defaults():
    """Replace the settings in `keras.json` by Keras's defaults.

    Commands call `use_keras_defaults` first. With other settings, a command would fail or give
    other results.
    """
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)


@contextlib.contextmanager
def channels_last():
    """Context in which new Keras layers use the data format `channels_last`."""
    import keras

    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before)
