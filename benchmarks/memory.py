"""Measures memory during long training of a small model on drawn scenes, in both stages.

`python -m benchmarks.memory --plot docs/memory.png` plots the memory. The training has many epochs.
Each epoch repeats everything that could leak memory: a new order of images, new crops, a search
over the validation scenes, logs and checkpoints.
"""

import pathlib
import re
import tempfile
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.measure import print_row, train_with_callback
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError

SETTINGS = {
    "name": "memory",
    "scenes_images": 400,
    "image_size": 64,
    "regions": "transformer",
    "units": 32,
    "embedding_dim": 16,
    "batch_size": 2,
    "captions_per_image": 2,
    "dropout": 0.2,
    "crop": 0.8,
    "average": 0.99,
    "scheduled_sampling": 0.25,
    "checkpoint_steps": 50,
}
EVERY = 50  # steps between two measurements


@dataclass(frozen=True)
class Arguments:
    """Train in this process and measure its memory."""

    steps: int = 20000
    """Number of training steps. Each stage trains for half of the steps."""
    plot: str = ""
    """Image file for a plot of memory over steps."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.memory", arguments)
    if settings.steps < 1000:
        raise UserError(f"steps: expected at least 1000, received {settings.steps}; set --steps.")
    with tempfile.TemporaryDirectory() as folder:
        samples = train(settings.steps, folder)
    tenths = np.array_split(np.array(samples), 10)
    for number, part in enumerate(tenths, 1):
        row = {"tenth": number, "step": int(part[-1, 0]), "megabytes": float(np.median(part[:, 1]))}
        text = f"steps to {row['step']:6}: {row['megabytes']:.0f} MB"
        print_row(row, text, settings.json)
    # Compiling a stage's step takes memory in its first half, so only the second half shows a leak.
    for stage, (first, last) in enumerate(((2, 4), (7, 9)), 1):
        (step, before), (later, after) = (np.median(tenths[tenth], 0) for tenth in (first, last))
        row = {"stage": stage, "megabytes_a_step": (after - before) / (later - step)}
        growth = 1e6 * row["megabytes_a_step"]
        text = f"second half of stage {stage}: {growth:+.0f} bytes per step"
        print_row(row, text, settings.json)
    if settings.plot:
        draw(samples, settings.plot)


def train(steps, folder):
    """Train for `steps` steps, and return a list of `(step, megabytes)`."""
    from keras_aoa.settings.presets import PRESETS

    samples = []

    def sample(trainer):
        if trainer.steps % EVERY == 0:
            samples.append((trainer.steps, megabytes()))

    base = replace(PRESETS["scenes"], **SETTINGS, output=folder)
    epochs = steps * base.batch_size // base.scenes_images
    stages = {"rnn_epochs": epochs // 2, "joint_epochs": epochs - epochs // 2}
    train_with_callback(replace(base, **stages), sample)
    return samples


def megabytes():
    """Return the resident memory of this process."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def draw(samples, path):
    """Plot memory over steps."""
    from matplotlib.figure import Figure

    figure = Figure((6, 3), layout="constrained")
    panel = figure.subplots()
    last_step = samples[-1][0]
    panel.plot(*zip(*samples, strict=True))
    panel.axvline(last_step / 2, color="0.6", linestyle="--", label="stage 2 begins")
    panel.set(xlabel="step", ylabel="memory, MB", ylim=(0, None), xlim=(0, last_step))
    panel.legend(loc="lower right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run(main)
