"""Score a run or a file of captions: `python evaluate.py --help`."""

from keras_aoa.evaluate import main
from keras_aoa.utils.command_line import run

if __name__ == "__main__":
    run(main)
