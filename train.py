"""Train a captioner: `python train.py --help`."""

from keras_aoa.train import command

if __name__ == "__main__":
    command()
