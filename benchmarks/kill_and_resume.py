"""Kills training runs at random moments and resumes them.

`python -m benchmarks.kill_and_resume --runs 50` kills each run once or twice with SIGKILL. After
each kill the same command resumes the run. Every second run is killed while it writes a checkpoint.
The weights are compared with the weights of an uninterrupted run.
"""

import gc
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

import numpy as np
import tyro

from benchmarks.measure import train_with_callback
from keras_aoa.models.weights import load_arrays
from keras_aoa.utils.progress import progress_bar

EVERY = 3  # steps between checkpoints
SETTINGS = {
    "minimum_count": 1,
    "captions_per_image": 2,
    "max_words": 2,
    "image_size": 32,
    "fit": "stretch",
    "backbone": "scenes",
    "stride": 1,
    "units": 12,
    "embedding_dim": 8,
    "rnn_epochs": 2,
    "joint_epochs": 1,
    "reward_epochs": 1,
    "reward_samples": 2,
    "batch_size": 2,
    "learning_rate": 0.01,
    "backbone_learning_rate": 0.01,
    "dropout": 0.2,
    "average": 0.9,
    "beam": 2,
    "flip": True,
    "crop": 0.7,
    "warmup_steps": 5,
    "decay": "cosine",
    "scheduled_sampling": 0.3,
    "validate_every": 2,
    "checkpoint_steps": EVERY,
}


@dataclass(frozen=True)
class Settings:
    """Number of runs, random seed and folder."""

    runs: int = 50
    """Number of runs to kill."""
    seed: int = 0
    """Random seed of the times at which runs are killed."""
    folder: str = ""
    """Folder of the runs; by default a temporary folder."""


@dataclass
class Outcome:
    """Result of a run.

    `kills` is the number of kills. `while_writing` is the number of kills that interrupted the
    writing of a checkpoint. `steps_lost` is the largest number of steps that the run repeated after
    a kill. `identical` is true if the run ended with the weights of the uninterrupted run.
    """

    kills: int = 0
    while_writing: int = 0
    steps_lost: int = 0
    identical: bool = False


@dataclass(frozen=True)
class ReferenceTimes:
    """Seconds before the first step, seconds after the first step, and number of steps."""

    start: float
    training: float
    steps: int


