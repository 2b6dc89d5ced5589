"""Train a captioner: `python train.py --help`."""

from keras_aoa.cli import start

if __name__ == "__main__":
    start("train")
