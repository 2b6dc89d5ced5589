"""Serves an exported captioner on TensorFlow Serving's REST path, without a container.

KServe receives the requests and TensorFlow runs the SavedModel. Keras is not imported.
"""

import asyncio
import base64
import concurrent.futures
import json
import logging
import os
import re
import time
import warnings

import kserve
import numpy as np
import tensorflow as tf
from kserve.errors import InvalidInput, ModelNotFound
from kserve.protocol.rest.server import RESTServer

from keras_aoa.utils.address import bound, url
from keras_aoa.utils.text import printable

THREADS = 64  # requests in progress at the same time
MAX_DEPTH = 8  # levels of nested lists in a request
APP = "kserve.model_server:app"
WARM_UP = "assets.extra/tf_serving_warmup_requests"


def serve(folder, name, host, port, batch, wait):
    """Serve an exported version until the process is interrupted. Prints a line per request.

    Args:
        folder: Folder of the version.
        name: Name of the model in the URL path.
        host: Address to listen on.
        port: Port to listen on.
        batch: Maximum number of images in a batch.
        wait: Milliseconds for which a batch waits for more requests.

    Raises:
        UserError: the address cannot be used.
    """
    with bound(host, port) as listener:
        print(f"{folder}: loading ...", flush=True)
        model = ServedModel(name, folder, batch, wait)
        model.load()
        server = kserve.ModelServer(http_port=port, enable_grpc=False)
        quiet_libraries()
        server.register_model(model)
        kserve.model_server.app.add_middleware(RequestLog)
        # `ModelServer.start` would listen on all networks.
        web = RESTServer(APP, server.dataplane, server.model_repository_extension, port)
        listener.listen()
        print(f"Listening on {url(host, port, f'v1/models/{name}:predict')}", flush=True)
        web.run(sockets=[listener])


