"""Runs that a table needs: each a training of its own process, done once, several at a time."""

import json
import pathlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from keras_aoa.errors import UserError
from keras_aoa.files import write_text
from keras_aoa.progress import progress_bar
from keras_aoa.training.configuration import Configuration


class Runs:
    """Trains what is missing and keeps count.

    Args:
        total: Number of runs, for the progress bar.
        jobs: Trainings at a time.
    """

    def __init__(self, total, jobs=1):
        self._jobs = jobs
        self._lock = threading.Lock()
        self._bar = progress_bar(total=total, unit="run")

    def scores(self, chains):
        """Scores of runs, where each run of a chain starts from the one before.

        Args:
            chains: Lists of `Configuration`.

        Returns:
            What `scores.json` holds of every run, by name.

        Raises:
            UserError: a training failed; the others that were under way are finished.
        """
        with ThreadPoolExecutor(self._jobs) as pool, self._bar:
            futures = [pool.submit(self._chain, chain) for chain in chains]
            found = {}
            for future in futures:
                try:
                    found |= future.result()
                except UserError:
                    for other in futures:
                        other.cancel()
                    raise
        return found

    def _chain(self, chain):
        return {configuration.name: self._scores(configuration) for configuration in chain}

    def _scores(self, configuration):
        file = configuration.folder / "scores.json"
        if not (is_same(configuration) and file.exists()):
            train(configuration)
        scores = json.loads(file.read_text(encoding="utf-8"))
        with self._lock:
            self._bar.update()
            self._bar.set_postfix_str(f"{configuration.name}: CIDEr {100 * scores['CIDEr']:.1f}")
        return scores


def is_same(configuration):
    """Whether the run's folder holds a run of these settings."""
    file = configuration.folder / "config.json"
    return file.exists() and not Configuration.read(file).differences(configuration)


def train(configuration):
    """Train in a process of its own, which gives all its memory back; its words go to a log."""
    output = pathlib.Path(configuration.output)
    output.mkdir(parents=True, exist_ok=True)
    settings, log = (output / f"{configuration.name}{suffix}" for suffix in (".json", ".log"))
    write_text(settings, configuration.to_json())
    command = [sys.executable, "-m", "keras_aoa.train", "--config", str(settings)]
    started = time.time()
    with open(log, "ab") as file:
        ended = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise UserError(f"{configuration.name}: the training failed: {lines[-1]} (see {log})")
    write_text(
        configuration.folder / "minutes.json", json.dumps({"minutes": (time.time() - started) / 60})
    )
