"""Score a run or a file of captions: `python evaluate.py --help`."""

from keras_aoa.command_line import run
from keras_aoa.evaluate import main

if __name__ == "__main__":
    run(main)
