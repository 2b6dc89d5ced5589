"""The report in a browser: words highlight their areas on all screens, in both color schemes."""

import numpy as np
import pytest
from browser import RIGHT, opened
from report_example import example

from keras_aoa.visualization.report_page import render

PANEL = "section:nth-of-type(2) .panel:nth-child(1)"
SCHEMES = ("light", "dark")
# Visible elements that extend beyond the screen's left or right, outside scrolling containers.
OVERFLOWING = """
[...document.querySelectorAll('body *')].filter(each => {
  const box = each.getBoundingClientRect()
  return (box.right > innerWidth + 0.5 || box.left < -0.5) && box.width > 1
    && !each.closest('.scrolls *, .panels > *, svg *')
}).map(each => each.outerHTML.slice(0, 80))
"""
# Color and background color of each text.
COLORS = """
[...document.querySelectorAll('h1, h2, h3, p, th, td, a, li, label span, legend + *')]
.filter(each => each.getBoundingClientRect().width > 1).map(each => {
  let behind = each
  while (getComputedStyle(behind).backgroundColor == 'rgba(0, 0, 0, 0)')
    behind = behind.parentElement
  return [getComputedStyle(each).color, getComputedStyle(behind).backgroundColor]
})
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(example()), encoding="utf-8")
    with opened(path) as tab:
        yield tab


@pytest.fixture(scope="module")
def hostile_tab(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(example(hostile=True)), encoding="utf-8")
    with opened(path) as tab:
        yield tab


@pytest.fixture
def page(tab):
    """The page in its initial state."""
    tab.ask("refresh")
    tab.resize(1200, 900)
    return tab


def brightness(page, panel=PANEL):
    """Brightness of a picture, 0..255: in the area of `left`, in the area of `right`, elsewhere."""
    picture = page.picture(f"{panel} svg").astype(float).mean(axis=2)
    height, width = picture.shape

    def at(x, y):
        row, column = int(y * height), int(x * width)
        return picture[row - 4 : row + 4, column - 4 : column + 4].mean()

    return at(0.12, 0.7), at(0.75, 0.5), at(0.45, 0.9)


def highlighted(brightnesses):
    """Whether each brightness is that of the white picture; all others must be dark."""
    assert all(value > 245 or value < 120 for value in brightnesses), brightnesses
    return [value > 245 for value in brightnesses]


def test_the_page_initially_shows_plain_pictures(page):
    assert highlighted(brightness(page)) == [True, True, True]
    shown = page.is_shown("g.areas")
    assert shown and not any(shown)


def test_pointing_at_a_word_highlights_only_its_areas(page):
    page.point_at(f"{PANEL} .w1")
    assert highlighted(brightness(page)) == [True, False, False]
    assert page.is_shown(f"{PANEL} g.areas") == [True, False]
    everywhere = page.is_shown("g.areas")
    assert sum(everywhere) == 1, "areas of other captions are highlighted too"
    page.point_at(f"{PANEL} .w2")
    left, right, other = brightness(page)
    assert right > 245 and other < 70
    assert other + 15 < left < 130, "a weaker area is highlighted less"
    page.point_at("h1")
    assert highlighted(brightness(page)) == [True, True, True]


def test_a_word_with_uniform_attention_has_a_note_and_shades_nothing(page):
    page.point_at(f"{PANEL} .w3")
    assert highlighted(brightness(page)) == [True, True, True]
    assert page.is_shown(f"{PANEL} .note span.a3") == [True]


def test_a_tapped_word_stays_highlighted_until_the_pointer_is_on_another(page):
    page.resize(360, 740, is_phone=True)
    page.click(f"{PANEL} .w2")
    page.point_at("h1")
    assert page.is_shown(f"{PANEL} g.areas") == [False, True]
    page.point_at(f"{PANEL} .w1")
    assert page.is_shown(f"{PANEL} g.areas") == [True, False]
    page.click(f"{PANEL} .w0")
    assert not any(page.is_shown(f"{PANEL} g.areas"))


def test_the_last_run_is_reached_on_a_phone(page):
    page.resize(360, 740, is_phone=True)
    last = "section:nth-of-type(2) .panel:nth-child(3)"
    page.click(f"{last} .w2")
    assert page.is_shown(f"{last} g.areas") == [False, True]
    left, width = page.evaluate(
        f"(box => [box.left, box.width])(document.querySelector('{last} .w2')"
        ".getBoundingClientRect())"
    )
    assert 0 <= left <= 360 - width


def test_arrow_keys_select_the_next_word(page):
    page.point_at("h1")
    page.evaluate(f"document.querySelector('{PANEL} .w0 input').focus()")
    page.press(RIGHT)
    assert page.is_shown(f"{PANEL} g.areas") == [True, False]
    assert page.evaluate(f"document.querySelector('{PANEL} .w1 input') == document.activeElement")
    outline = page.evaluate(f"getComputedStyle(document.querySelector('{PANEL} .w1')).outlineStyle")
    assert outline == "solid"
    page.press(RIGHT)
    assert page.is_shown(f"{PANEL} g.areas") == [False, True]
    right, other = brightness(page)[1:]
    assert right > 245 and other < 70


def test_runs_stand_side_by_side_with_the_same_picture(page):
    tops, lefts, widths = zip(
        *page.evaluate(
            "[...document.querySelectorAll('article:first-child .panel svg')].slice(0, 2)"
            ".map(each => each.getBoundingClientRect()).map(box => [box.top, box.left, box.width])"
        ),
        strict=True,
    )
    assert tops[0] == tops[1] and lefts[0] + widths[0] <= lefts[1]
    pictures = [page.picture(f"section:nth-of-type(2) .panel:nth-child({n}) svg") for n in (1, 2)]
    # White except at the rounded corners.
    assert all((picture[9:-9, 9:-9] > 250).all() for picture in pictures)


@pytest.mark.parametrize("width", [320, 360, 700, 1200])
def test_nothing_overflows(page, hostile_tab, width):
    for shown in (page, hostile_tab):
        shown.resize(width, 740, is_phone=width < 700)
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.evaluate(OVERFLOWING) == []


def test_hostile_texts_are_not_executed(hostile_tab):
    assert hostile_tab.evaluate("document.scripts.length") == 0
    assert hostile_tab.evaluate("document.querySelectorAll('img').length") == 0
    assert "<script>alert('&amp;\"')</script>" in hostile_tab.evaluate("document.body.textContent")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_contrast_with_their_background(page, scheme):
    page.resize(1200, 900, scheme=scheme)
    pairs = {tuple(pair) for pair in page.evaluate(COLORS)}
    assert len(pairs) >= 4
    for pair in pairs:
        text, background = (luminance(color) for color in pair)
        contrast = (max(text, background) + 0.05) / (min(text, background) + 0.05)
        assert contrast >= 4.5, pair
    backgrounds = [luminance(background) for _, background in pairs]
    assert max(backgrounds) < 0.1 if scheme == "dark" else min(backgrounds) > 0.6


def luminance(color):
    """Relative luminance of `rgb(…)` as defined by WCAG 2."""
    parts = np.array([float(part) for part in color[4:-1].split(",")]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_no_external_resource_is_loaded(page):
    loaded = page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
