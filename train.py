"""Train a captioner: `python train.py --help`."""

from keras_aoa.command_line import run
from keras_aoa.train import main

if __name__ == "__main__":
    run(main)
