"""Measures startup time and memory of imports, help texts, captions, and the first training step.

A caption is measured from the start of the process to its end, with `keras-aoa caption`, and with
the exported model in the C program `export/caption.c`. A table shows where the seconds of
`keras-aoa caption` go. CPU seconds depend less on other load than seconds.
"""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np

from benchmarks.measure import in_new_process
from benchmarks.photo import photo_file
from benchmarks.workers import ROOT
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
    captioner: str = "flickr8k"
    """Folder of a run, or a captioner's name, for the caption of a photograph."""
    image: str = ""
    """Photograph to caption; by default a drawn scene of 640 x 480 pixels as JPEG."""
    only_captions: bool = False
    """Measure only the processes that caption."""
    json: bool = False
    """Print json."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.start", arguments)
    with tempfile.TemporaryDirectory() as folder:
        photo = pathlib.Path(folder) / "photo.jpg"
        photo.write_bytes(photo_file(settings.image))
        commands = {} if settings.only_captions else python_commands()
        parts = [sys.executable, "-m", "benchmarks.start_parts", settings.captioner, str(photo)]
        caption = [sys.executable, "-m", "keras_aoa", "caption", settings.captioner, str(photo)]
        commands["keras-aoa caption"] = caption
        try:
            commands["export in C"] = c_program(settings.captioner, photo)
        except RuntimeError as error:
            print(f"export in C: left out: {error}", file=sys.stderr)
        measurements = {name: [] for name in commands}
        tables = []
        for _ in range(settings.turns):
            for name, command in commands.items():
                measurements[name].append(seconds_and_gigabytes(command))
            tables.append(json.loads(output_of(parts)))
    medians = {name: np.median(values, axis=0).tolist() for name, values in measurements.items()}
    table = {
        name: np.median([table[name] for table in tables], axis=0).tolist() for name in tables[0]
    }
    added = None
    if not settings.only_captions:
        added = float(np.median([layers_after_keras() for _ in range(settings.turns)]))
    if settings.json:
        print(json.dumps({**medians, "keras_aoa.layers beside keras": added, "parts": table}))
        return
    for name, (seconds, gigabytes, cpu) in medians.items():
        print(f"{name:24} {seconds:5.2f} s, {cpu:5.2f} CPU s, {gigabytes:.2f} GB")
    if added is not None:
        print(f"keras_aoa.layers adds {added:.3f} s to keras")
    print("\nparts of keras-aoa caption, CPU seconds and seconds:")
    for name, (cpu, seconds) in table.items():
        print(f"  {name:34} {cpu:5.2f} {seconds:5.2f}")


def python_commands():
    """Return the commands of `PROCESSES` by name."""
    return {name: [sys.executable, *process] for name, process in PROCESSES.items()}


def c_program(captioner, photo):
    """Export a captioner, compile `export/caption.c`, and return the command for a photograph.

    The files are written beside the photograph.

    Raises:
        RuntimeError: there is no C compiler, or a step fails.
    """
    if shutil.which("gcc") is None:
        raise RuntimeError("found no gcc")
    folder = photo.parent
    output = str(folder / "export")
    exported = in_new_process("benchmarks.own_worker", "export", run=captioner, output=output)
    if "failed" in exported:
        raise RuntimeError(exported["failed"])
    home = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
    libraries = [str(home / f"libtensorflow_{name}.so.2") for name in ("cc", "framework")]
    program = folder / "caption"
    compile_command = ["gcc", f"-I{home}/include", str(ROOT / "export/caption.c"), *libraries]
    compile_command += [f"-Wl,-rpath,{home}", "-o", str(program)]
    compiled = subprocess.run(compile_command, capture_output=True, text=True, check=False)
    if compiled.returncode:
        raise RuntimeError((compiled.stderr.strip().splitlines() or ["gcc failed"])[-1])
    (version,) = exported["folders"].values()
    return [str(program), version, *exported["tensors"], str(photo)]


def layers_after_keras():
    """Measure the seconds to import the layers after Keras has been imported."""
    return float(output_of([sys.executable, "-c", TIME_LAYERS]))


def output_of(command):
    """Run a process and return its standard output."""
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    ).stdout


def seconds_and_gigabytes(command):
    """Run a process and return its duration, peak memory and CPU seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{command}: ended with status {status}")
    return seconds, usage.ru_maxrss * 1024 / 1e9, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    run(main)
