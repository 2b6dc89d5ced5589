"""Measures startup time and memory of imports, help texts, and the first training step."""

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
# One process imports both, because two processes differ by more than the import takes.
TIME_LAYERS = """
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
    """Time each kind of process from start to end. The kinds alternate."""

    turns: int = 3
    """Number of runs of each process. The results are medians."""
    json: bool = False
    """Print json."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.start", arguments)
    measurements = {name: [] for name in PROCESSES}
    for _ in range(settings.turns):
        for name, process in PROCESSES.items():
            measurements[name].append(seconds_and_gigabytes([sys.executable, *process]))
    medians = {name: np.median(values, axis=0).tolist() for name, values in measurements.items()}
    added = float(np.median([layers_after_keras() for _ in range(settings.turns)]))
    if settings.json:
        print(json.dumps({**medians, "keras_aoa.layers beside keras": added}))
        return
    for name, (seconds, gigabytes) in medians.items():
        print(f"{name:24} {seconds:5.2f} s, {gigabytes:.2f} GB")
    print(f"keras_aoa.layers adds {added:.3f} s to keras")


def layers_after_keras():
    """Measure the seconds to import the layers after Keras has been imported."""
    command = [sys.executable, "-c", TIME_LAYERS]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(completed.stdout)


def seconds_and_gigabytes(command):
    """Run a process and return its duration and peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{command}: ended with status {status}")
    return seconds, usage.ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    run(main)
