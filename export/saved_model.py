"""Export a run for TensorFlow Serving: `python export/saved_model.py --help`."""

from keras_aoa.export import main
from keras_aoa.utils.command_line import run

if __name__ == "__main__":
    run(main)
