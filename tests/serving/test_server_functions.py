"""The server's own functions on a small graph, without KServe and without a socket."""

import asyncio
import base64
import concurrent.futures
import json
import socket
import threading

import numpy as np
import pytest
import tensorflow as tf
from kserve_stand_in import InvalidInput, server_module

from keras_aoa import serve
from keras_aoa.utils.errors import UserError

TEXT = tf.TensorSpec((None,), tf.string, "image_bytes")
PIXELS = tf.TensorSpec((None, 2), tf.uint8, "pixels")
SENTENCES = tf.TensorSpec((None, None), tf.string, "captions")


@pytest.fixture(scope="module")
def server():
    """The module with stand-ins for the parts of KServe that it uses."""
    with server_module() as module:
        yield module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A graph that returns each row's text, and how many rows it was run on."""

    def answer(text):
        rows = tf.shape(text)[0]
        return {"texts": tf.strings.upper(text), "rows": tf.fill([rows], rows)}

    def named(image_bytes):
        return answer(image_bytes)

    def pixels(pixels):
        refused = tf.debugging.Assert(tf.reduce_all(pixels < 200), ["pixels: too bright."])
        with tf.control_dependencies([refused]):
            return {"sums": tf.reduce_sum(tf.cast(pixels, tf.int32), axis=1)}

    def score(image_bytes, captions):
        joined = tf.strings.reduce_join(captions, axis=1, separator="+")
        return answer(tf.strings.join([image_bytes, joined], ":"))

    signatures = {"serving_default": (named, [TEXT]), "pixels": (pixels, [PIXELS])}
    signatures["score"] = (score, [TEXT, SENTENCES])
    folder = tmp_path_factory.mktemp("export") / "1"
    functions = {
        name: tf.function(function, input_signature=inputs, autograph=False)
        for name, (function, inputs) in signatures.items()
    }
    tf.saved_model.save(tf.Module(), str(folder), signatures=functions)
    return folder


def load(server, folder, batch, wait=5.0):
    model = server.ServedModel("captioner", folder, batch, wait)
    assert model.load() and model.ready
    return model


def b64(text):
    return {"b64": base64.b64encode(text.encode()).decode()}


@pytest.fixture(scope="module")
def model(server, folder):
    return load(server, folder, batch=4, wait=3000.0)


@pytest.fixture(scope="module")
def unbatched(server, folder):
    return load(server, folder, batch=1)


def ask(model, **body):
    return asyncio.run(model.predict(body))


# --- answers --------------------------------------------------------------------------------------


def test_each_row_of_a_request_has_its_own_answer(unbatched):
    expected = [{"texts": "A", "rows": 3}, {"texts": "B", "rows": 3}, {"texts": "C", "rows": 3}]
    rows = [b64(text) for text in "abc"]
    assert ask(unbatched, instances=rows) == {"predictions": expected}
    assert ask(unbatched, instances=[{"image_bytes": row} for row in rows]) == {
        "predictions": expected
    }
    columns = {"outputs": {"texts": ["A", "B", "C"], "rows": [3, 3, 3]}}
    assert ask(unbatched, inputs={"image_bytes": rows}) == columns
    assert ask(unbatched, inputs=rows) == columns


def test_a_body_is_parsed_as_json_whatever_its_content_type(unbatched):
    body = json.dumps({"instances": [b64("a")]}).encode()
    assert asyncio.run(unbatched.predict(body)) == {"predictions": [{"texts": "A", "rows": 1}]}
    with pytest.raises(InvalidInput, match=r"request: expected json\."):
        asyncio.run(unbatched.predict(b"{"))


def test_other_signatures_are_selected_by_name(unbatched):
    rows = [{"pixels": [1, 2]}, {"pixels": [30, 4]}]
    answer = ask(unbatched, signature_name="pixels", instances=rows)
    assert answer == {"predictions": [{"sums": 3}, {"sums": 34}]}
    rows = [
        {"image_bytes": b64("x"), "captions": ["a", "b"]},
        {"image_bytes": b64("y"), "captions": ["c", "d"]},
    ]
    answer = ask(unbatched, signature_name="score", instances=rows)
    assert [row["texts"] for row in answer["predictions"]] == ["X:A+B", "Y:C+D"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "expected either 'instances' or 'inputs'"),
        ({"instances": [b64("a")], "inputs": [b64("a")]}, "expected either"),
        ({"instances": []}, "at least one row"),
        ({"instances": [{"picture": 1}]}, "expected image_bytes in each row; received picture"),
        ({"inputs": {"image_bytes": 5}}, "image_bytes: expected string values of shape"),
        ({"inputs": [[b64("a")]]}, r"image_bytes: expected shape \(None,\), received \(1, 1\)"),
        ({"inputs": [], "signature_name": "no"}, "expected one of pixels, score, serving_default"),
        ({"inputs": [[300, 1]], "signature_name": "pixels"}, "pixels: expected uint8 values"),
        ({"inputs": [[-1, 1]], "signature_name": "pixels"}, "pixels: expected uint8 values"),
        ({"inputs": [[1], [1, 2]], "signature_name": "pixels"}, "with equal shapes in all rows"),
        ({"inputs": [[250, 1]], "signature_name": "pixels"}, r"^pixels: too bright\.$"),
        ({"inputs": [{"b64": "*"}]}, "expected base64"),
        ({"inputs": [{"b64": 5}]}, "received int"),
    ],
)
def test_invalid_requests_raise_one_line(unbatched, body, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        ask(unbatched, **body)
    assert "\n" not in str(caught.value)


CONTENT = bytes(range(256)) * 3


@pytest.mark.parametrize("size", [0, 766, 767, 768])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
@pytest.mark.parametrize("padded", [True, False])
def test_base64_may_have_line_breaks_another_alphabet_and_no_padding(server, size, encode, padded):
    text = encode(CONTENT[:size]).decode()
    text = text if padded else text.replace("=", "")
    for written in (text, f" {text}\r\n", text.replace("\n", "\r\n")):
        assert server.decode_base64([{"b64": written}]) == [CONTENT[:size]]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("A", "number of data characters"),
        ("AA*A", "base64"),
        ("data:image/jpeg;base64,AAAA", "base64"),
        ("\u00e9", "ascii"),
        (5, "received int"),
        (None, "received NoneType"),
        (["AAAA"], "received list"),
    ],
)
def test_other_base64_is_refused_with_the_reason(server, value, reason):
    with pytest.raises(InvalidInput, match=reason):
        server.decode_base64({"b64": value})


