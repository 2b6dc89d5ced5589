"""What workers of a cluster say when they cannot start, wait, or lose each other's preparation."""

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
    """A worker's training of nothing yet."""
    arguments = ["-m", "keras_aoa.train", "--output", str(tmp_path), "--backbone", "scenes"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **cluster(index, ports)}
    return subprocess.Popen([sys.executable, *arguments], env=environment, cwd=ROOT, **options)


def test_an_address_in_use_is_a_line(tmp_path):
    with socket.create_server(("localhost", 0)) as taken:
        ports = [taken.getsockname()[1], *free_ports(1)]
        process = start(0, ports, tmp_path, stderr=subprocess.PIPE, text=True)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert f"TF_CONFIG: worker 0 cannot use its address localhost:{ports[0]} (" in said
    assert "Traceback" not in said


def test_a_worker_that_waits_for_others_says_so_and_can_be_stopped(tmp_path):
    process = start(0, free_ports(2), tmp_path, stdout=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    assert said.startswith("Worker 0 waits for all 2 workers: localhost:")
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT


def test_what_the_chief_refuses_ends_the_others_with_a_line(tmp_path):
    command = ["-m", "keras_aoa.train", "--output", str(tmp_path), "--data", str(tmp_path / "no")]
    processes, files = start_workers(command, tmp_path, "refused")
    assert [process.wait(200) for process in processes] == [2, 2]
    chief, other = (file.read_text() for file in files)
    assert f"found no {tmp_path / 'no'}." in chief
    assert "worker 0 could not go on; see what it said." in other
    assert "Traceback" not in chief + other
