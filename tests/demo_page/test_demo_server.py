"""The demo page's server: its paths, its errors of one line, and its policy."""

import re
import socket

import pytest
from werkzeug.test import Client

from keras_aoa import demo
from keras_aoa.demo_page.server import Page, serve
from keras_aoa.utils.errors import UserError
from keras_aoa.visualization.highlights import TEMPLATES

PARTS = ("status", "error", "result")  # of the page, for each of the two requests


class StandIn:
    """Stands in for `Demonstration`: repeats its arguments, or raises `error`."""

    max_words = 7
    error = None

    def captions(self, *arguments, **settings):
        if self.error:
            raise self.error
        return f"<p>{arguments} {settings}</p>", ["a dog"], ""

    def sentence(self, *arguments):
        return f"<p>{arguments}</p>", ["a dog"], "note"


@pytest.fixture
def stand_in():
    return StandIn()


@pytest.fixture
def client(stand_in):
    return Client(Page(stand_in, "runs/<b>", max_pixels=1000))


def test_the_page_has_the_settings_of_the_captioner(client):
    reply = client.get("/")
    assert reply.status_code == 200 and reply.mimetype == "text/html"
    assert "Captions by <bdi>runs/&lt;b&gt;</bdi>" in reply.text and "<b>" not in reply.text
    assert 'id="min_words" min="0" max="7"' in reply.text
    assert 'data-max-bytes="4000"' in reply.text


def test_the_script_finds_only_elements_that_the_page_has(client):
    script = client.get("/demo.js").text
    wanted = {
        *re.findall(r'find\("([^"$]+)"\)', script),
        *(f"{path}-{part}" for path in ("captions", "sentence") for part in PARTS),
    }
    assert len(wanted) > 15
    assert wanted <= set(re.findall(r'id="([^"]+)"', client.get("/").text))


def test_nothing_comes_from_other_machines(client):
    for name in ("demo.html", "demo.css", "demo.js"):
        assert not re.search(r"https?:|//[a-z]", (TEMPLATES / name).read_text(encoding="utf-8"))
    policy = client.get("/").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; connect-src 'self'")
    sources = {source for part in policy.split("; ") for source in part.split()[1:]}
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:", "blob:"}
    assert "script-src 'self' 'unsafe-inline'" not in policy


def test_settings_reach_the_captioner(client):
    path = "/captions?name=a%20b.jpg&captions=3&min_words=2&temperature=0.5&seed=9"
    settings = "{'count': 3, 'min_words': 2, 'temperature': 0.5, 'seed': 9}"
    reply = client.post(path, data=b"\xff\xd8").get_json()
    assert reply["html"] == f"<p>('a b.jpg', b'\\xff\\xd8') {settings}</p>"
    assert (reply["captions"], reply["note"]) == (["a dog"], "")
    settings = "{'count': 1, 'min_words': 0, 'temperature': None, 'seed': 0}"
    reply = client.post("/captions", data=b"").get_json()
    assert reply["html"] == f"<p>('photograph', b'') {settings}</p>"


def test_a_sentence_reaches_the_captioner(client):
    reply = client.post("/sentence?name=a&sentence=ein%20gro%C3%9Fer+Hund", data=b"1").get_json()
    assert reply["html"] == "<p>('a', b'1', 'ein großer Hund')</p>" and reply["note"] == "note"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("a.jpg: expected\na photograph."), 400, "a.jpg: expected a photograph."),
        (MemoryError(), 503, "demo: out of memory; shrink the photograph."),
        (KeyError("secret"), 500, "demo: an unexpected error; the terminal shows more."),
    ],
)
def test_errors_are_one_line(client, stand_in, capsys, error, status, line):
    stand_in.error = error
    reply = client.post("/captions", data=b"1")
    assert (reply.status_code, reply.get_json()) == (status, {"error": line})
    assert ("Traceback" in capsys.readouterr().err) == (status == 500)
    stand_in.error = None
    assert client.post("/captions", data=b"1").status_code == 200


@pytest.mark.parametrize("query", ["captions=x", "min_words=", "temperature=hot", "seed=1.5"])
def test_a_setting_that_is_no_number_is_named(client, query):
    name, _, value = query.partition("=")
    reply = client.post(f"/captions?{query}", data=b"1")
    assert reply.status_code == 400
    assert reply.get_json() == {"error": f"{name}: expected a number, received {value!r}."}


def test_other_requests_are_refused(client):
    assert client.get("/captions").status_code == 405
    assert client.get("/etc/passwd").status_code == 404
    assert client.get("/../server.py").status_code == 404
    assert client.post("/captions", data=bytes(4000)).status_code == 200
    reply = client.post("/captions", data=bytes(4001))
    assert reply.status_code == 413
    assert reply.get_json() == {"error": "demo: request entity too large."}


def test_an_address_in_use_is_refused_before_the_run_is_loaded():
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(UserError, match=r"^demo: expected an address .*in use.*--port"),
    ):
        serve("no/run", "127.0.0.1", other.getsockname()[1], False, 1000)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port", "65536"], "port: expected 0 to 65535, received 65536."),
        (["--max-megapixels", "0"], "max_megapixels: expected a finite number above 0"),
        (["--max-megapixels", "inf"], "max_megapixels: expected a finite number above 0"),
    ],
)
def test_a_setting_of_the_command_out_of_range_is_refused(arguments, line):
    with pytest.raises(UserError, match=line):
        demo.main(["flickr8k", *arguments])


def test_the_command_passes_its_settings_on(monkeypatch):
    received = []
    monkeypatch.setattr("keras_aoa.demo_page.server.serve", lambda *each: received.append(each))
    demo.main(["runs/a"])
    demo.main(["runs/a", "--host", "::", "--port", "0", "--no-browser", "--max-megapixels", "1.5"])
    assert received == [
        ("runs/a", "127.0.0.1", 7860, True, 50_000_000),
        ("runs/a", "::", 0, False, 1_500_000),
    ]
