"""The demo page in a browser: a photograph in, captions out, on wide and narrow screens."""

import pathlib
import re
import subprocess
import sys
import time

import pytest
from browser import RIGHT, opened

import keras_aoa

ROOT = pathlib.Path(__file__).resolve().parents[2]
PANEL = "#captions-result .panel"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(trained):
    command = [sys.executable, "-m", "keras_aoa.demo", trained.folder, "--port=0", "--no-browser"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            found = (re.match(r"Open (http://127\.0\.0\.1:\d+/) in", row) for row in process.stdout)
            yield next(filter(None, found))[1]
        finally:
            process.terminate()


@pytest.fixture
def tab(address):
    with opened(address) as tab:
        yield tab


def text_of(tab, selector):
    return tab.evaluate(f"document.querySelector({selector!r}).textContent.trim()")


def finished(tab, selector):
    """Wait until a status is no longer busy."""
    limit = time.monotonic() + 60
    while tab.evaluate(f"document.querySelector({selector!r}).classList.contains('busy')"):
        assert time.monotonic() < limit, selector
        time.sleep(0.05)


def choose(tab, path):
    tab.type("#file", path)
    finished(tab, "#captions-status")


def test_a_chosen_photograph_is_captioned_and_words_highlight_their_areas(tab, trained, squares):
    choose(tab, squares / "00.png")
    expected = keras_aoa.load(trained.folder).caption(str(squares / "00.png"))
    assert text_of(tab, "#captions-status") == expected.text
    assert not any(tab.is_shown(f"{PANEL} g.areas"))
    tab.evaluate(f"document.querySelector('{PANEL} .w0 input').focus()")
    tab.press(RIGHT)
    assert tab.is_shown(f"{PANEL} g.a1") == [True]
    tab.point_at(f"{PANEL} .w2")
    assert tab.is_shown(f"{PANEL} g.a2") == [True] and tab.is_shown(f"{PANEL} g.a1") == [False]
    sources = tab.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
    own = tab.evaluate("location.href")
    assert len(sources) == 2 and all(source.startswith(own) for source in sources)


def test_settings_and_sentences(tab, squares):
    choose(tab, squares / "01.png")
    tab.evaluate("document.querySelector('#captions').focus()")
    tab.press(RIGHT, RIGHT)
    finished(tab, "#captions-status")
    assert len(tab.is_shown(PANEL)) == 3
    assert tab.is_shown("#sampling") == [False]
    tab.click("[value=sample]")
    finished(tab, "#captions-status")
    assert tab.is_shown("#sampling") == [True] and len(tab.is_shown(PANEL)) == 3
    tab.type("#sentence", "A zebra on the left")
    tab.click("#given button")
    finished(tab, "#sentence-status")
    assert text_of(tab, "#note") == "The captioner does not know zebra, and reads <unk> instead."
    words = "[...document.querySelectorAll('#sentence-result bdi')].map(each => each.textContent)"
    assert tab.evaluate(words) == ["a", "<unk>", "on", "the", "left"]


def test_a_broken_file_is_one_line_and_the_next_photograph_is_captioned(tab, squares, tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf")
    choose(tab, tmp_path / "IMG_1.HEIC")
    assert "IMG_1.HEIC: expected a JPEG, PNG" in text_of(tab, "#captions-error")
    assert tab.is_shown("#captions-error") == [True] and not tab.is_shown(PANEL)
    choose(tab, squares / "02.png")
    assert tab.is_shown("#captions-error") == [False] and tab.is_shown(PANEL) == [True]


@pytest.mark.parametrize(("width", "is_phone"), [(1280, False), (390, True)])
def test_nothing_extends_beyond_the_screen(tab, squares, width, is_phone):
    tab.resize(width, 844, is_phone)
    choose(tab, squares / "03.png")
    tab.type("#sentence", "a green square on the left")
    tab.click("#given button")
    finished(tab, "#sentence-status")
    assert tab.is_shown("#scored") == [True]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
