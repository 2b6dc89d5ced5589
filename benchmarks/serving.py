"""Measures throughput and latency of a served captioner, with and without batching.

Each batch size starts a new server, `export/server.py`. Concurrent clients send requests over REST,
each with one JPEG image. Each client sends its next request as soon as it receives an answer.
"""

import base64
import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro

from benchmarks.measure import print_row
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.progress import progress_bar

ROOT = pathlib.Path(__file__).resolve().parents[1]
PATH = "/v1/models/captioner:predict"


@dataclass(frozen=True)
class Arguments:
    """Time requests to an exported captioner."""

    export: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder of exported versions, created by python export/saved_model.py RUN OUT."""
    image: str = ""
    """Image file to send; by default a drawn scene of 480 x 480 pixels as JPEG."""
    requests: int = 300
    """Number of timed requests for each number of clients."""
    clients: tuple[int, ...] = (1, 8)
    """Numbers of concurrent clients."""
    batch: int = 16
    """Maximum batch size of the server with batching."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.serving", arguments)
    body = request(settings.image)
    for batch in (1, settings.batch):
        with serving(settings.export, batch) as port:
            for clients in settings.clients:
                row = {"batch": batch, "clients": clients}
                row |= measure(port, body, clients, settings.requests)
                text = (
                    f"batches of at most {batch:2}, {clients:2} clients: "
                    f"{row['requests_a_second']:6.1f} requests/s, "
                    f"p50 {row['p50_milliseconds']:6.0f} ms, p99 {row['p99_milliseconds']:6.0f} ms"
                )
                print_row(row, text, settings.json)


def request(image):
    """Return the body of a request for an image file. If `image` is empty, draw a scene."""
    if image:
        file = pathlib.Path(image).read_bytes()
    else:
        import cv2

        from keras_aoa.data.scenes.layout import draw_scene

        pixels = draw_scene(480, np.random.default_rng(0))[1]
        file = cv2.imencode(".jpg", pixels[:, :, ::-1])[1].tobytes()
    return json.dumps({"instances": [{"b64": base64.b64encode(file).decode()}]})


@contextlib.contextmanager
def serving(export, batch):
    """Run a server during the `with` block. Yield the server's port after the warm-up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [ROOT / ".venv-serve/bin/python", ROOT / "export/server.py", export]
    command += ["--port", str(port), "--batch", str(batch)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while True:
                with contextlib.suppress(OSError):
                    if ask(port, "GET", "/v1/models/captioner", None) == 200:
                        break
                if process.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(log.read().decode(errors="replace"))
                time.sleep(0.2)
            yield port
        finally:
            process.terminate()
            process.wait()


def measure(port, body, clients, requests):
    """Measure requests per second, and percentiles of the time per request."""

    def timed(_):
        started = time.perf_counter()
        status = ask(port, "POST", PATH, body)
        if status != 200:
            raise RuntimeError(f"the server answered with status {status}")
        return time.perf_counter() - started

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(timed, range(2 * clients)))
        started = time.perf_counter()
        with progress_bar(total=requests, desc=f"{clients} clients", unit="request") as bar:
            latencies = []
            for seconds in pool.map(timed, range(requests)):
                latencies.append(seconds)
                bar.update(1)
        total = time.perf_counter() - started
    p50, p99 = 1000 * np.percentile(latencies, (50, 99))
    return {
        "requests_a_second": requests / total,
        "p50_milliseconds": float(p50),
        "p99_milliseconds": float(p99),
    }


def ask(port, method, path, body):
    """Send a request and return its status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        reply.read()
        return reply.status
    finally:
        connection.close()


if __name__ == "__main__":
    run(main)
