"""Processes that repeat a measurement on request, so that several implementations can alternate.

This file imports only the standard library, because PyTorch's environment has few packages.
"""

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


class WorkerError(Exception):
    """A worker ended before it answered. The message has one line."""


class Worker:
    """Starts a process that calls `serve`, and asks it for measurements.

    Args:
        python: Python interpreter.
        module: Module to run.
        options: JSON-serializable dictionary, the module's only argument.
    """

    def __init__(self, python, module, options):
        self._log = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(python), "-m", module, json.dumps(options)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, **request):
        """Send a request, and return the worker's answer.

        Raises:
            WorkerError: the worker ended.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(self._reason())
        return json.loads(line)

    def _reason(self):
        status = self._process.wait()
        if status < 0:
            return f"killed by signal {-status}"
        self._log.seek(0)
        return (self._log.read().strip().splitlines() or ["no error message"])[-1]

    def close(self):
        """End the worker."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


def serve(make):
    """Answer the requests on standard input until it ends.

    Each answer contains the seconds of the calls, the peak memory of this process, and the facts.

    Args:
        make: Function that returns a dictionary from the name of a measurement to a function to
            time, and a JSON-serializable dictionary of facts.
    """
    # Libraries print to standard output, which must contain only the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    measurements, facts = make()
    for line in sys.stdin:
        request = json.loads(line)
        seconds = []
        for _ in range(request["calls"]):
            started = time.perf_counter()
            measurements[request["name"]]()
            seconds.append(time.perf_counter() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        answer = {"seconds": seconds, "peak_gigabytes": peak, **facts}
        print(json.dumps(answer), file=answers, flush=True)


def alternate(asked, turns, calls):
    """Time several measurements in turn, so that other load affects all of them.

    Args:
        asked: Dictionary from a key to a `Worker` and the name of its measurement.
        turns: Number of turns.
        calls: Number of calls in each turn.

    Returns:
        For each key a dictionary with the median, the smallest and the largest time of a call in
        seconds, and the facts of the worker. If a worker ended, its dictionary has only the key
        `failed`.
    """
    times, results = {key: [] for key in asked}, {}
    for turn in range(turns + 1):
        for key, (worker, name) in asked.items():
            if "failed" in results.get(key, {}):
                continue
            try:
                answer = worker.ask(name=name, calls=calls)
            except WorkerError as error:
                results[key] = {"failed": str(error)}
                continue
            results[key] = answer
            if turn:  # the first turn warms up
                times[key] += answer["seconds"]
    for key, answer in results.items():
        if "failed" not in answer:
            answer["seconds"] = statistics.median(times[key])
            answer["fastest"], answer["slowest"] = min(times[key]), max(times[key])
    return results
