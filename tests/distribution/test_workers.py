"""Tests the messages of workers that cannot start, wait for others, or fail to prepare."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from processes import ROOT, cluster, free_ports, start_workers

pytestmark = pytest.mark.slow


def start(index, ports, tmp_path, **options):
    """Start the training command as one worker."""
    arguments = ["-m", "keras_aoa.train", "--output", str(tmp_path), "--backbone", "scenes"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **cluster(index, ports)}
    return subprocess.Popen([sys.executable, *arguments], env=environment, cwd=ROOT, **options)


def test_an_address_in_use_is_reported_in_one_line(tmp_path):
    with socket.create_server(("localhost", 0)) as taken:
        ports = [taken.getsockname()[1], *free_ports(1)]
        process = start(0, ports, tmp_path, stderr=subprocess.PIPE, text=True)
        output = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert f"TF_CONFIG: worker 0 cannot use its address localhost:{ports[0]} (" in output
    assert "Traceback" not in output


def test_a_waiting_worker_prints_the_others_and_can_be_stopped(tmp_path):
    process = start(0, free_ports(2), tmp_path, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line.startswith("Worker 0 waits for all 2 workers: localhost:")
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT


def test_an_error_of_the_chief_stops_the_other_workers_with_one_line(tmp_path):
    command = ["-m", "keras_aoa.train", "--output", str(tmp_path), "--data", str(tmp_path / "no")]
    processes, files = start_workers(command, tmp_path, "refused")
    assert [process.wait(200) for process in processes] == [2, 2]
    chief, other = (file.read_text() for file in files)
    assert f"found no file at {tmp_path / 'no'}" in chief
    assert "worker 0 failed; see its output for the reason." in other
    assert "Traceback" not in chief + other
