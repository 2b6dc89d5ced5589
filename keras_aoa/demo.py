"""`keras-aoa demo RUN`: open a page that captions the photographs dropped on it."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from keras_aoa.cli import start
from keras_aoa.utils.command_line import parse
from keras_aoa.utils.errors import UserError, require_positive
from keras_aoa.utils.keras_settings import use_keras_defaults


@dataclass(frozen=True)
class Arguments:
    """Open a page that captions the photographs dropped on it.

    The photographs stay on this machine.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, or a captioner's name such as flickr8k; comma-separated runs form an
    ensemble."""
    host: str = "127.0.0.1"
    """Address to listen on. The default accepts requests only from this machine; 0.0.0.0 also
    accepts requests from other devices, such as a phone."""
    port: int = 7860
    """Port to listen on; 0 chooses a free port."""
    browser: bool = True
    """Open the page in the browser."""
    max_megapixels: float = 50.0
    """Maximum image size; larger images are refused."""

    def __post_init__(self):
        if not 0 <= self.port < 65536:
            raise UserError(f"port: expected 0 to 65535, received {self.port}.")
        require_positive("max_megapixels", self.max_megapixels)


def main(arguments):
    """Serve the page until the process is interrupted."""
    settings = parse(Arguments, "demo", arguments)
    use_keras_defaults()
    from keras_aoa.demo_page.server import serve

    max_pixels = round(settings.max_megapixels * 1e6)
    serve(settings.run, settings.host, settings.port, settings.browser, max_pixels)


if __name__ == "__main__":
    start("demo")
