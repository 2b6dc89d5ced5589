"""Serve an exported captioner: `python export/server.py --help`."""

import pathlib
import sys

if __name__ == "__main__":
    # The environment of `make serve` does not contain this package.
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
    from keras_aoa.cli import start

    start("serve")
