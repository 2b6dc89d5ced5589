"""Backend-specific helpers for the tests of the layers: exact arithmetic and gradients."""

import importlib

import keras
import numpy as np
from keras import ops
from keras.src.backend.common import dtypes

BACKEND = keras.backend.backend()


def set_up():
    """Allow float64 on every backend, and full float32 precision of products on a GPU."""
    # Keras uses this table to convert float64 to float32 on JAX and PyTorch.
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    framework = importlib.import_module(BACKEND)
    if BACKEND == "jax":
        framework.config.update("jax_enable_x64", True)
        framework.config.update("jax_default_matmul_precision", "highest")
    if BACKEND == "tensorflow":
        framework.config.experimental.enable_tensor_float_32_execution(False)
    if BACKEND == "torch":
        # The tensors are so small that several threads only slow each other down.
        framework.set_num_threads(1)


def gradients(function, arrays, variables=()):
    """Return the gradients of the scalar `function(*arrays)` in the arrays, then the variables."""
    values = [ops.convert_to_numpy(value) for value in (*arrays, *variables)]
    values = [ops.convert_to_tensor(value) for value in values]

    def stateless(*values):
        replaced = list(zip(variables, values[len(arrays) :], strict=True))
        with keras.StatelessScope(state_mapping=replaced):
            return function(*values[: len(arrays)])

    differentiate = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[BACKEND]
    return [ops.convert_to_numpy(gradient) for gradient in differentiate(stateless, values)]


def compiled(function):
    """Return `function`, compiled on JAX, which otherwise compiles each operation and shape."""
    return importlib.import_module("jax").jit(function) if BACKEND == "jax" else function


def assert_gradients(function, arguments, gradients):
    """Assert that gradients agree with central differences of `function` in a random direction."""
    assert len(arguments) == len(gradients)
    for index, gradient in enumerate(gradients):
        step = 1e-5 * np.random.default_rng(0).normal(size=gradient.shape)
        ahead, behind = (
            function(*arguments[:index], arguments[index] + move, *arguments[index + 1 :])
            for move in (step, -step)
        )
        np.testing.assert_allclose(np.sum(gradient * step), (ahead - behind) / 2, 1e-6, 1e-14)


def to_numpy(outputs):
    """Return the outputs as a list of float64 arrays."""
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
