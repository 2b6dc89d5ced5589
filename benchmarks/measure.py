"""What benchmarks share: medians of turns, the machine's matrix rate, figures of a new process."""

import json
import subprocess
import sys
import time

import numpy as np

RATE_SIZE = 2048


def median_seconds(function, turns, warm_up=2):
    """Median time of a call, after some that do not count."""
    times = []
    for turn in range(turns + warm_up):
        started = time.perf_counter()
        function()
        if turn >= warm_up:
            times.append(time.perf_counter() - started)
    return float(np.median(times))


def matrix_rate(dtype="float32", turns=10):
    """Floating-point operations a second of the machine's products of large square matrices."""
    import keras
    from keras import ops

    shape = (RATE_SIZE, RATE_SIZE)
    left, right = (ops.cast(keras.random.normal(shape, seed=seed), dtype) for seed in (1, 2))

    def product(left, right):
        return ops.sum(ops.cast(left @ right, "float32"))

    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(product)
    else:
        import tensorflow as tf

        compiled = tf.function(product)
    return 2 * RATE_SIZE**3 / median_seconds(lambda: float(compiled(left, right)), turns)


def show(row, text, as_json):
    """Print a row as text, or as a line of json."""
    print(json.dumps(row) if as_json else text, flush=True)


def in_new_process(module, function, **arguments):
    """What `module.function(**arguments)` returns in a process of its own, with its peak memory.

    Returns:
        A dictionary, json's types; `peak_gigabytes` is added.
    """
    code = (
        "import importlib, json, resource, sys\n"
        "module, function, arguments = json.loads(sys.argv[1])\n"
        "found = getattr(importlib.import_module(module), function)(**arguments)\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9\n"
        "print(json.dumps({**found, 'peak_gigabytes': peak}))\n"
    )
    call = json.dumps([module, function, arguments])
    ended = subprocess.run(
        [sys.executable, "-c", code, call], capture_output=True, text=True, check=False
    )
    if ended.returncode < 0:
        return {"failed": f"killed by signal {-ended.returncode}"}
    if ended.returncode:
        return {"failed": (ended.stderr.strip().splitlines() or ["no word"])[-1]}
    return json.loads(ended.stdout.strip().splitlines()[-1])


def train_watched(configuration, after_step):
    """Train without the evaluation at the end; `after_step(trainer)` is called after each step."""
    from keras_aoa.training import loop as training

    step, evaluate = training.Trainer.step, training.evaluate

    def watched(trainer, *arguments):
        result = step(trainer, *arguments)
        after_step(trainer)
        return result

    training.Trainer.step, training.evaluate = watched, lambda *_, **__: None
    try:
        training.train(configuration)
    finally:
        training.Trainer.step, training.evaluate = step, evaluate