def test_nested_lists_have_a_limit(server):
    value = "deep"
    for _ in range(server.MAX_DEPTH):
        value = [value]
    assert server.decode_base64(value) == value
    with pytest.raises(InvalidInput, match="at most 8 levels"):
        server.decode_base64([value])


def test_arrays_become_json(server):
    assert server.as_json(np.array([[b"caf\xc3\xa9", b"\xff"]], object)) == [["café", "\ufffd"]]
    assert server.as_json(np.array([[1.5, np.inf], [np.nan, 2]])) == [[1.5, None], [None, 2.0]]
    assert server.as_json(np.array([True, False])) == [True, False]


# --- batches --------------------------------------------------------------------------------------


def ask_together(model, requests):
    """Send requests at the same time; returns their answers in order."""
    barrier = threading.Barrier(len(requests))

    def ask_one(texts):
        barrier.wait()
        return ask(model, instances=[b64(text) for text in texts])["predictions"]

    with concurrent.futures.ThreadPoolExecutor(len(requests)) as clients:
        return list(clients.map(ask_one, requests))


def test_requests_are_joined_and_each_gets_its_own_rows(model):
    requests = ["a", "b", "cd"]
    answers = ask_together(model, requests)
    # The batch of four is full before its three seconds have passed.
    for texts, answer in zip(requests, answers, strict=True):
        assert answer == [{"texts": text.upper(), "rows": 4} for text in texts]


def test_a_request_larger_than_a_batch_is_answered_at_once(model):
    answer = ask(model, instances=[b64(text) for text in "abcdef"])["predictions"]
    assert answer == [{"texts": text.upper(), "rows": 6} for text in "abcdef"]


def test_a_batch_of_one_joins_no_requests(unbatched):
    assert [answer[0]["rows"] for answer in ask_together(unbatched, ["a", "b"])] == [1, 1]


def test_requests_of_different_shapes_are_never_joined(model):
    """Sentences of two requests differ in number, so the graph runs on each request."""
    rows = [{"image_bytes": b64("x"), "captions": ["a", "b"]}]
    answer = ask(model, signature_name="score", instances=rows)
    assert answer == {"predictions": [{"texts": "X:A+B", "rows": 1}]}


# --- the command ----------------------------------------------------------------------------------


def test_the_newest_version_is_served(server, tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr(server, "serve", lambda *arguments: served.append(arguments))
    for name in ("9", "10", ".11.part"):
        (tmp_path / name).mkdir()
    serve.main([str(tmp_path), "--batch", "8", "--wait", "2"])
    serve.main([str(tmp_path), "--host", "::", "--port", "80", "--name", "x"])
    assert served == [
        (tmp_path / "10", "captioner", "127.0.0.1", 8501, 8, 2.0),
        (tmp_path / "10", "x", "::", 80, 16, 5.0),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected exported versions, found none; export a run: keras-aoa export"),
        (["--batch", "0"], "batch: expected at least 1"),
        (["--wait", "-1"], "wait: expected at least 0"),
        (["--port", "65536"], "port: expected from 1 to 65535"),
    ],
)
def test_invalid_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        serve.main([str(tmp_path), *arguments])


def test_an_address_in_use_is_refused_before_the_model_is_loaded(server, monkeypatch):
    monkeypatch.setattr(server, "ServedModel", None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1 and port {port} .*in use.*--port"):
            server.serve("folder", "captioner", "127.0.0.1", port, 1, 0)
    with pytest.raises(UserError, match=r"serve: expected an address to listen on, received 1\.2"):
        server.bound("1.2.3.4", 0)


def test_the_server_listens_on_the_given_address_only(server):
    with server.bound("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    with server.bound("::1", 0) as listener:
        assert listener.getsockname()[0] == "::1"


# --- the log of requests --------------------------------------------------------------------------


def answered(server, scope, status):
    """Send a request through `RequestLog`, and return the messages that the client receives."""

    async def app(scope, receive, send):
        if status is None:
            raise ValueError
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": b"{}"})

    received = []

    async def send(message):
        received.append(message["type"])

    asyncio.run(server.RequestLog(app)(scope, None, send))
    return received


def test_each_request_is_logged_on_one_line(server, capsys):
    request = {"type": "http", "method": "POST", "path": "/v1/models/captioner:predict"}
    assert answered(server, request, 400) == ["http.response.start", "http.response.body"]
    assert answered(server, {**request, "path": "/a\nb"}, 404)
    with pytest.raises(ValueError, match=r"^$"):
        answered(server, request, None)
    assert answered(server, {"type": "lifespan"}, 200)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" ")[0].rpartition(" ")[0] for line in lines] == [
        "POST /v1/models/captioner:predict 400",
        "POST '/a\\nb' 404",
        "POST /v1/models/captioner:predict 500",
    ]
    assert all(line.endswith(" ms") for line in lines)
