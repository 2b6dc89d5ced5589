"""Trains and evaluates the runs of a table, each run once and in a separate process."""

import json
import logging
import pathlib
import subprocess
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from keras_aoa.evaluation.results import with_current_keys
from keras_aoa.runs.data_record import differences, same_path
from keras_aoa.settings.configuration import Configuration
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import write_text
from keras_aoa.utils.progress import progress_bar

log = logging.getLogger(__name__)


class Runs:
    """Trains missing runs and shows the progress.

    Args:
        chains: Lists of `Configuration`. A run may start from an earlier run of its list. A run may
            be in several lists.
        jobs: Number of trainings that run at the same time.
    """

    def __init__(self, chains, jobs=1):
        self._chains, self._jobs = chains, jobs
        self._lock = threading.Lock()
        self._locks = defaultdict(threading.Lock)  # a lock for each run, by name
        self._results = {}
        self._stopped = threading.Event()
        names = {configuration.name for chain in chains for configuration in chain}
        self._bar = progress_bar(total=len(names), unit="run")

    def scores(self):
        """Train and evaluate the missing runs, and return the scores of all runs by name.

        Raises:
            UserError: a training failed. After the failure, no further training starts.
        """
        pool = ThreadPoolExecutor(self._jobs)
        try:
            with self._bar:
                for future in [pool.submit(self._chain, chain) for chain in self._chains]:
                    future.result()
                return self._results
        finally:
            # After a failure or an interrupt, wait only for the runs that have started.
            self._stopped.set()
            pool.shutdown(cancel_futures=True)

    def _chain(self, chain):
        earlier = {}
        for configuration in chain:
            name = configuration.name
            with self._lock:
                lock = self._locks[name]
            with lock:
                if self._stopped.is_set():
                    break
                try:
                    if name not in self._results:
                        before = earlier.get(configuration.start_from)
                        self._results[name] = self._scores(configuration, before)
                except BaseException:
                    self._stopped.set()
                    raise
            earlier[str(configuration.folder)] = configuration

    def _scores(self, configuration, before):
        if not is_trained(configuration):
            train(configuration)
        elif before and newer(before, configuration):
            raise UserError(
                f"{configuration.folder}: is older than the run it started from, {before.folder}; "
                "remove the folder to train the run again."
            )
        scores = scores_of(configuration)
        if scores is None:
            call("evaluate", [str(configuration.folder)], configuration)
            scores = scores_of(configuration)
        if scores is None:
            raise UserError(
                f"{configuration.folder}: has no scores for its configured test split and search; "
                "remove the folder to train the run again."
            )
        with self._lock:
            self._bar.update()
            self._bar.set_postfix_str(f"{configuration.name}: CIDEr {100 * scores['CIDEr']:.1f}")
        return scores


def is_trained(configuration):
    """Return whether the configuration's folder contains a finished run with its settings."""
    file = configuration.folder / "config.json"
    trained = file.exists() and (configuration.folder / "scores.json").exists()
    return trained and not differences(Configuration.read(file), configuration)


def newer(first, second):
    """Return whether the first run's weights are newer than the second run's weights."""
    files = [configuration.folder / "best.npz" for configuration in (first, second)]
    if not all(file.exists() for file in files):
        return False
    return files[0].stat().st_mtime > files[1].stat().st_mtime


def newer_file(file, configuration):
    """Return whether a file exists and is not older than a run's weights."""
    weights = configuration.folder / "best.npz"
    return file.exists() and file.stat().st_mtime >= weights.stat().st_mtime


def scores_of(configuration):
    """Return the scores for a run's configured split and search, or None if they are missing."""
    for file in sorted(configuration.folder.glob("scores*.json")):
        scores = read_measures(file)
        if scores and is_own(scores, configuration):
            return scores
    return None


def read_measures(file):
    """Read measures from the file of an evaluation.

    If the file is incomplete, warn and return None.
    """
    try:
        measures = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        measures = None
    if isinstance(measures, dict):
        return with_current_keys(measures)
    log.warning("%s: is not complete JSON; the evaluation is repeated.", file)
    return None


def is_own(measures, configuration):
    """Return whether measures were made with a run's configured data, test split and search."""
    search = measures.get("search")
    own = {
        **vars(configuration),
        "stride": configuration.test_stride,
        "proposals": configuration.test_proposals,
    }
    same = search and all(own.get(name) == value for name, value in search.items())
    # If the data have no test split, another split was scored instead.
    split = measures.get("default_split") or measures.get("split") in (
        configuration.test_split,
        "test",
    )
    return bool(same and split and same_path(measures.get("data", own["data"]), own["data"]))


def measures_of(file, configurations, evaluation, is_wanted=None):
    """Return the measures in a file.

    If the measures are missing or outdated, the evaluation is repeated first.

    Args:
        file: File that the evaluation writes.
        configurations: Configuration of the evaluated run, or of each run in an ensemble.
        evaluation: Arguments of the `evaluate` command.
        is_wanted: Function that returns whether measures are accepted. The measures must also
            satisfy `is_own`.

    Returns:
        Dictionary of the measures.

    Raises:
        UserError: the evaluation failed, or its measures do not satisfy `is_own` and `is_wanted`.
    """

    def read():
        if all(newer_file(file, each) for each in configurations):
            measures = read_measures(file)
            own = measures and is_own(measures, configurations[0])
            if own and (is_wanted is None or is_wanted(measures)):
                return measures
        return None

    if measures := read():
        return measures
    call("evaluate", evaluation, replace(configurations[0], name=file.parent.name))
    if measures := read():
        return measures
    raise UserError(
        f"{file}: expected measures for the run's configured test split and search, received "
        "measures for another split or search; remove the file."
    )


def train(configuration):
    """Train in a separate process, which frees all its memory at the end."""
    call("train", ["--config", str(settings_file(configuration))], configuration)


def settings_file(configuration):
    """Write the configuration to a file that commands can read, and return the file's path."""
    output = pathlib.Path(configuration.output)
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"{configuration.name}.json"
    write_text(file, configuration.to_json())
    return file


def call(module, arguments, configuration):
    """Run a command of this package, and append the command's output to OUTPUT/NAME.log.

    Raises:
        UserError: the command failed. The message quotes the last line of the output.
    """
    log = pathlib.Path(configuration.output) / f"{configuration.name}.log"
    with open(log, "ab") as file:
        result = subprocess.run(
            [sys.executable, "-m", f"keras_aoa.{module}", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if result.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1] if lines else "no output"
        if result.returncode < 0:
            reason = f"stopped by signal {-result.returncode}"
        raise UserError(f"{configuration.name}: {module} failed: {reason} (see {log})")
