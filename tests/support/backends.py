"""What the layers' tests need of a backend beyond Keras: exact arithmetic and gradients."""

import importlib

import keras
import numpy as np
from keras import ops
from keras.src.backend.common import dtypes

BACKEND = keras.backend.backend()


def set_up():
    """Allow float64 on every backend, and float32 products with all their bits on a GPU.

    Keras takes float64 down to float32 on JAX and PyTorch, through this table. PyTorch's threads
    only wait for each other at these sizes.
    """
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    framework = importlib.import_module(BACKEND)
    if BACKEND == "jax":
        framework.config.update("jax_enable_x64", True)
        framework.config.update("jax_default_matmul_precision", "highest")
    if BACKEND == "tensorflow":
        framework.config.experimental.enable_tensor_float_32_execution(False)
    if BACKEND == "torch":
        framework.set_num_threads(1)


def gradients(function, arrays, variables=()):
    """Gradients of `function(*arrays)`, a scalar, in the arrays and then in the variables."""
    values = [ops.convert_to_numpy(value) for value in (*arrays, *variables)]
    values = [ops.convert_to_tensor(value) for value in values]

    def stateless(*values):
        replaced = list(zip(variables, values[len(arrays) :], strict=True))
        with keras.StatelessScope(state_mapping=replaced):
            return function(*values[: len(arrays)])

    differentiate = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[BACKEND]
    return [ops.convert_to_numpy(gradient) for gradient in differentiate(stateless, values)]


def compiled(function):
    """`function` as one program on JAX, which else compiles every operation for every shape."""
    return importlib.import_module("jax").jit(function) if BACKEND == "jax" else function


def assert_gradients(function, arguments, gradients):
    """Gradients times random directions equal `function`'s central differences, each argument."""
    assert len(arguments) == len(gradients)
    for index, gradient in enumerate(gradients):
        for seed in range(2):
            step = 1e-5 * np.random.default_rng(seed).normal(size=gradient.shape)
            ahead, behind = (
                function(*arguments[:index], arguments[index] + move, *arguments[index + 1 :])
                for move in (step, -step)
            )
            np.testing.assert_allclose(np.sum(gradient * step), (ahead - behind) / 2, 1e-6, 1e-14)


def to_numpy(outputs):
    """The outputs as a list of float64 arrays."""
    return [np.asarray(ops.convert_to_numpy(output), "float64") for output in outputs]


def _tensorflow(function, values):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(*values)
    return tape.gradient(result, values, unconnected_gradients="zero")


def _jax(function, values):
    import jax

    return compiled(jax.grad(function, argnums=tuple(range(len(values)))))(*values)


def _torch(function, values):
    import torch

    values = [value.detach().clone().requires_grad_() for value in values]
    return torch.autograd.grad(function(*values), values, materialize_grads=True)
