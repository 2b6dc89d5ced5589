"""Sets Keras's global settings, which the user's `keras.json` may change."""

import contextlib
import sys

# Keras imports these packages for its wrappers and plots, if they are installed. No command uses
# them from Keras, and the two imports take about a quarter of the time of `import keras`.
UNUSED_BY_KERAS = ("matplotlib", "sklearn")


def use_keras_defaults():
    """Import Keras, and replace the settings in `keras.json` by Keras's defaults.

    Commands call `use_keras_defaults` first. With other settings, a command would fail or give
    other results.
    """
    with _hidden(UNUSED_BY_KERAS):
        import keras

    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)


@contextlib.contextmanager
def _hidden(packages):
    """Context in which packages that are not yet imported count as not installed."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for package in hidden:
            sys.modules.pop(package, None)


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
