"""Prints where the seconds of `keras-aoa caption RUN PHOTO` go: `benchmarks.start` runs this.

The real command runs, and some of its functions are timed. The names of the rows name the work of
the function, for example tracing a graph, optimizing it and calling it for the first time.
"""

import contextlib
import functools
import importlib
import io
import json
import os
import sys
import time

# For each row, in the command's order: module, and name of the function in it.
FUNCTIONS = {
    "import TensorFlow and Keras": ("keras_aoa.utils.keras_settings", "use_keras_defaults"),
    "verify the files": ("keras_aoa.runs.named", "_verified"),
    "read the weights": ("keras_aoa.models.weights", "load_arrays"),
    "build the network from its file": ("keras_aoa.models.backbones", "load_backbone"),
    "fold batch normalization": ("keras_aoa.models.folding", "with_folded_networks"),
    "read the photograph": ("keras_aoa.inference.batches", "BatchCaptioner._read_one"),
    "trace and call the network": (
        "keras_aoa.inference.image_captioner",
        "ImageCaptioner.with_features",
    ),
    "trace and call the search": (
        "keras_aoa.inference.generator",
        "CaptionGenerator.hypotheses",
    ),
}


def main(run, photo):
    """Run the command, and print the CPU seconds and seconds of each row as json."""
    rows = {"start Python": [cpu_seconds(), 0.0]}
    import keras_aoa.caption as command
    from keras_aoa.utils import keras_settings

    _time(rows, "import TensorFlow and Keras")
    import_keras = keras_settings.use_keras_defaults

    def import_and_time():
        import_keras()
        started, before = time.perf_counter(), cpu_seconds()
        for row in list(FUNCTIONS)[1:]:
            _time(rows, row)
        rows["import keras_aoa"] = [cpu_seconds() - before, time.perf_counter() - started]

    command.use_keras_defaults = import_and_time
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        command.main([run, photo])
    everything = enumerate((cpu_seconds(), time.perf_counter() - started))
    # The steps run one after the other, so the rest is outside of them.
    rest = [whole - sum(row[index] for row in rows.values()) for index, whole in everything]
    print(json.dumps({**rows, "rest": rest}))


def _time(rows, row):
    """Replace a function by one that also adds its seconds to a row."""
    module, name = FUNCTIONS[row]
    holder = importlib.import_module(module)
    *classes, name = name.split(".")
    for each in classes:
        holder = getattr(holder, each)
    function = getattr(holder, name)

    @functools.wraps(function)
    def timed(*args, **kwargs):
        started, before = time.perf_counter(), cpu_seconds()
        try:
            return function(*args, **kwargs)
        finally:
            spent = cpu_seconds() - before, time.perf_counter() - started
            rows[row] = [old + new for old, new in zip(rows.get(row, (0, 0)), spent, strict=True)]

    setattr(holder, name, timed)


def cpu_seconds():
    """Return the CPU seconds of this process."""
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    main(*sys.argv[1:])
