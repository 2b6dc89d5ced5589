"""Measures the speedup of two processes over one process. Each process has one core.

`python -m benchmarks.scaling` trains the decoder on image features of 49 regions. States and
embeddings have size 512, the vocabulary has 6325 words, and captions have 17 steps. Each of the two
processes computes half of every batch. The two processes need additional time to sum gradients over
a local socket and to wait for each other.
"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.decoder import Size, make_captioner, random_batch
from benchmarks.measure import median_seconds
from keras_aoa.utils.command_line import parse, run

MODULE = "benchmarks.scaling"


@dataclass(frozen=True)
class Arguments:
    """Time the training steps of one process and of two processes."""

    images: int = 20
    """Number of images in a batch, over all processes together."""
    turns: int = 5
    """Number of timed steps. The results are medians."""


def main(arguments):
    """Measure and print the results. With `--child`, run only one of the two processes."""
    if arguments[:1] == ["--child"]:
        print(json.dumps(seconds_of_steps(*map(int, arguments[1:]))))
        return
    settings = parse(Arguments, MODULE, arguments)
    whole, half = settings.images, settings.images // 2
    one, one_half = (time_processes([images], settings.turns) for images in (whole, half))
    two = time_processes([half, half], settings.turns)
    print(f"one process, {whole} images: {1000 * one:.0f} ms")
    print(f"one process, {half} images: {1000 * one_half:.0f} ms")
    print(
        f"two processes, {half} images each: {1000 * two:.0f} ms; speedup {one / two:.2f}; "
        f"{100 * (1 - one_half / two):.0f} % of the time is communication and waiting"
    )


def time_processes(shares, turns):
    """Measure the median seconds per step of processes that train together.

    Args:
        shares: List with the number of images that each process computes per batch.
        turns: Number of timed steps.
    """
    ports = []
    for _ in shares:
        with socket.create_server(("localhost", 0)) as free:
            ports.append(f"localhost:{free.getsockname()[1]}")
    processes = []
    for index, images in enumerate(shares):
        environment = dict(os.environ)
        if len(shares) > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": ports}, "task": task})
        command = [sys.executable, "-m", MODULE, "--child", str(index), str(images), str(turns)]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
    outputs = [process.communicate()[0] for process in processes]
    return json.loads(outputs[0].splitlines()[-1])


def seconds_of_steps(core, images, turns):
    """Measure the median seconds per step of this process on one core."""
    os.sched_setaffinity(0, {core})
    from keras_aoa.distribution.process import Process, make_strategy
    from keras_aoa.settings.configuration import Configuration
    from keras_aoa.training.trainer import Trainer

    process, size = Process(make_strategy()), Size(images)
    with process.strategy.scope():
        captioner = make_captioner(size.words)
        trainer = Trainer(captioner, Configuration(average=0.0), steps_per_epoch=1000)
    batch = random_batch(size)
    return median_seconds(lambda: trainer.step(batch, stage=1), turns)


if __name__ == "__main__":
    run(main)