def quiet_libraries():
    """Remove all log lines of KServe and its web server, except warnings and internal errors."""
    for name in ("kserve", "kserve.trace", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # KServe logs a stack trace for each invalid request.
    logging.getLogger("kserve").addFilter(
        lambda record: (
            not (record.exc_info and isinstance(record.exc_info[1], InvalidInput | ModelNotFound))
        )
    )
    warnings.filterwarnings("ignore", module="fastapi")


class RequestLog:
    """Prints method, path, status and duration of each request. An ASGI middleware."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def observed(message):
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            milliseconds = 1000 * (time.perf_counter() - started)
            path = printable(scope["path"])
            print(f"{scope['method']} {path} {status} {milliseconds:.0f} ms", flush=True)


class ServedModel(kserve.Model):
    """Serves a SavedModel in TensorFlow Serving's request and response formats.

    Args:
        name: Name of the model in the URL path.
        folder: Folder of the exported version.
        batch: Maximum number of images in a batch. A batch may combine several requests.
        wait: Milliseconds for which a batch waits for more requests.
    """

    def __init__(self, name, folder, batch, wait):
        super().__init__(name)
        self._folder = folder
        self._batch = batch
        self._wait = wait
        self._pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    def load(self):
        """Load the graph and run the export's warm-up requests."""
        self._loaded = tf.saved_model.load(str(self._folder))
        self._signatures = dict(self._loaded.signatures)
        self._inputs = {
            name: function.structured_input_signature[1]
            for name, function in self._signatures.items()
        }
        self._runs = {name: self._batching(name) for name in self._signatures}
        self._warm_up()
        self.ready = True
        return self.ready

    async def predict(self, payload, headers=None, response_headers=None):
        """Answer a request in a thread, so that the event loop can accept other requests."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._answer, payload)

    def _answer(self, payload):
        if isinstance(payload, bytes):
            # KServe parses a body only if its content type is json, which is not curl's default.
            payload = parse_json(payload)
        if not isinstance(payload, dict):
            raise InvalidInput(f"request: expected an object, received {type(payload).__name__}.")
        name = payload.get("signature_name", "serving_default")
        if not isinstance(name, str) or name not in self._signatures:
            raise InvalidInput(
                f"signature_name: expected one of {', '.join(sorted(self._signatures))}; "
                f"received {name!r}."
            )
        by_row = "instances" in payload
        if by_row == ("inputs" in payload):
            raise InvalidInput("request: expected either 'instances' or 'inputs'.")
        specs = self._inputs[name]
        values = columns(payload["instances"], specs) if by_row else payload["inputs"]
        try:
            outputs = self._runs[name](tensors(values, specs))
        except tf.errors.InvalidArgumentError as error:
            raise InvalidInput(error_reason(error.message)) from None
        outputs = {key: as_json(value.numpy()) for key, value in outputs.items()}
        if not by_row:
            return {"outputs": outputs}
        count = len(next(iter(outputs.values())))
        rows = [{key: value[row] for key, value in outputs.items()} for row in range(count)]
        return {"predictions": rows}

    def _batching(self, name):
        """Return a function that calls a signature. The function batches requests if possible."""
        function, order = self._signatures[name], sorted(self._inputs[name])
        # Inputs with one value per row, such as files, can always be concatenated; other inputs
        # have shapes that may differ between requests.
        batchable = all(spec.shape.rank == 1 for spec in self._inputs[name].values())
        if self._batch == 1 or not batchable:
            return lambda inputs: function(**inputs)
        outputs = sorted(function.structured_outputs)

        @tf.nondifferentiable_batch_function(
            num_batch_threads=1,
            max_batch_size=self._batch,
            batch_timeout_micros=round(1000 * self._wait),
            max_enqueued_batches=THREADS,
        )
        def batched(*columns):
            result = function(**dict(zip(order, columns, strict=True)))
            return [result[key] for key in outputs]

        traced = tf.function(
            lambda *columns: batched(*columns),
            input_signature=[self._inputs[name][key] for key in order],
            autograph=False,
        )

        def run(inputs):
            if len(inputs[order[0]]) > self._batch:
                return function(**inputs)
            return dict(zip(outputs, traced(*(inputs[key] for key in order)), strict=True))

        return run

    def _warm_up(self):
        from tensorflow_serving.apis import prediction_log_pb2

        path = os.fspath(self._folder / WARM_UP)
        if not os.path.exists(path):
            return
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {
                name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()
            }
            self._runs[request.model_spec.signature_name](inputs)


def columns(rows, specs):
    """Convert TensorFlow Serving's row format to a list of values for each input."""
    if not isinstance(rows, list) or not rows:
        raise InvalidInput("instances: expected a list of at least one row.")
    if len(specs) == 1:
        (name,) = specs
        # With a single input, a row may be its bare value, also a {"b64": ...}.
        rows = [row if isinstance(row, dict) and "b64" not in row else {name: row} for row in rows]
    for row in rows:
        if not isinstance(row, dict) or set(row) != set(specs):
            received = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
            raise InvalidInput(
                f"instances: expected {', '.join(sorted(specs))} in each row; received {received}."
            )
    return {name: [row[name] for row in rows] for name in specs}


def tensors(values, specs):
    """Convert parsed json to one tensor per input."""
    if len(specs) == 1 and not (isinstance(values, dict) and set(values) == set(specs)):
        values = dict.fromkeys(specs, values)
    if not isinstance(values, dict) or set(values) != set(specs):
        received = ", ".join(sorted(values)) if isinstance(values, dict) else type(values).__name__
        raise InvalidInput(f"inputs: expected {', '.join(sorted(specs))}; received {received}.")
    return {name: tensor(name, values[name], spec) for name, spec in specs.items()}


def tensor(name, value, spec):
    """Convert nested lists to an input tensor. In the lists, {"b64": ...} represents bytes."""
    value = decode_base64(value)
    try:
        # Read uint8 values as int64 first, because values above 255 would wrap.
        converted = tf.constant(value, tf.int64 if spec.dtype == tf.uint8 else spec.dtype)
        if spec.dtype == tf.uint8 and converted.dtype == tf.int64:
            if tf.reduce_any((converted < 0) | (converted > 255)):
                raise ValueError("outside 0..255")
            converted = tf.cast(converted, tf.uint8)
    except (ValueError, TypeError, OverflowError, tf.errors.InvalidArgumentError):
        raise InvalidInput(
            f"{name}: expected {spec.dtype.name} values of shape {spec.shape}, with equal shapes "
            "in all rows; received other values."
        ) from None
    if not spec.shape.is_compatible_with(converted.shape):
        raise InvalidInput(f"{name}: expected shape {spec.shape}, received {converted.shape}.")
    return converted


def parse_json(body):
    """Parse the body of a request as json."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput("request: expected json.") from None


def error_reason(message):
    """Return the reason from an error message of the graph, without the list of operations."""
    asserted = re.search(r"assertion failed: \[([^\]]*)\]", message)
    lines = [line for line in message.splitlines() if line and not line.startswith("\t")]
    return asserted[1] if asserted else lines[-1]


def decode_base64(value, depth=0):
    """Replace each {"b64": ...} in nested lists by its bytes.

    The base64 text may use the URL alphabet, contain white space, and lack padding, as in
    TensorFlow Serving.
    """
    if depth > MAX_DEPTH:
        raise InvalidInput(f"request: expected at most {MAX_DEPTH} levels of nested lists.")
    if isinstance(value, list):
        return [decode_base64(part, depth + 1) for part in value]
    if isinstance(value, dict):
        text = value.get("b64")
        if not isinstance(text, str):
            raise InvalidInput(
                f'bytes: expected {{"b64": "..."}} with text, received {type(text).__name__}.'
            )
        text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError as error:
            reason = str(error).lower() or "not ASCII"
            raise InvalidInput(f'bytes: expected base64 in {{"b64": "..."}} ({reason}).') from None
    return value


def as_json(values):
    """Convert an array to nested lists for json.

    Bytes are decoded as UTF-8. Infinite numbers and NaN become None, because json has no such
    numbers.
    """
    if values.dtype == object:
        return np.vectorize(lambda text: text.decode("utf-8", "replace"), otypes=[object])(
            values
        ).tolist()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        values = np.where(np.isfinite(values), values, None)
    return values.tolist()
