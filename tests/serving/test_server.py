"""Tests the server over a socket: formats, invalid requests, concurrent clients, and the client."""

import base64
import concurrent.futures
import contextlib
import http.client
import importlib.util
import json
import pathlib
import socket
import subprocess
import time

import numpy as np
import pytest
from pictures_of_all_kinds import bad_files, file_of, good_files, photograph

from keras_aoa.inference.image_captioner import ImageCaptioner

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-serve/bin/python"
PATH = "/v1/models/captioner:predict"

pytestmark = pytest.mark.skipif(
    not (ROOT / ".venv-serve/installed").exists(),
    reason="no server installed: make .venv-serve/installed",
)


@contextlib.contextmanager
def serving(out, log, *arguments):
    """Serve an export while the block runs; yields the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, ROOT / "export/server.py", out, "--port", str(port), *arguments]
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError):
                if call(port, "GET", "/v1/models/captioner")[0] == 200:
                    break
            time.sleep(0.1)
        yield port
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def port(cropped, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(cropped / "out", log, "--batch", "8") as number:
        yield number


@pytest.fixture(scope="module")
def live(cropped):
    return ImageCaptioner(cropped / "run")


def call(port, method, path, body=None):
    """Send a request and return its status and parsed response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read() or b"null")
    finally:
        connection.close()


def b64(file):
    return {"b64": base64.b64encode(file).decode()}


def predict(port, **body):
    return call(port, "POST", PATH, json.dumps(body))


def texts(captions):
    return [caption.text for caption in captions]


def test_row_and_column_formats_give_the_captions_of_the_live_model(port, live):
    files = list(good_files().values())
    status, rows = predict(port, instances=[{"image_bytes": b64(file)} for file in files])
    assert status == 200, rows
    assert predict(port, instances=[b64(file) for file in files]) == (200, rows)
    status, columns = predict(port, inputs={"image_bytes": [b64(file) for file in files]})
    assert columns["outputs"]["captions"] == [row["captions"] for row in rows["predictions"]]
    for file, row in zip(files, rows["predictions"], strict=True):
        captions = live.captions(file)
        assert row["captions"] == texts(captions)
        expected = [caption.log_prob for caption in captions]
        np.testing.assert_allclose(row["log_probs"], expected, atol=1e-4)


def test_other_signatures_are_selected_by_name(port, live):
    image = photograph()
    rows = [{"pixels": image.tolist()}]
    status, answer = predict(port, signature_name="pixels", instances=rows)
    assert status == 200
    assert answer["predictions"][0]["captions"] == texts(live.captions(image))
    rows = [{"image_bytes": b64(file_of(image)), "captions": ["a red square", "a blue one"]}]
    status, answer = predict(port, signature_name="score", instances=rows)
    assert status == 200
    assert len(answer["predictions"][0]["log_probs"]) == 2


IMAGE = b64(file_of(photograph()))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "unrecognized request format"),
        (b"{", "unrecognized request format"),
        (b"[]", "expected an object"),
        (json.dumps({}), "either 'instances' or 'inputs'"),
        (json.dumps({"instances": []}), "at least one row"),
        (json.dumps({"instances": [{"picture": IMAGE}]}), "expected image_bytes in each row"),
        (json.dumps({"instances": [{"image_bytes": {"b64": "*"}}]}), "base64"),
        (json.dumps({"instances": [{"image_bytes": [IMAGE]}]}), "shape"),
        (json.dumps({"instances": [{"image_bytes": 5}]}), "string"),
        (json.dumps({"inputs": {"image_bytes": []}, "signature_name": "no"}), "score"),
        (json.dumps({"inputs": [IMAGE], "signature_name": []}), "score"),
        (json.dumps({"instances": [{"b64": "\u00e9"}]}), "base64"),
        ('{"instances": ' + "[" * 100 + "]" * 100 + "}", "levels of nested lists"),
        (json.dumps({"instances": [[[[300]]]], "signature_name": "pixels"}), "pixels: expected"),
        (
            json.dumps(
                {
                    "inputs": {"image_bytes": [IMAGE], "captions": [["a"], ["b"]]},
                    "signature_name": "score",
                }
            ),
            "captions: expected a row for each image",
        ),
    ],
)
def test_an_invalid_request_gets_an_error_message(port, body, message):
    status, answer = call(port, "POST", PATH, body)
    assert 400 <= status < 500, answer
    assert message.lower() in json.dumps(answer).lower()


