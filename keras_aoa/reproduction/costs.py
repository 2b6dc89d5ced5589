"""What a run costs: parameters, seconds per training step, and milliseconds per caption."""

import json

import numpy as np

from keras_aoa.evaluation.evaluate import TIMING
from keras_aoa.models.weights import load_arrays

# For each cost: the heading of its column.
COSTS = {
    "parameters": "parameters without the CNN, millions",
    "step_seconds": "seconds per step",
    "caption_milliseconds": "milliseconds per caption",
}


def costs_of(configuration):
    """Return a run's `COSTS`. A cost that an older version did not measure is None.

    Args:
        configuration: `Configuration` of the run.
    """
    arrays, _ = load_arrays(configuration.folder / "best.npz")
    own = [array for name, array in arrays.items() if "backbone/" not in name]
    progress = load_arrays(configuration.folder / "last.npz")[1]["progress"]
    timing = configuration.folder / TIMING
    seconds = json.loads(timing.read_text())["seconds_per_caption"] if timing.exists() else None
    return {
        "parameters": sum(int(np.size(array)) for array in own) / 1e6,
        "step_seconds": progress.get("step_seconds") or None,
        "caption_milliseconds": None if seconds is None else 1000 * seconds,
    }
