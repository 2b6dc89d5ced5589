"""Replicas on one machine or several: which there are, what each is fed, what they find together.

A process feeds the replicas of its own devices. Every process runs the same program, and only the
chief, worker 0 of TF_CONFIG, writes and speaks.
"""

import contextlib
import json
import os
import signal
import threading

import numpy as np
import tensorflow as tf

from keras_aoa.distribution.replicas import Replicas
from keras_aoa.utils import progress
from keras_aoa.utils.errors import UserError, is_lost_worker
from keras_aoa.utils.text import first_line

FAILED = b"failed"  # what the chief tells the others


def make_strategy(kind="auto"):
    """The strategy of a kind; call it before TensorFlow runs anything.

    Args:
        kind: `one` device; `mirrored`, all GPUs of this machine, or its logical CPUs where there
            is none; `workers`, the processes that TF_CONFIG names; `auto`, workers where TF_CONFIG
            is set, mirrored where there are several GPUs, else one.

    Returns:
        `tf.distribute.Strategy`.

    Raises:
        UserError: TF_CONFIG is missing or wrong, or another process has this one's address.
    """
    if kind == "auto" and os.environ.get("TF_CONFIG", "").strip():
        kind = "workers"
    if kind == "workers":
        strategy = join_cluster(check_cluster())
        progress.silence(not Process(strategy).chief)
        return strategy
    # Not before: to list devices starts TensorFlow, and workers must be told of first.
    gpus = tf.config.list_logical_devices("GPU")
    if kind == "mirrored" or (kind == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def check_cluster():
    """Refuse a TF_CONFIG that TensorFlow would wait for, or fail on.

    Returns:
        The workers' addresses, and which of them is this one.

    Raises:
        UserError: not json, no workers, or a task that is none of them.
    """
    text = os.environ.get("TF_CONFIG", "")
    example = (
        '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        cluster = json.loads(text)
        workers, task = cluster["cluster"]["worker"], cluster["task"]
        known = set(cluster["cluster"]) == {"worker"} and isinstance(workers, list)
        if not known or task["type"] != "worker" or not 0 <= task["index"] < len(workers):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"TF_CONFIG: expected {example}, received {text or 'nothing'}; set it for each worker."
        ) from None
    return workers, task["index"]


def join_cluster(cluster):
    """Wait until all workers have started: the strategy that they share.

    Args:
        cluster: Addresses of the workers, and the index of this one.

    Raises:
        UserError: this one's address cannot be used.
    """
    workers, index = cluster
    progress.say(f"Worker {index} waits for all {len(workers)} workers: {', '.join(workers)}.")
    try:
        with default_signals():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        reason = first_line(error.message, "it said nothing")
        raise UserError(
            f"TF_CONFIG: worker {index} cannot use its address {workers[index]} ({reason}); end "
            "what uses it, or name another for all workers."
        ) from None


@contextlib.contextmanager
def default_signals():
    """Let Ctrl-C end a process that waits in TensorFlow, and SIGTERM afterwards.

    Python would not hear Ctrl-C before the wait is over; a cluster's TensorFlow takes SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class Process:
    """This process among those of a strategy.

    Args:
        strategy: `tf.distribute.Strategy`; the current one by default.

    Attributes:
        replicas: `Replicas` that it feeds.
        workers: Number of processes.
        chief: Whether this is the one that writes.
    """

    def __init__(self, strategy=None):
        self.strategy = strategy or tf.distribute.get_strategy()
        resolver = self.strategy.cluster_resolver
        several = isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy)
        task = resolver.task_id if several else 0
        total = self.strategy.num_replicas_in_sync
        self.workers = len(resolver.cluster_spec().job_tasks("worker")) if several else 1
        count = total // self.workers
        self.replicas = Replicas(total, task * count, count)
        self.chief = task == 0

    def feed(self, dataset):
        """Batches of a data set of replicas' parts, as `strategy.run` takes them."""
        count = self.replicas.count
        if count == 1:
            yield from dataset
            return
        parts = iter(dataset)
        for first in parts:
            together = [first, *(next(parts) for _ in range(count - 1))]
            yield self._each(lambda place, together=together: together[place])

    def local(self, value):
        """The parts of a value that this process's replicas hold: a list."""
        return self.strategy.experimental_local_results(value)

    def chief_first(self, function):
        """Call a function in the chief and, when it is done there, in the others.

        Raises:
            UserError: in the others too, where the chief's function failed.
        """
        if not self.chief:
            if FAILED in self.gather(b""):
                raise UserError("worker 0 could not go on; see what it said.")
            return function()
        try:
            result = function()
        except Exception as error:
            # Of a cluster that is gone nobody would hear.
            if not is_lost_worker(error):
                self.gather(FAILED)
            raise
        self.wait()
        return result

    @contextlib.contextmanager
    def report_lost_workers(self):
        """Tell in a line that another process is lost.

        Raises:
            UserError: it is.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.workers == 1 or not is_lost_worker(error):
                raise
            reason = first_line(error.message, "it said nothing")
            raise UserError(
                f"another of the {self.workers} workers ended or cannot be reached ({reason}); "
                "start all again with the same command, which goes on from the last checkpoint."
            ) from None

    def wait(self):
        """Wait until all processes are here."""
        if self.workers > 1:
            self.gather(b".")

    def gather(self, content):
        """Bytes of all processes: a list, in their order."""
        if self.workers == 1:
            return [content]
        # Bytes cannot be gathered, whole numbers can.
        own = np.frombuffer(content + bytes(-len(content) % 4), np.int32)

        def part(values):
            # What a process says is with its first replica; the others say nothing.
            return self._each(lambda place: tf.constant(values if place == 0 else values[:0]))

        sizes = self.strategy.gather(part(np.array([len(content)], np.int64)), axis=0).numpy()
        everything = self.strategy.gather(part(own), axis=0).numpy()
        parts = np.split(everything, np.cumsum(-(-sizes // 4))[:-1])
        return [each.tobytes()[:size] for each, size in zip(parts, sizes, strict=True)]

    def _each(self, value_of):
        """A value for each of this process's replicas, of its place among them."""
        first = self.replicas.first
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: value_of(context.replica_id_in_sync_group - first)
        )
