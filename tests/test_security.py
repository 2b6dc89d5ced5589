"""Tests SECURITY.md: loaded data is never executed, and file names stay in their folder."""

import ast
import hashlib
import importlib.util
import io
import os
import pathlib
import re
import zipfile
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from reader_files import coco, karpathy, photographs, put, refused
from report_example import HOSTILE

from keras_aoa.data import download
from keras_aoa.data.archives import ARCHIVES
from keras_aoa.data.readers import read

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_the_tests_named_in_security_md_exist():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    names = re.findall(r"`(tests/[\w/]+\.py)`", text)
    assert len(names) > 5 and all((ROOT / name).is_file() for name in names)


# --- source code ----------------------------------------------------------------------------------

FORBIDDEN = {
    "pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "joblib",
    "cloudpickle",
    "jsonpickle",
}
RUNS_TEXT = {"eval", "exec", "__import__", "os.system", "os.popen", "keras.config.enable_unsafe"}
LOADERS = {
    "np.load": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
    "load_model": ("safe_mode", True),
    "Environment": ("autoescape", True),
}
UNSAFE_YAML = {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}


def unsafe_code(source):
    """Return the imports and calls in Python source that would execute loaded data."""
    unsafe = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            unsafe += [name for name in names if name.split(".")[0] in FORBIDDEN]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if name in RUNS_TEXT | UNSAFE_YAML or options.get("shell"):
            unsafe.append(name)
        for loader, (option, safe) in LOADERS.items():
            if f".{name}".endswith(f".{loader}") and options.get(option) is not safe:
                unsafe.append(name)
        if name.endswith((".extractall", ".unpack_archive")):
            unsafe.append(name)
    return unsafe


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "keras.models.load_model(path)",
        "keras.saving.load_model(path, safe_mode=False)",
        "yaml.load(text)",
        "jinja2.Environment()",
        "subprocess.run(text, shell=True)",
        "archive.extractall(folder)",
    ],
)
def test_the_search_for_unsafe_code_detects_it(line):
    assert unsafe_code(line)


def test_no_code_executes_loaded_data():
    folders = ("keras_aoa", "export", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 80
    for path in files:
        assert not unsafe_code(path.read_text(encoding="utf-8")), path


# --- names that leave their folder ----------------------------------------------------------------


def test_a_folder_in_karpathys_file_cannot_leave_the_data_folder(tmp_path):
    photographs(tmp_path, "a.jpg", "data/b.jpg")
    for folder in ("..", "../..", str(tmp_path), "x/../..", "\\\\host\\share"):
        text = karpathy(("a.jpg", "train", ["a dog"]), filepath=folder)
        put(tmp_path / "data", {"dataset_coco.json": text})
        refused(tmp_path / "data", "expected a path inside the data folder")


def test_links_in_the_data_folder_are_followed_but_parent_folders_in_names_are_refused(tmp_path):
    photographs(tmp_path, "store/a.jpg", "store/b.jpg", "secret.jpg")
    data = tmp_path / "data"
    put(data, {"captions_val2017.json": coco({1: "a.jpg", 2: "b.jpg"}, [(1, "a"), (2, "b")])})
    (data / "val2017").symlink_to(tmp_path / "store")
    (example, _) = read(data).splits["val"]
    assert os.path.samefile(example.path, tmp_path / "store/a.jpg")
    # `..` after a link resolves to the parent of the link's target.
    text = coco({1: "../secret.jpg"}, [(1, "a")])
    put(data, {"captions_val2017.json": text})
    refused(data, "expected a path inside the data folder")


def test_a_link_in_an_archive_becomes_a_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "secret").write_text("secret")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        link = zipfile.ZipInfo("val2017/1.jpg")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, str(tmp_path / "secret"))
        folder = zipfile.ZipInfo("val2017/folder")
        folder.create_system, folder.external_attr = 3, 0o120777 << 16
        archive.writestr(folder, str(tmp_path))
    content = content.getvalue()
    archive = replace(
        ARCHIVES["coco2017"][1],
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        keeps=("val2017",),
    )
    monkeypatch.setitem(ARCHIVES, "coco2017", (archive,))
    monkeypatch.setattr(download, "_download", lambda url, archive, path: path.write_bytes(content))
    download.fetch("coco2017", tmp_path / "data")
    for path in (tmp_path / "data").rglob("*"):
        assert not path.is_symlink()
    assert (tmp_path / "data/val2017/1.jpg").read_text() == str(tmp_path / "secret")


# --- pages ----------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Collects the names of all elements and attributes of a page, and its texts."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.attributes, self.texts = set(), set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize(
    "text", [HOSTILE, "</script>", "</style><b>", "-->", '"', "'", "HIGHLIGHTS", "CARDS"]
)
def test_the_clients_page_escapes_texts(text, tmp_path):
    spec = importlib.util.spec_from_file_location("client", ROOT / "export/client.py")
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    answer = {
        "valid": True,
        "captions": [text],
        "log_probs": [-1.5],
        "words": [[text, "dog", ""]],
        "attention": [[[0.25, 0.75], [1.0, 0.0], [0.0, 0.0]]],
        "boxes": [[[0, 0], [1, 0], [1, 1], [0, 1]]] * 2,
    }
    page = tmp_path / "page.html"
    names = [f"{text}.jpg", f"data:image/{text},x.jpg", "broken.png"]
    answers = [answer, answer, {**answer, "valid": False}]
    client.write_page(page, names, [b"image"] * 3, answers)
    parsed = Elements(page.read_text(encoding="utf-8"))
    allowed = {"html", "meta", "title", "style", "p", "section", "a", "div", "img"}
    assert parsed.elements <= allowed | {"svg", "g", "mask", "rect", "polygon"}
    assert not {name for name in parsed.attributes if name.startswith("on")}
    assert parsed.texts.count(text) == 2
    assert "default-src 'none'" in page.read_text(encoding="utf-8")