def main(settings):
    """Kill and resume all runs, and print a summary. Exit with status 1 if any result differs."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(settings.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        draw(folder / "squares")
        outcomes = kill_and_resume(folder, settings.runs, settings.seed)
    identical = sum(outcome.identical for outcome in outcomes)
    print(
        f"{len(outcomes)} runs, {sum(outcome.kills for outcome in outcomes)} kills, "
        f"{sum(outcome.while_writing for outcome in outcomes)} while writing a checkpoint; "
        f"{identical} ended with the weights of the uninterrupted run; at most "
        f"{max(outcome.steps_lost for outcome in outcomes)} steps were repeated after a kill "
        f"(a checkpoint every {EVERY} steps)."
    )
    sys.exit(0 if identical == len(outcomes) else 1)


def kill_and_resume(folder, runs, seed, **changes):
    """Train an uninterrupted run, kill and resume other runs, and return their outcomes.

    `changes` are settings that replace settings in `SETTINGS`.
    """
    reference = configure(folder, "reference", **changes)
    started, process = time.monotonic(), start(reference)
    wait_for_step(process, reference, 1)
    first = time.monotonic()
    if end(process):
        raise RuntimeError((folder / "reference.log").read_text())
    times = ReferenceTimes(first - started, time.monotonic() - first, last_step(reference))
    random, outcomes = np.random.default_rng(seed), []
    with progress_bar(range(runs), unit="run") as bar:
        for number in bar:
            name = f"run-{number:02d}"
            config = configure(folder, name, **changes)
            outcome = one_run(config, reference, number % 2 == 0, times, random)
            outcomes.append(outcome)
            bar.write(f"{name}: {json.dumps(asdict(outcome))}")
    return outcomes


def one_run(config, reference, while_writing, times, random):
    """Kill a run once or twice, then let it finish."""
    outcome = Outcome()
    for _ in range(random.integers(1, 3)):
        first_step = last_step(config)
        process = start(config)
        if while_writing:
            # Kill at one of the next five checkpoints.
            wait_for_writing(process, config, random.integers(1, 6))
        else:
            step = random.integers(min(first_step, times.steps - 1), times.steps)
            wait_for_step(process, config, step)
            duration = times.start if step <= first_step else times.training / times.steps
            wait(process, random.uniform(0, 1) * duration)
        process.kill()
        if end(process) != -signal.SIGKILL:
            break  # the run had already ended
        outcome.kills += 1
        outcome.while_writing += bool(list(run_folder(config).glob("*.part*")))
        done, kept = last_step(config), checkpoint_step(config)
        outcome.steps_lost = max(outcome.steps_lost, done - kept)
    if end(start(config)):
        raise RuntimeError(config.with_suffix(".log").read_text())
    leftovers = list(run_folder(config).glob("*.part*"))
    outcome.identical = not leftovers and all(
        same(run_folder(config) / name, run_folder(reference) / name)
        for name in ("last.npz", "best.npz")
    )
    return outcome


def wait_for_step(process, config, number):
    """Wait until a run has trained for `number` steps or has ended."""
    while process.is_alive() and last_step(config) < number:
        time.sleep(0.01)


def wait(process, seconds):
    """Wait for a number of seconds, or until the process ends."""
    end = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < end:
        time.sleep(0.01)


def wait_for_writing(process, config, number):
    """Wait until a process has started to write `number` checkpoints, or has ended."""
    was_writing = False
    while process.is_alive() and number:
        writing = any(run_folder(config).glob("last.*.part.npz"))
        number -= writing and not was_writing
        was_writing = writing
        time.sleep(0.001)


def configure(folder, name, **changes):
    """Write the settings of a run, and return the path of the file."""
    path = folder / f"{name}.json"
    settings = {
        "format_version": 1,
        "name": name,
        "output": str(folder),
        "data": str(folder / "squares"),
    }
    path.write_text(json.dumps({**SETTINGS, **changes, **settings}))
    return path


def run_folder(config):
    """Return the folder of a run."""
    return config.with_suffix("")


def start(config):
    """Start training in a new process.

    The import of TensorFlow takes seconds. The processes are therefore forked from a process that
    has already imported TensorFlow.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_aoa.training.loop"])
    process = context.Process(target=child, args=(config,), daemon=True)
    process.start()
    return process


def end(process):
    """Wait until a process ends, and return its exit status."""
    process.join()
    return process.exitcode


def last_step(config):
    """Return the last step that any process of a run has trained."""
    file = config.with_suffix(".steps")
    return max(map(int, file.read_text().split()), default=0) if file.exists() else 0


def checkpoint_step(config):
    """Return the step of a run's last checkpoint."""
    last = run_folder(config) / "last.npz"
    return load_arrays(last)[1]["steps"] if last.exists() else 0


def same(first, second):
    """Return whether the arrays in two files are bitwise identical."""
    one, other = load_arrays(first)[0], load_arrays(second)[0]
    return one.keys() == other.keys() and all(
        array.tobytes() == other[name].tobytes() for name, array in one.items()
    )


def draw(folder):
    """Write a data set of squares in three colors."""
    import cv2

    folder.mkdir(exist_ok=True)
    lines = ["image,caption,split"]
    for number in range(15):
        color = ("red", "green", "blue")[number % 3]
        side = ("left", "right")[number % 2]
        picture = np.full((40, 60, 3), 235, np.uint8)
        corner = 6 if side == "left" else 36
        picture[8:28, corner : corner + 18] = np.roll((220, 30, 30), number)[::-1]
        cv2.imwrite(str(folder / f"{number:02d}.png"), picture)
        split = "train" if number < 9 else "val" if number < 12 else "test"
        lines += [
            f"{number:02d}.png,a {color} square,{split}",
            f"{number:02d}.png,it is {color},{split}",
        ]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")


def child(config):
    """Train with the settings in a file, and record each step. Skip the final evaluation."""
    with open(config.with_suffix(".log"), "ab") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    # Tracing creates many objects; searching among them for cycles takes a tenth of the time.
    gc.set_threshold(50_000, 20, 20)
    from keras_aoa.settings.configuration import Configuration

    def record_step(trainer):
        with open(config.with_suffix(".steps"), "a") as file:
            file.write(f"{trainer.steps}\n")

    train_with_callback(Configuration.read(config), record_step)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
