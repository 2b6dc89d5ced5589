"""Score a run or a file of captions: `python evaluate.py --help`."""

from keras_aoa.cli import start

if __name__ == "__main__":
    start("evaluate")
