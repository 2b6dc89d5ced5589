"""Settings with which a process that runs most of its graphs only a few times needs less time."""

import functools

import tensorflow as tf
from tensorflow.python.framework import ops


def create_graphs_faster():
    """Make TensorFlow neither optimize graphs nor record the stack at each of their operations.

    Most functions of the tests run only a few times, so optimizing their graphs takes longer than
    it saves. A call stack under pytest has about 80 levels, and recording it takes a fifth of the
    time of tracing. TensorFlow only quotes it in the messages of errors. Processes that tests start
    keep TensorFlow's defaults, unless they call this function.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    ops._create_c_op = functools.partial(ops._create_c_op, extract_traceback=False)
