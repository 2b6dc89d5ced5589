"""Tests of the downloader with a local server; they need no network."""

import dataclasses
import hashlib
import http.server
import json
import pathlib
import shutil
import socket
import threading
import zipfile

import numpy as np
import pytest

from keras_aoa.data import download
from keras_aoa.data.archives import ARCHIVES, Archive
from keras_aoa.data.readers import read
from keras_aoa.utils import command_line
from keras_aoa.utils.errors import UserError

pytest.importorskip("gdown", reason="the extra `download` is not installed")


class Server:
    """Serves `files` (bytes by path) with byte ranges, and drops the next `drops` connections."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.drops = 0
        self.requests: list[tuple[str, str | None]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append((self.path, self.headers["Range"]))
                body = server.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                first = int((self.headers["Range"] or "bytes=0-")[len("bytes=") : -1])
                part = body[first:]
                self.send_response(206 if self.headers["Range"] else 200)
                self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
                self.send_header("Content-Length", str(len(part)))
                if self.headers["Range"]:
                    self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
                self.end_headers()
                if server.drops:
                    server.drops -= 1
                    part = part[: len(part) // 2]
                try:
                    self.wfile.write(part)
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "RETRIES", 0)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def zipped(path: pathlib.Path, members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w") as content:
        for name, data in members.items():
            content.writestr(name, data)
    return path.read_bytes()


def captions(name: str) -> bytes:
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": name}],
            "annotations": [{"id": 7, "image_id": 1, "caption": "a dog"}],
        }
    ).encode()


@pytest.fixture
def coco(server, tmp_path, monkeypatch):
    """A small COCO 2017 on the server; the value is the content of its photograph."""
    photograph = np.random.default_rng(0).bytes(3_000_000)
    contents = {
        "annotations/annotations_trainval2017.zip": {
            "annotations/captions_train2017.json": captions("1.jpg"),
            "annotations/captions_val2017.json": captions("2.jpg"),
            "annotations/person_keypoints_val2017.json": b"{}",
        },
        "zips/train2017.zip": {"train2017/": b"", "train2017/1.jpg": photograph},
        "zips/val2017.zip": {"val2017/2.jpg": b"small"},
    }
    keeps = {
        "annotations/annotations_trainval2017.zip": (
            "annotations/captions_train2017.json",
            "annotations/captions_val2017.json",
        ),
        "zips/train2017.zip": ("train2017",),
        "zips/val2017.zip": ("val2017",),
    }
    archives = []
    for path, members in contents.items():
        data = zipped(tmp_path / "made.zip", members)
        server.files[f"/{path}"] = data
        digest = hashlib.sha256(data).hexdigest()
        archives.append(Archive(server.url, path, len(data), digest, 4_000_000, keeps[path]))
    monkeypatch.setitem(ARCHIVES, "coco2017", tuple(archives))
    return photograph


def files(folder: pathlib.Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_downloaded_data_can_be_read(coco, tmp_path, capsys):
    download.fetch("coco2017", tmp_path / "data")
    data = read(tmp_path / "data")
    assert {split: len(examples) for split, examples in data.splits.items()} == {
        "train": 1,
        "val": 1,
    }
    assert pathlib.Path(data.splits["train"][0].path).read_bytes() == coco
    # No other files remain: neither archives nor unused files.
    assert files(tmp_path / "data") == {
        "annotations/captions_train2017.json",
        "annotations/captions_val2017.json",
        "train2017/1.jpg",
        "val2017/2.jpg",
    }
    assert "GB of free space" in capsys.readouterr().out


def test_second_call_sends_no_requests(coco, server, tmp_path, capsys):
    download.fetch("coco2017", tmp_path / "data")
    count = len(server.requests)
    download.fetch("coco2017", tmp_path / "data")
    assert len(server.requests) == count
    assert "nothing to do" in capsys.readouterr().out


def test_dropped_connection_resumes_in_the_next_call(coco, server, tmp_path):
    archive = ARCHIVES["coco2017"][1]
    server.files = {f"/{archive.path}": server.files[f"/{archive.path}"]}
    ARCHIVES["coco2017"] = (archive,)
    server.drops = 1
    with pytest.raises(UserError, match=r"train2017.zip: .* incomplete.*resumes the download"):
        download.fetch("coco2017", tmp_path)
    (part,) = (tmp_path / ".download").glob("*.part")
    received = part.stat().st_size
    assert 0 < received < archive.size
    download.fetch("coco2017", tmp_path)
    assert (f"/{archive.path}", f"bytes={received}-") in server.requests
    assert (tmp_path / "train2017/1.jpg").read_bytes() == coco


def test_dropped_connection_resumes_in_the_same_call(coco, server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 2)
    monkeypatch.setattr("random.uniform", lambda *_: 0.01)
    server.drops = 2
    download.fetch("coco2017", tmp_path / "data")
    assert (tmp_path / "data/train2017/1.jpg").read_bytes() == coco


def test_archive_that_was_complete_at_an_interruption_is_used(coco, server, tmp_path):
    archive = ARCHIVES["coco2017"][1]
    (tmp_path / ".download").mkdir()
    part = tmp_path / ".download" / "train2017.zipabcdefgh.part"
    part.write_bytes(server.files[f"/{archive.path}"])
    ARCHIVES["coco2017"] = (archive,)
    download.fetch("coco2017", tmp_path)
    assert (tmp_path / "train2017/1.jpg").read_bytes() == coco


def test_wrong_checksum_is_a_one_line_error_and_the_file_is_renamed(coco, server, tmp_path):
    good = dict(server.files)
    server.files["/zips/val2017.zip"] = good["/zips/val2017.zip"][:-1] + b"x"
    with pytest.raises(UserError, match=r"^val2017.zip: expected SHA-256 \w{64}, received .*$"):
        download.fetch("coco2017", tmp_path / "data")
    assert (tmp_path / "data/.download/val2017.zip.bad").exists()
    assert not (tmp_path / "data/val2017").exists()
    server.files = good
    download.fetch("coco2017", tmp_path / "data")
    assert (tmp_path / "data/val2017/2.jpg").read_bytes() == b"small"


def test_network_failure_is_a_one_line_error(coco, tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(SystemExit) as stop:
        command_line.run(download.main, ["coco2017", str(tmp_path / "data"), "--base-url", url])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("annotations_trainval2017.zip: expected to download " + url)
    assert "refused" in last and "check the network" in last


def test_missing_file_on_the_server_is_a_one_line_error(coco, server, tmp_path):
    server.files.clear()
    with pytest.raises(UserError, match="404"):
        download.fetch("coco2017", tmp_path / "data")


def test_too_little_space_is_reported_before_any_download(coco, server, tmp_path, monkeypatch):
    sizes = ((1, 2), (20, 30), (4, 5))  # GB packed and unpacked
    ARCHIVES["coco2017"] = tuple(
        dataclasses.replace(archive, size=packed * 10**9, unpacked=unpacked * 10**9)
        for archive, (packed, unpacked) in zip(ARCHIVES["coco2017"], sizes, strict=True)
    )
    free = 51_900_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": free}))
    # The peak is the second archive, its contents, and the contents of the first: 2 + 20 + 30.
    message = r"coco2017: expected 52.00 GB of free space in .*data, received 51.90 GB; free some"
    with pytest.raises(UserError, match=message):
        download.fetch("coco2017", tmp_path / "data")
    assert server.requests == []


def test_folder_that_cannot_be_created_is_a_one_line_error(coco, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UserError, match="expected a writable folder"):
        download.fetch("coco2017", tmp_path / "data")


def test_existing_files_are_never_overwritten(coco, tmp_path):
    mine = tmp_path / "data/annotations/captions_val2017.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    download.fetch("coco2017", tmp_path / "data")
    assert mine.read_text() == "mine"
    assert (tmp_path / "data/annotations/captions_train2017.json").exists()


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "val2017/../../o.txt"])
def test_archive_with_paths_outside_its_folder_is_rejected(coco, server, tmp_path, name):
    data = zipped(tmp_path / "made.zip", {"val2017/2.jpg": b"small", name: b"evil"})
    archive = dataclasses.replace(
        ARCHIVES["coco2017"][2], size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    server.files[f"/{archive.path}"] = data
    ARCHIVES["coco2017"] = (archive,)
    with pytest.raises(UserError, match=r"val2017.zip: expected a path inside the data folder"):
        download.fetch("coco2017", tmp_path / "data")
    assert files(tmp_path) == {"made.zip", "data/.download/val2017.zip"}


@pytest.mark.parametrize(
    ("members", "message"),
    [(None, "expected a zip file"), ({"other/2.jpg": b""}, "expected val2017 in the archive")],
)
def test_archive_with_unexpected_content_is_a_one_line_error(
    coco, server, tmp_path, members, message
):
    data = b"no zip" if members is None else zipped(tmp_path / "made.zip", members)
    archive = dataclasses.replace(
        ARCHIVES["coco2017"][2], size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    server.files[f"/{archive.path}"] = data
    ARCHIVES["coco2017"] = (archive,)
    with pytest.raises(UserError, match=f"^val2017.zip: {message}.*$"):
        download.fetch("coco2017", tmp_path / "data")


def test_each_archive_has_a_checksum_and_a_secure_address():
    archives = [archive for group in ARCHIVES.values() for archive in group]
    assert len({archive.sha256 for archive in archives}) == len(archives) == 7
    for archive in archives:
        assert len(bytes.fromhex(archive.sha256)) == 32
        assert archive.host.startswith("https://")
        assert archive.keeps and archive.unpacked and archive.size


def test_unknown_data_set_is_a_one_line_error():
    with pytest.raises(UserError, match="invalid choice 'coco2018'") as error:
        download.main(["coco2018", "folder"])
    assert "coco2017" in str(error.value) and "\n" not in str(error.value)
