"""Helpers of all benchmarks: median times, rate of matrix products, and runs in a new process."""

import json
import subprocess
import sys
import time

import numpy as np

RATE_SIZE = 2048


def median_seconds(function, turns, warm_up=2):
    """Return the median time of `turns` calls. The first `warm_up` calls are not timed."""
    times = []
    for turn in range(turns + warm_up):
        started = time.perf_counter()
        function()
        if turn >= warm_up:
            times.append(time.perf_counter() - started)
    return float(np.median(times))


def matrix_rate(dtype="float32", turns=10):
    """Return this machine's FLOPs per second in products of large square matrices."""
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


def print_row(row, text, as_json):
    """Print a row of results as text or as a json line."""
    print(json.dumps(row) if as_json else text, flush=True)


def in_new_process(module, function, **arguments):
    """Call `module.function(**arguments)` in a new process and measure its peak memory.

    Returns:
        The dictionary that the function returned, with the additional key `peak_gigabytes`. If the
        process failed, the dictionary has only the key `failed`, whose value is the reason.
    """
    code = (
        "import importlib, json, resource, sys\n"
        "module, function, arguments = json.loads(sys.argv[1])\n"
        "results = getattr(importlib.import_module(module), function)(**arguments)\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9\n"
        "print(json.dumps({**results, 'peak_gigabytes': peak}))\n"
    )
    call = json.dumps([module, function, arguments])
    completed = subprocess.run(
        [sys.executable, "-c", code, call], capture_output=True, text=True, check=False
    )
    if completed.returncode < 0:
        return {"failed": f"killed by signal {-completed.returncode}"}
    if completed.returncode:
        return {"failed": (completed.stderr.strip().splitlines() or ["no error message"])[-1]}
    return json.loads(completed.stdout.strip().splitlines()[-1])


def train_with_callback(configuration, after_step):
    """Train without the final evaluation, and call `after_step(trainer)` after each step."""
    from keras_aoa.training import loop as training

    step, evaluate = training.Trainer.step, training.evaluate

    def step_with_callback(trainer, *arguments):
        result = step(trainer, *arguments)
        after_step(trainer)
        return result

    training.Trainer.step, training.evaluate = step_with_callback, lambda *_, **__: None
    try:
        training.train(configuration)
    finally:
        training.Trainer.step, training.evaluate = step, evaluate
