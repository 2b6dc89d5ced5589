"""Export a run as a SavedModel: `python export/saved_model.py --help`."""

from keras_aoa.cli import start

if __name__ == "__main__":
    start("export")
