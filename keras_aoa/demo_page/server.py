"""Serves the demo page, which needs nothing from other machines.

We do not use Gradio 6.31, the usual library for demo pages. Gradio's page refuses files of unknown
type, such as IMG_1.HEIC, without naming a remedy. Gradio also copies photographs to the disk, and
adds 170 MB of packages. Werkzeug is installed anyway, because TensorBoard needs it.
"""

import functools
import json
import os
import sys
import traceback
import webbrowser

import tensorflow as tf
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from keras_aoa.demo_page.captions import MAX_CAPTIONS, Demonstration
from keras_aoa.inference.entries import MAX_BYTES
from keras_aoa.utils.address import bound, url
from keras_aoa.utils.errors import UserError
from keras_aoa.visualization.highlights import TEMPLATES, template

# The browser itself then refuses any request to another machine.
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; "
    "img-src data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def serve(run, host, port, browser, max_pixels):
    """Serve the page until the process is interrupted.

    Args:
        run: Folder of a run, or name of a captioner.
        host, port: Address to listen on.
        browser: Whether to open the page in the browser.
        max_pixels: Maximum number of pixels of a photograph.

    Raises:
        UserError: the address cannot be used, or `ImageCaptioner` fails.
    """
    with bound(host, port, "demo") as listener:
        print(f"{run}: loading ...", flush=True)
        demonstration = Demonstration(run, max_pixels)
        demonstration.warm_up()
        listener.listen()
        page = Page(demonstration, run, max_pixels)
        server = make_server(
            host,
            listener.getsockname()[1],
            page,
            threaded=True,
            request_handler=Quiet,
            fd=listener.fileno(),
        )
        # These addresses stand for all networks. Not every browser opens them.
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        address = url(own, server.port)
        print(f"Open {address} in a browser; Ctrl-C ends the page.", flush=True)
        if own != host:
            print("On other devices, open the same port at this machine's name.", flush=True)
        # Without a display, Python would start a browser inside the terminal.
        if browser and (sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & {*os.environ}):
            webbrowser.open(address)
        server.serve_forever()


class Quiet(WSGIRequestHandler):
    """Prints no line per request, because names of photographs are private."""

    def log_request(self, *_):
        """Do nothing."""


class Page:
    """The page as a WSGI application.

    Args:
        demonstration: `Demonstration`.
        run: Name of the captioner, as the user wrote it.
        max_pixels: Maximum number of pixels of a photograph.
    """

    def __init__(self, demonstration, run, max_pixels):
        self._demonstration = demonstration
        self._max_bytes = min(MAX_BYTES, 4 * max_pixels)  # no image needs more bytes per pixel
        self._html = template("demo.html").render(
            run=run,
            max_bytes=self._max_bytes,
            max_captions=MAX_CAPTIONS,
            max_words=demonstration.max_words,
        )
        self._script = (TEMPLATES / "demo.js").read_text(encoding="utf-8")
        self._answers = {"/captions": self._captions, "/sentence": self._sentence}

    def __call__(self, environ, start_response):
        """Answer a request; the response to an error is one line of json."""
        request = Request(environ)
        request.max_content_length = self._max_bytes
        try:
            response = self._respond(request)
        except UserError as error:
            response = failure(str(error), 400)
        except HTTPException as error:
            response = failure(f"demo: {error.name.lower()}.", error.code)
        except (MemoryError, tf.errors.ResourceExhaustedError):
            response = failure("demo: out of memory; shrink the photograph.", 503)
        except Exception:
            traceback.print_exc()
            response = failure("demo: an unexpected error; the terminal shows more.", 500)
        response.headers.update(HEADERS)
        return response(environ, start_response)

    def _respond(self, request):
        if request.path in self._answers:
            if request.method != "POST":
                raise MethodNotAllowed(["POST"])
            html, captions, note = self._answers[request.path](request)
            return json_response({"html": html, "captions": captions, "note": note}, 200)
        if request.path == "/":
            return Response(self._html, content_type="text/html; charset=utf-8")
        if request.path == "/demo.js":
            return Response(self._script, content_type="text/javascript; charset=utf-8")
        raise NotFound

    def _captions(self, request):
        value = functools.partial(setting, request)
        settings = {
            "count": value("captions", int, 1),
            "min_words": value("min_words", int, 0),
            "temperature": value("temperature", float, None),
            "seed": value("seed", int, 0),
        }
        return self._demonstration.captions(*photograph(request), **settings)

    def _sentence(self, request):
        sentence = request.args.get("sentence", "")
        return self._demonstration.sentence(*photograph(request), sentence)


def photograph(request):
    """Return the name and the content of the photograph that is the body of a request."""
    return request.args.get("name", "photograph"), request.get_data(cache=False)


def setting(request, name, convert, default):
    """Return a number from the query of a request.

    Raises:
        UserError: the query's value is not a valid number.
    """
    text = request.args.get(name)
    if text is None:
        return default
    try:
        return convert(text)
    except ValueError:
        raise UserError(f"{name}: expected a number, received {text!r}.") from None


def failure(text, status):
    """Return an error response, which is one line of text."""
    return json_response({"error": " ".join(text.split())}, status)


def json_response(content, status):
    """Return a response with json."""
    return Response(json.dumps(content), status, content_type="application/json")
