"""Canvas: placing pictures, outlines, and fitting text."""

import itertools
import re

import numpy as np
import pytest

from keras_aoa.visualization import canvas as page
from keras_aoa.visualization.canvas import Page, Style, shorten, shrink, text_width, wrap

STYLE = Style(16)


def test_a_placed_picture_keeps_its_pixels():
    paper, small = Page(301, 97), np.random.default_rng(0).integers(0, 250, (40, 50, 3), np.uint8)
    paper.place(small, 201, 13)
    picture = paper.finish()
    assert picture.shape == (97, 301, 3)
    np.testing.assert_array_equal(picture[13:53, 201:251], small)
    picture[13:53, 201:251] = 255
    assert (picture == 255).all()


def test_an_outline_is_clipped_to_its_frame():
    paper = Page(100, 100)
    paper.outline([[10, 10], [90, 10], [90, 90], [10, 90]], 4, (0, 0, 50, 60))
    picture = paper.finish()
    assert (picture[30, 10] != 255).any() and (picture[10, 30] != 255).any()
    assert (picture[:, 50:] == 255).all() and (picture[60:] == 255).all()


def test_wrapped_lines_fit_the_width_and_keep_all_words_if_there_is_room():
    text = "a man in a blue shirt is standing on the ladder cleaning the window"
    lines = wrap(text, STYLE, 120, 20)
    assert " ".join(lines) == text and len(lines) > 2
    assert all(text_width(line, STYLE) <= 120 for line in lines)
    for line, following in itertools.pairwise(lines):
        assert text_width(f"{line} {following.split()[0]}", STYLE) > 120


def test_text_that_does_not_fit_the_last_line_ends_with_an_ellipsis():
    lines = wrap("one two three four five six seven eight", STYLE, 80, 2)
    assert len(lines) == 2 and lines[1].endswith("…") and text_width(lines[1], STYLE) <= 80
    assert wrap("", STYLE, 80, 2) == []
    assert shorten("abc", STYLE, 80) == "abc"


def test_a_long_word_gets_smaller_letters_before_it_is_truncated():
    text, style = shrink("characteristically", STYLE, 130)
    assert text == "characteristically" and style.size < STYLE.size
    text, style = shrink("characteristically" * 3, STYLE, 100)
    assert text.endswith("…") and style.size == page.SMALLEST_TEXT
    assert shrink("dog", STYLE, 100) == ("dog", STYLE)


@pytest.mark.parametrize("text", ["\udcff.jpg", "two\nlines", "\0", "\x1b[31m"])
def test_characters_that_no_font_can_draw_become_question_marks(text, recwarn):
    page = Page(200, 40)
    page.write(text, 5, 25, STYLE)
    assert page.finish().min() < 200
    assert text_width(text, STYLE) == text_width(re.sub("[^ -~]", "?", text), STYLE)
    assert not recwarn


def test_dollar_signs_are_drawn_and_do_not_start_a_formula():
    def ink_width(text):
        paper = Page(200, 40)
        paper.write(text, 10, 30, STYLE)
        return np.ptp(np.flatnonzero((paper.finish() != 255).any(axis=(0, 2))))

    assert ink_width("$a$") > 2 * ink_width("a")
    assert abs(ink_width("$a$") - text_width("$a$", STYLE)) < 4
