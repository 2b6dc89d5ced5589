"""Processes that tests start: workers of a cluster, and two devices in one process."""

import json
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
TRAIN = "from keras_aoa.train import command\ncommand()\n"


def cluster(index, ports):
    """Environment of a worker."""
    workers = [f"localhost:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": task})}


def free_ports(count):
    """Ports that nothing listens on."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_workers(command, folder, name):
    """Two processes of a command, what they say in files."""
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
