"""Helpers that start processes: workers of a cluster, and two devices in one process."""

import faulthandler
import json
import multiprocessing
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

TWO_CPUS = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""
TRAIN = "from keras_aoa.cli import start\nstart('train')\n"


def fork(log, function, *arguments, **environment):
    """Call a function in a process forked from one that has imported TensorFlow; returns it.

    Importing TensorFlow takes seconds. The process appends its output to the file `log`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_aoa.training.loop"])
    call = (log, environment, function, arguments)
    process = context.Process(target=_call, args=call, daemon=True)
    process.start()
    return process


def _call(log, environment, function, arguments):
    os.environ.update(environment)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    faulthandler.enable()  # if the process crashes, the log shows where
    function(*arguments)


def exit_statuses(processes, seconds=600):
    """Wait for processes and return their exit statuses."""
    for process in processes:
        process.join(seconds)
    return [process.exitcode for process in processes]


def cluster(index, ports):
    """Return the environment variables of a worker."""
    workers = [f"localhost:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": task})}


def chief_and_worker(index, ports):
    """Return the environment variables of a worker, as a cloud with chief and evaluator sets them.

    The evaluator is not started.
    """
    chief, worker, evaluator = ([f"localhost:{port}"] for port in ports)
    jobs = {"chief": chief, "worker": worker, "evaluator": evaluator}
    task = {"type": ("chief", "worker")[index], "index": "0"}
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": task, "environment": "cloud"})}


def free_ports(count):
    """Return ports that no process listens on."""
    servers = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def start_workers(command, folder, name):
    """Start a command as two workers; returns the processes and their log files."""
    ports = free_ports(2)
    files = [folder / f"{name}-{index}.log" for index in range(2)]
    processes = []
    for index, file in enumerate(files):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **cluster(index, ports)}
        with open(file, "w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                )
            )
    return processes, files
