"""Runs that a table needs: each a training of its own process, done once, several at a time."""

import json
import logging
import pathlib
import subprocess
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from keras_aoa.settings.configuration import Configuration
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import write_text
from keras_aoa.utils.progress import progress_bar

log = logging.getLogger(__name__)


class Runs:
    """Trains what is missing and keeps count.

    Args:
        chains: Lists of `Configuration`, where each run starts from the one before. A run may
            stand in several chains.
        jobs: Trainings at a time.
    """

    def __init__(self, chains, jobs=1):
        self._chains, self._jobs = chains, jobs
        self._lock = threading.Lock()
        self._locks = defaultdict(threading.Lock)  # of each run, by name
        self._found = {}
        self._stopped = threading.Event()
        names = {configuration.name for chain in chains for configuration in chain}
        self._bar = progress_bar(total=len(names), unit="run")

    def scores(self):
        """What was measured at the end of each training, by the run's name.

        Raises:
            UserError: a training failed; no other one begins.
        """
        pool = ThreadPoolExecutor(self._jobs)
        try:
            with self._bar:
                for ended in [pool.submit(self._chain, chain) for chain in self._chains]:
                    ended.result()
                return self._found
        finally:
            # Interrupted or failed: runs under way have been interrupted too, or end first.
            self._stopped.set()
            pool.shutdown(cancel_futures=True)

    def _chain(self, chain):
        before = None
        for configuration in chain:
            name = configuration.name
            with self._lock:
                lock = self._locks[name]
            with lock:
                if self._stopped.is_set():
                    break
                try:
                    if name not in self._found:
                        self._found[name] = self._scores(configuration, before)
                except BaseException:
                    self._stopped.set()
                    raise
            before = configuration

    def _scores(self, configuration, before):
        if not is_trained(configuration):
            train(configuration)
        elif before and newer(before, configuration):
            raise UserError(
                f"{configuration.folder}: is older than the run it started from, {before.folder}; "
                "remove it to train it again."
            )
        scores = scores_of(configuration)
        if scores is None:
            call("evaluate", [str(configuration.folder)], configuration)
            scores = scores_of(configuration)
        if scores is None:
            raise UserError(
                f"{configuration.folder}: has no scores of its own test split and search; remove "
                "it to train it again."
            )
        with self._lock:
            self._bar.update()
            self._bar.set_postfix_str(f"{configuration.name}: CIDEr {100 * scores['CIDEr']:.1f}")
        return scores


def is_trained(configuration):
    """Whether the run's folder holds a finished run of these settings."""
    file = configuration.folder / "config.json"
    trained = file.exists() and (configuration.folder / "scores.json").exists()
    return trained and not Configuration.read(file).differences(configuration)


def newer(first, second):
    """Whether the weights of the first run are newer than those of the second."""
    files = [configuration.folder / "best.npz" for configuration in (first, second)]
    if not all(file.exists() for file in files):
        return False
    return files[0].stat().st_mtime > files[1].stat().st_mtime


def newer_file(file, configuration):
    """Whether a file is there and no older than a run's weights."""
    weights = configuration.folder / "best.npz"
    return file.exists() and file.stat().st_mtime >= weights.stat().st_mtime


def scores_of(configuration):
    """Scores of a run's own split and search; None where other evaluations replaced them."""
    for file in sorted(configuration.folder.glob("scores*.json")):
        scores = read_measures(file)
        if scores and is_own(scores, configuration):
            return scores
    return None


def read_measures(file):
    """What an evaluation wrote; None, and a warning, where a part of it is missing."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    log.warning("%s: is not whole json; what it held is measured again.", file)
    return None


def is_own(measures, configuration):
    """Whether a file's measures are of a run's own data, test split and search, not of others."""
    search = measures.get("search")
    own = {
        **vars(configuration),
        "stride": configuration.test_stride,
        "regions": configuration.test_proposals,
    }
    same = search and all(own.get(name) == value for name, value in search.items())
    # Data without a test split have another one scored in its place.
    split = measures.get("default_split") or measures.get("split") in (
        configuration.test_split,
        "test",
    )
    return bool(same and split and measures.get("data", own["data"]) == own["data"])


def measures_of(file, configurations, evaluation, is_wanted=None):
    """What an evaluation of runs wrote, made again where it is missing, older or another.

    Args:
        file: That it writes.
        configurations: Of the runs that are evaluated together; mostly one.
        evaluation: Arguments of `evaluate`.
        is_wanted: Whether the file's content has what is asked for, beside being `is_own`.

    Raises:
        UserError: it failed, or wrote something else.
    """

    def read():
        if all(newer_file(file, each) for each in configurations):
            found = read_measures(file)
            own = found and is_own(found, configurations[0])
            if own and (is_wanted is None or is_wanted(found)):
                return found
        return None

    if found := read():
        return found
    call("evaluate", evaluation, replace(configurations[0], name=file.parent.name))
    if found := read():
        return found
    raise UserError(f"{file}: is not of the run's own test split and search; remove it.")


def train(configuration):
    """Train in a process of its own, which gives all its memory back."""
    call("train", ["--config", str(settings_file(configuration))], configuration)


def settings_file(configuration):
    """The configuration as a file that commands read."""
    output = pathlib.Path(configuration.output)
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"{configuration.name}.json"
    write_text(file, configuration.to_json())
    return file


def call(module, arguments, configuration):
    """Run a command of this package; what it says goes to OUTPUT/NAME.log.

    Raises:
        UserError: it failed, with its last line.
    """
    log = pathlib.Path(configuration.output) / f"{configuration.name}.log"
    with open(log, "ab") as file:
        ended = subprocess.run(
            [sys.executable, "-m", f"keras_aoa.{module}", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if ended.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1] if lines else "it said nothing"
        if ended.returncode < 0:
            reason = f"stopped by signal {-ended.returncode}"
        raise UserError(f"{configuration.name}: {module} failed: {reason} (see {log})")
