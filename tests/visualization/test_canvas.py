"""The page that pictures are put together on: places, outlines, text that fits."""

import itertools
import re

import numpy as np
import pytest

from keras_aoa.visualization import canvas as page
from keras_aoa.visualization.canvas import Page, Style, lines, shorten, shrink, text_width

STYLE = Style(16)


def test_a_placed_picture_keeps_its_pixels():
    paper, small = Page(301, 97), np.random.default_rng(0).integers(0, 250, (40, 50, 3), np.uint8)
    paper.place(small, 201, 13)
    picture = paper.finish()
    assert picture.shape == (97, 301, 3)
    np.testing.assert_array_equal(picture[13:53, 201:251], small)
    picture[13:53, 201:251] = 255
    assert (picture == 255).all()


def test_an_outline_is_cut_off_at_its_frame():
    paper = Page(100, 100)
    paper.outline([[10, 10], [90, 10], [90, 90], [10, 90]], 4, (0, 0, 50, 60))
    picture = paper.finish()
    assert (picture[30, 10] != 255).any() and (picture[10, 30] != 255).any()
    assert (picture[:, 50:] == 255).all() and (picture[60:] == 255).all()


def test_lines_fit_their_width_and_lose_no_word_where_there_is_room():
    text = "a man in a blue shirt is standing on the ladder cleaning the window"
    found = lines(text, STYLE, 120, 20)
    assert " ".join(found) == text and len(found) > 2
    assert all(text_width(line, STYLE) <= 120 for line in found)
    for line, following in itertools.pairwise(found):
        assert text_width(f"{line} {following.split()[0]}", STYLE) > 120


def test_what_does_not_fit_the_last_line_is_cut_with_an_ellipsis():
    found = lines("one two three four five six seven eight", STYLE, 80, 2)
    assert len(found) == 2 and found[1].endswith("…") and text_width(found[1], STYLE) <= 80
    assert lines("", STYLE, 80, 2) == []
    assert shorten("abc", STYLE, 80) == "abc"


def test_a_long_word_gets_smaller_letters_before_it_is_cut():
    text, style = shrink("characteristically", STYLE, 130)
    assert text == "characteristically" and style.size < STYLE.size
    text, style = shrink("characteristically" * 3, STYLE, 100)
    assert text.endswith("…") and style.size == page.SMALLEST_TEXT
    assert shrink("dog", STYLE, 100) == ("dog", STYLE)


@pytest.mark.parametrize("text", ["\udcff.jpg", "two\nlines", "\0", "\x1b[31m"])
def test_a_name_that_no_font_can_draw_is_drawn_with_question_marks(text, recwarn):
    page = Page(200, 40)
    page.write(text, 5, 25, STYLE)
    assert page.finish().min() < 200
    assert text_width(text, STYLE) == text_width(re.sub("[^ -~]", "?", text), STYLE)
    assert not recwarn


def test_dollar_signs_are_drawn_and_not_read_as_a_formula():
    def ink_width(text):
        paper = Page(200, 40)
        paper.write(text, 10, 30, STYLE)
        return np.ptp(np.flatnonzero((paper.finish() != 255).any(axis=(0, 2))))

    assert ink_width("$a$") > 2 * ink_width("a")
    assert abs(ink_width("$a$") - text_width("$a$", STYLE)) < 4
