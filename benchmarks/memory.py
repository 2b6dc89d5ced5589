"""Memory over a long training: a small model on drawn scenes, both stages, through many epochs.

`python -m benchmarks.memory --plot docs/memory.png`. With each epoch come a pass in new order, new
crops, a search over the validation scenes, logs and checkpoints, which is what could leak.
"""

import pathlib
import re
import tempfile
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.measure import show, train_watched
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
EVERY = 50  # steps between two looks


@dataclass(frozen=True)
class Arguments:
    """Train in this process, and look at its memory."""

    steps: int = 20000
    """Steps, half of them of each stage."""
    plot: str = ""
    """Draw memory over steps to this file."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print."""
    settings = parse(Arguments, "benchmarks.memory", arguments)
    if settings.steps < 1000:
        raise UserError(f"steps: expected at least 1000, received {settings.steps}.")
    with tempfile.TemporaryDirectory() as folder:
        looks = train(settings.steps, folder)
    tenths = np.array_split(np.array(looks), 10)
    for number, part in enumerate(tenths, 1):
        row = {"tenth": number, "step": int(part[-1, 0]), "megabytes": float(np.median(part[:, 1]))}
        text = f"steps to {row['step']:6}: {row['megabytes']:.0f} MB"
        show(row, text, settings.json)
    # Each stage has steps of its own to compile first: its second half is what could grow on.
    for stage, (first, last) in enumerate(((2, 4), (7, 9)), 1):
        (step, before), (later, after) = (np.median(tenths[place], 0) for place in (first, last))
        row = {"stage": stage, "megabytes_a_step": (after - before) / (later - step)}
        grown = 1e6 * row["megabytes_a_step"]
        text = f"stage {stage}, its second half: {grown:+.0f} bytes a step"
        show(row, text, settings.json)
    if settings.plot:
        draw(looks, settings.plot)


def train(steps, folder):
    """Train for that many steps: `[(step, megabytes)]`."""
    from keras_aoa.settings.presets import PRESETS

    looks = []

    def look(trainer):
        if trainer.steps % EVERY == 0:
            looks.append((trainer.steps, megabytes()))

    base = replace(PRESETS["scenes"], **SETTINGS, output=folder)
    epochs = steps * base.batch_size // base.scenes_images
    stages = {"rnn_epochs": epochs // 2, "joint_epochs": epochs - epochs // 2}
    train_watched(replace(base, **stages), look)
    return looks


def megabytes():
    """Memory of this process that is not swapped out."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def draw(looks, path):
    """Plot memory over steps."""
    from matplotlib.figure import Figure

    figure = Figure((6, 3), layout="constrained")
    panel = figure.subplots()
    panel.plot(*zip(*looks, strict=True))
    panel.axvline(looks[-1][0] / 2, color="0.6", linestyle="--", label="stage 2 begins")
    panel.set(xlabel="step", ylabel="memory, MB", ylim=(0, None), xlim=(0, looks[-1][0]))
    panel.legend(loc="lower right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run(main)
