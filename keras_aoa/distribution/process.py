"""Distribution over devices and machines: strategies, workers, and exchange between processes.

Every process runs the same program and feeds the replicas on its own devices. Only the chief prints
and writes files. If TF_CONFIG names no chief, worker 0 is the chief.
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

FAILED = b"failed"  # message of the chief to the other workers


def make_strategy(kind="auto"):
    """Create the distribution strategy. Call this function before TensorFlow runs any operation.

    Args:
        kind: One of
            - `one`: a single device;
            - `mirrored`: all GPUs of this machine, or its logical CPUs if it has no GPU;
            - `workers`: the processes listed in TF_CONFIG;
            - `auto`, which is `workers` if TF_CONFIG names a cluster, else `mirrored` if there are
              several GPUs, else `one`. TF_CONFIG's evaluator is not part of the cluster.

    Returns:
        `tf.distribute.Strategy`.

    Raises:
        UserError: TF_CONFIG is missing or invalid, or another process uses this worker's address.
    """
    if kind == "auto" and names_cluster() and not is_evaluator():
        kind = "workers"
    if kind == "workers":
        strategy = join_cluster(check_cluster())
        progress.silence(not Process(strategy).chief)
        return strategy
    # Not earlier, because listing devices initializes TensorFlow, and then workers cannot join.
    gpus = tf.config.list_logical_devices("GPU")
    if kind == "mirrored" or (kind == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def names_cluster():
    """Return whether TF_CONFIG names a cluster that is not empty."""
    text = os.environ.get("TF_CONFIG", "").strip()
    try:
        return bool(text and json.loads(text).get("cluster"))
    except (ValueError, AttributeError):
        return True  # `check_cluster` reports what is wrong


def is_evaluator():
    """Return whether TF_CONFIG makes this process the evaluator of a cluster."""
    try:
        return json.loads(os.environ.get("TF_CONFIG", ""))["task"]["type"] == "evaluator"
    except (ValueError, KeyError, TypeError):
        return False


def check_cluster():
    """Check TF_CONFIG, because TensorFlow may hang or crash if TF_CONFIG is invalid.

    If TF_CONFIG names a chief, the chief becomes worker 0, and the index of every other worker
    increases by 1, as in TensorFlow. An evaluator is not a worker. The task index in TF_CONFIG may
    be a string. Other keys of TF_CONFIG are ignored.

    Returns:
        List of the workers' addresses, and the index of this worker.

    Raises:
        UserError: TF_CONFIG is not json, names no workers, or does not make this process a worker.
    """
    text = os.environ.get("TF_CONFIG", "")
    example = (
        '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(text)
        jobs, task = tf.train.ClusterSpec(config["cluster"]).as_dict(), config["task"]
        chief, workers = jobs.get("chief", []), jobs.get("worker", [])
        own, index = jobs[task["type"]], int(task["index"])
        known = jobs.keys() <= {"chief", "worker", "evaluator"} and len(chief) < 2
        # `as_dict` returns a dictionary if an index is missing.
        known = known and all(isinstance(job, list) for job in jobs.values())
        if not known or task["type"] == "evaluator" or not 0 <= index < len(own):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"TF_CONFIG: expected {example}, received {text or 'nothing'}; set it for each worker."
        ) from None
    return [*chief, *workers], index + (len(chief) if task["type"] == "worker" else 0)


def join_cluster(cluster):
    """Wait until all workers have started, then return the strategy that they share.

    Args:
        cluster: Addresses of the workers, and the index of this worker.

    Returns:
        `tf.distribute.MultiWorkerMirroredStrategy`.

    Raises:
        UserError: this worker cannot use its address.
    """
    workers, index = cluster
    progress.print_progress(
        f"Worker {index} waits for all {len(workers)} workers: {', '.join(workers)}."
    )
    try:
        with default_signals():
            return tf.distribute.MultiWorkerMirroredStrategy(Workers(workers, index))
    except tf.errors.OpError as error:
        reason = first_line(error.message, "no error message")
        raise UserError(
            f"TF_CONFIG: worker {index} cannot use its address {workers[index]} ({reason}); stop "
            "the process that uses it, or set another address for all workers."
        ) from None


class Workers(tf.distribute.cluster_resolver.TFConfigClusterResolver):
    """Cluster resolver in which all processes are workers, including the chief.

    Args:
        addresses: Addresses of the workers.
        index: Index of this worker.
    """

    def __init__(self, addresses, index):
        super().__init__("worker", index)
        self._addresses = addresses

    def cluster_spec(self):
        return tf.train.ClusterSpec({"worker": self._addresses})


@contextlib.contextmanager
def default_signals():
    """Context in which Ctrl-C ends a process that waits inside TensorFlow.

    Python's own handler of Ctrl-C would run only after TensorFlow returns. At its end, the context
    restores the signal handlers. The SIGTERM handler is restored too, because TensorFlow replaces
    this handler when the process joins a cluster.
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
    """This process and its position among the processes of a strategy.

    Args:
        strategy: `tf.distribute.Strategy`; by default the current strategy.

    Attributes:
        replicas: `Replicas` that this process feeds.
        workers: Number of processes.
        chief: Whether this process prints and writes files.
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
        """Yield batches for `strategy.run`. Each element of `dataset` feeds one replica."""
        count = self.replicas.count
        if count == 1:
            yield from dataset
            return
        parts = iter(dataset)
        for first in parts:
            batch = [first, *(next(parts) for _ in range(count - 1))]
            yield self._per_replica(lambda index, batch=batch: batch[index])

    def local(self, value):
        """Return the parts of a value in a list, one part for each replica of this process."""
        return self.strategy.experimental_local_results(value)

    def chief_first(self, function):
        """Call a function in the chief, and after that in the other workers.

        Returns:
            The function's result in this process.

        Raises:
            UserError: this process is not the chief, and the function failed in the chief.
        """
        if not self.chief:
            if FAILED in self.gather(b""):
                raise UserError("worker 0 failed; see its output for the reason.")
            return function()
        try:
            result = function()
        except Exception as error:
            # After the loss of a worker, the other workers cannot receive the message.
            if not is_lost_worker(error):
                self.gather(FAILED)
            raise
        self.wait()
        return result

    @contextlib.contextmanager
    def until_all_finish(self):
        """Context for the common work of all processes, which wait for each other at its end.

        A process that ended earlier would close connections that other processes still use.

        Raises:
            UserError: another worker ended during the work or cannot be reached.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.workers == 1 or not is_lost_worker(error):
                raise
            reason = first_line(error.message, "no error message")
            raise UserError(
                f"another of the {self.workers} workers ended or cannot be reached ({reason}); "
                "start all workers again with the same command, which resumes from the last "
                "checkpoint."
            ) from None
        try:
            self.wait()
        except tf.errors.OpError as error:
            # All processes have finished their work, so the others may end during this wait.
            if not is_lost_worker(error):
                raise

    def wait(self):
        """Wait until all processes have called this method."""
        if self.workers > 1:
            self.gather(b".")

    def any(self, condition):
        """Return whether a condition is true in any process.

        All processes must call this method.
        """
        return b"yes" in self.gather(b"yes" if condition else b"no")

    def gather(self, content):
        """Send bytes to all processes, and receive bytes from all.

        All processes must call this method.

        Returns:
            List of the bytes of each process, in the order of the workers.
        """
        if self.workers == 1:
            return [content]
        # TensorFlow gathers integers but not bytes.
        own = np.frombuffer(content + bytes(-len(content) % 4), np.int32)

        def part(values):
            # Only the first replica of each process sends content; its other replicas send none.
            return self._per_replica(
                lambda index: tf.constant(values if index == 0 else values[:0])
            )

        sizes = self.strategy.gather(part(np.array([len(content)], np.int64)), axis=0).numpy()
        gathered = self.strategy.gather(part(own), axis=0).numpy()
        chunks = np.split(gathered, np.cumsum(-(-sizes // 4))[:-1])
        return [chunk.tobytes()[:size] for chunk, size in zip(chunks, sizes, strict=True)]

    def _per_replica(self, value_of):
        """Create a per-replica value from `value_of(index)`.

        `index` counts the replicas of this process from 0.
        """
        first = self.replicas.first
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: value_of(context.replica_id_in_sync_group - first)
        )
