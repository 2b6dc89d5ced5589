"""Seconds and memory from nothing: imports, help, the first training step."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

from keras_aoa.utils.command_line import parse, run

FIRST_STEP = """
from benchmarks.decoder import Size, make_step, random_batch
make_step(Size().words)(random_batch(Size()))
"""
# In one process: the noise of two is more than the difference.
LAYERS_ALONE = """
import time, keras
started = time.perf_counter()
import keras_aoa.layers
print(time.perf_counter() - started)
"""
PROCESSES = {
    "import keras": ["-c", "import keras"],
    "import keras_aoa.layers": ["-c", "import keras_aoa.layers"],
    "train.py --help": ["-m", "keras_aoa.train", "--help"],
    "evaluate.py --help": ["-m", "keras_aoa.evaluate", "--help"],
    "first training step": ["-c", FIRST_STEP],
}


@dataclass(frozen=True)
class Arguments:
    """Time whole processes, in turn."""

    turns: int = 3
    """Times each; the figures are medians."""
    json: bool = False
    """Print json."""


def main(arguments):
    """Measure and print."""
    settings = parse(Arguments, "benchmarks.start", arguments)
    found = {name: [] for name in PROCESSES}
    for _ in range(settings.turns):
        for name, process in PROCESSES.items():
            found[name].append(seconds_and_gigabytes([sys.executable, *process]))
    medians = {name: np.median(values, axis=0).tolist() for name, values in found.items()}
    beside = float(np.median([layers_alone() for _ in range(settings.turns)]))
    if settings.json:
        print(json.dumps({**medians, "keras_aoa.layers beside keras": beside}))
        return
    for name, (seconds, gigabytes) in medians.items():
        print(f"{name:24} {seconds:5.2f} s, {gigabytes:.2f} GB")
    print(f"keras_aoa.layers adds {beside:.3f} s to keras")


def layers_alone():
    """Seconds of importing the layers where Keras is there already."""
    command = [sys.executable, "-c", LAYERS_ALONE]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(ended.stdout)


def seconds_and_gigabytes(command):
    """Of a process from start to end: time, and its peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{command}: ended with status {status}")
    return seconds, usage.ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    run(main)
