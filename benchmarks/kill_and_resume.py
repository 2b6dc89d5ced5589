"""Kill trainings at random moments, go on, and compare with one that was never killed.

`python -m benchmarks.kill_and_resume --runs 50`: each run is killed (SIGKILL) once or twice, every
other one while a checkpoint is being written, and started again by the same command until it ends.
"""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

import numpy as np
import tyro

from benchmarks.measure import train_watched
from keras_aoa.models.weights import load_arrays
from keras_aoa.utils.progress import progress_bar

EVERY = 3  # steps between checkpoints
SETTINGS = {
    "minimum_count": 1,
    "captions_per_image": 2,
    "max_words": 5,
    "image_size": 32,
    "fit": "stretch",
    "backbone": "scenes",
    "stride": 1,
    "units": 12,
    "embedding_dim": 8,
    "rnn_epochs": 2,
    "joint_epochs": 2,
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
    """How many runs, of which seed, where."""

    runs: int = 50
    """Runs that are killed."""
    seed: int = 0
    """Of the moments."""
    folder: str = ""
    """Where; a temporary folder by default."""


@dataclass
class Outcome:
    """What became of a run: how often it was killed, how often while writing, steps done twice."""

    kills: int = 0
    while_writing: int = 0
    steps_lost: int = 0
    identical: bool = False


@dataclass(frozen=True)
class Usual:
    """Seconds of a run until its first step and from there to its end, and its steps."""

    start: float
    training: float
    steps: int


def main(settings):
    """Run all, print what came of it; exit status 1 if one differs."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(settings.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        draw(folder / "squares")
        outcomes = kill_and_resume(folder, settings.runs, settings.seed)
    identical = sum(outcome.identical for outcome in outcomes)
    print(
        f"{len(outcomes)} runs, {sum(outcome.kills for outcome in outcomes)} kills, "
        f"{sum(outcome.while_writing for outcome in outcomes)} while a checkpoint was written; "
        f"{identical} ended with the weights of the run that was never killed; at most "
        f"{max(outcome.steps_lost for outcome in outcomes)} steps were done twice after a kill "
        f"(a checkpoint every {EVERY})."
    )
    sys.exit(0 if identical == len(outcomes) else 1)


def kill_and_resume(folder, runs, seed):
    """Train one to the end, then kill and resume others: a list of `Outcome`."""
    reference = configure(folder, "reference")
    started, process = time.monotonic(), start(reference)
    wait_for_step(process, reference, 1)
    first = time.monotonic()
    if process.wait():
        raise RuntimeError((folder / "reference.log").read_text())
    usual = Usual(first - started, time.monotonic() - first, last_step(reference))
    random, outcomes = np.random.default_rng(seed), []
    with progress_bar(range(runs), unit="run") as bar:
        for number in bar:
            name = f"run-{number:02d}"
            outcome = one_run(configure(folder, name), reference, number % 2 == 0, usual, random)
            outcomes.append(outcome)
            bar.write(f"{name}: {json.dumps(asdict(outcome))}")
    return outcomes


def one_run(config, reference, while_writing, usual, random):
    """Kill a run once or twice and let it end."""
    outcome = Outcome()
    for _ in range(random.integers(1, 3)):
        begun = last_step(config)
        process = start(config)
        if while_writing:
            # A few checkpoints may pass before the one that is hit.
            wait_for_writing(process, config, random.integers(1, 6))
        else:
            step = random.integers(min(begun, usual.steps - 1), usual.steps)
            wait_for_step(process, config, step)
            a_step = usual.start if step <= begun else usual.training / usual.steps
            wait(process, random.uniform(0, 1) * a_step)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            break  # it had ended already
        outcome.kills += 1
        outcome.while_writing += bool(list(run_folder(config).glob("*.part*")))
        done, kept = last_step(config), checkpoint_step(config)
        outcome.steps_lost = max(outcome.steps_lost, done - kept)
    if start(config).wait():
        raise RuntimeError(config.with_suffix(".log").read_text())
    left = list(run_folder(config).glob("*.part*"))
    outcome.identical = not left and all(
        same(run_folder(config) / name, run_folder(reference) / name)
        for name in ("last.npz", "best.npz")
    )
    return outcome


def wait_for_step(process, config, number):
    """Wait until a run has done so many steps, or ends."""
    while process.poll() is None and last_step(config) < number:
        time.sleep(0.01)


def wait(process, seconds):
    """Let a process work for some seconds, or end."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def wait_for_writing(process, config, number):
    """Wait until a process writes its checkpoint of that number temporary, or ends."""
    there = False
    while process.poll() is None and number:
        now = any(run_folder(config).glob("last.*.part.npz"))
        number -= now and not there
        there = now


def configure(folder, name):
    """The file of a run's settings."""
    path = folder / f"{name}.json"
    own = {
        "format_version": 1,
        "name": name,
        "output": str(folder),
        "data": str(folder / "squares"),
    }
    path.write_text(json.dumps({**SETTINGS, **own}))
    return path


def run_folder(config):
    """Where a run's files are."""
    return config.with_suffix("")


def start(config):
    """Start a training in a process of its own."""
    with open(config.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.kill_and_resume", "--child", str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def last_step(config):
    """The last step that a run did, over all its processes."""
    file = config.with_suffix(".steps")
    return max(map(int, file.read_text().split()), default=0) if file.exists() else 0


def checkpoint_step(config):
    """The step after which a run's last checkpoint was made."""
    last = run_folder(config) / "last.npz"
    return load_arrays(last)[1]["steps"] if last.exists() else 0


def same(first, second):
    """Whether two files hold the same arrays, to the bit."""
    one, other = load_arrays(first)[0], load_arrays(second)[0]
    return one.keys() == other.keys() and all(
        array.tobytes() == other[name].tobytes() for name, array in one.items()
    )


def draw(folder):
    """A data set of squares of three colors."""
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
    """Train by a file of settings and note each step; without the evaluation at the end."""
    from keras_aoa.settings.configuration import Configuration

    def note(trainer):
        with open(config.with_suffix(".steps"), "a") as file:
            file.write(f"{trainer.steps}\n")

    train_watched(Configuration.read(config), note)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(pathlib.Path(sys.argv[2]))
    else:
        main(tyro.cli(Settings, description=__doc__))