def test_any_content_type_is_accepted(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body, status in ((json.dumps({"instances": [IMAGE]}), 200), ("{", 400)):
        connection.request("POST", PATH, body, form)
        reply = connection.getresponse()
        assert (reply.status, bool(reply.read())) == (status, True)
    connection.close()


def test_an_unknown_model_is_not_found(port):
    status, _ = call(port, "POST", "/v1/models/other:predict", json.dumps({"instances": [IMAGE]}))
    assert status == 404


def test_eight_clients_get_correct_answers_to_a_thousand_requests(port, live):
    good, bad = good_files(), list(bad_files().values())
    expected = {name: texts(live.captions(file)) for name, file in good.items()}
    names = list(expected)

    def ask(number):
        kind = number % 8
        if kind == 0:
            return call(port, "POST", PATH, b"")[0] in (400, 422)
        if kind == 1:
            status, answer = predict(port, instances=[b64(bad[number % len(bad)])])
            return status == 200 and answer["predictions"][0]["valid"] is False
        chosen = [names[(number + step) % len(names)] for step in range(1 + kind % 3)]
        rows = [b64(good[name]) for name in chosen] + [b64(bad[number % len(bad)])]
        status, answer = predict(port, instances=rows)
        captions = [row["captions"] for row in answer["predictions"]]
        same = captions[:-1] == [expected[name] for name in chosen]
        return status == 200 and same and not answer["predictions"][-1]["valid"]

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        correct = list(clients.map(ask, range(1000)))
    assert correct.count(True) == 1000, np.flatnonzero(~np.array(correct))


# --- The client -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    spec = importlib.util.spec_from_file_location("client", ROOT / "export/client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def files(tmp_path):
    (tmp_path / "photo <1>.jpg").write_bytes(file_of(photograph()))
    (tmp_path / "text.jpg").write_bytes(b"text")
    return [str(tmp_path / "photo <1>.jpg"), str(tmp_path / "text.jpg")]


def test_the_client_prints_captions_and_writes_a_page(client, port, live, files, capsys, tmp_path):
    page = tmp_path / "page.html"
    url = f"http://127.0.0.1:{port}"
    assert client.main([files[0], "--url", url, "--page", str(page)]) == 0
    caption = live.caption(files[0])
    assert f"{caption.text} ({caption.log_prob:.2f})" in capsys.readouterr().out
    text = page.read_text()
    assert "photo &lt;1&gt;.jpg" in text
    assert text.count("<a tabindex") == len(caption.words)
    assert text.count("<polygon") >= len(caption.words)
    assert client.main([*files, "--url", url, "--page", str(page)]) == 1
    assert "text.jpg: not an image" in capsys.readouterr().out


def test_the_client_scores_a_sentence(client, port, files, capsys):
    url = f"http://127.0.0.1:{port}"
    assert client.main([files[0], "--url", url, "--score", "A red square!"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["a", "red", "square"]


def test_the_client_reports_errors_in_one_line(client, port, files, capsys):
    assert client.main([files[0], "--url", "http://127.0.0.1:9"]) == 1
    assert "is the server running?" in capsys.readouterr().err
    assert client.main([files[0], "--url", f"http://127.0.0.1:{port}", "--model", "other"]) == 1
    assert "404" in capsys.readouterr().err
    for arguments in (["--url", ""], ["--url", "localhost:9"], ["--model", "a b"]):
        assert client.main([files[0], "--url", f"http://127.0.0.1:{port}", *arguments]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert client.main(["/nowhere.jpg"]) == 1
    assert "/nowhere.jpg" in capsys.readouterr().err


def test_the_client_captions_over_grpc(client, cropped, live, files, capsys):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    model = tf.saved_model.load(str(cropped / "out/1"))

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            function = model.signatures[request.model_spec.signature_name]
            inputs = {key: tf.constant(tf.make_ndarray(v)) for key, v in request.inputs.items()}
            reply = predict_pb2.PredictResponse()
            for key, value in function(**inputs).items():
                reply.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
            return reply

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    assert client.main([files[0], "--grpc", f"127.0.0.1:{port}"]) == 0
    server.stop(0)
    assert live.caption(files[0]).text in capsys.readouterr().out
    assert client.main([files[0], "--grpc", "127.0.0.1:9"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


def test_configuration_files_can_be_parsed_by_the_server():
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (ROOT / "export/models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert config.model_config_list.config[0].name == "captioner"
