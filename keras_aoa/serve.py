"""`keras-aoa serve OUT`: serve an exported captioner over HTTP, without a container."""

import pathlib
from dataclasses import dataclass
from typing import Annotated

import tyro

from keras_aoa.cli import start
from keras_aoa.utils.command_line import parse
from keras_aoa.utils.errors import UserError


@dataclass(frozen=True)
class Arguments:
    """Serve an exported captioner on TensorFlow Serving's REST path, without a container."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder of exported versions. The newest version is served."""
    name: str = "captioner"
    """Name of the model in the path /v1/models/NAME:predict."""
    host: str = "127.0.0.1"
    """Address to listen on. The default accepts requests only from this machine; 0.0.0.0 accepts
    requests from all networks."""
    port: int = 8501
    """Port to listen on."""
    batch: int = 16
    """Maximum number of images in a batch; 1 disables batching."""
    wait: float = 5.0
    """Milliseconds for which a batch waits for more requests."""

    def __post_init__(self):
        for name, holds, expected in (
            ("batch", self.batch >= 1, "at least 1"),
            ("wait", self.wait >= 0, "at least 0"),
            ("port", 0 < self.port < 65536, "from 1 to 65535"),
        ):
            if not holds:
                raise UserError(f"{name}: expected {expected}, received {getattr(self, name)}.")


def main(arguments):
    """Serve the export that the arguments name, until the process is interrupted."""
    settings = parse(Arguments, "serve", arguments)
    folders = pathlib.Path(settings.output).glob("*")
    versions = [folder for folder in folders if folder.name.isdecimal()]
    if not versions:
        raise UserError(
            f"{settings.output}: expected exported versions, found none; export a run: "
            "keras-aoa export RUN OUT."
        )
    from keras_aoa.serving.server import serve

    newest = max(versions, key=lambda folder: int(folder.name))
    serve(newest, settings.name, settings.host, settings.port, settings.batch, settings.wait)


if __name__ == "__main__":
    start("serve")
