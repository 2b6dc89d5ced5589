"""Positions on the page: panels of words in reading order, rows of a contact sheet."""

import cv2
import numpy as np
from drawn_pages import TWENTY, generated, photograph, record

from keras_aoa.visualization import pictures


def test_panels_lie_on_the_page_and_do_not_overlap(monkeypatch):
    panels, lefts, tops = (record(monkeypatch, "place", argument) for argument in range(3))
    page_height, page_width, _ = pictures.attention_picture(
        photograph(60, 80), generated(TWENTY)
    ).shape
    covered = np.zeros((page_height, page_width), int)
    for panel, left, top in zip(panels, lefts, tops, strict=True):
        height, width = panel.shape[:2]
        assert left + width <= page_width and top + height <= page_height
        covered[top : top + height, left : left + width] += 1
    assert len(panels) == 21 and covered.max() == 1


def test_words_are_read_row_by_row_each_above_its_panel(monkeypatch):
    texts, text_lefts, baselines = (record(monkeypatch, "write", number) for number in range(3))
    panels, lefts, tops = (record(monkeypatch, "place", number) for number in range(3))
    one_cell_per_word = generated(TWENTY, side=5, attention=np.eye(20, 25))
    pictures.attention_picture(np.full((100, 100, 3), 150, np.uint8), one_cell_per_word)
    positions = list(zip(tops, lefts, strict=True))
    assert positions == sorted(positions) and len(set(tops)) > 2 < len(set(lefts))
    label = dict(zip(texts, zip(text_lefts, baselines, strict=True), strict=True))
    for number, word in enumerate(TWENTY.split(), start=1):
        left, baseline = label[word]
        assert left == lefts[number] and tops[number] - pictures.LABEL < baseline <= tops[number]
        above = [top + len(panels[0]) for top in tops if top < tops[number]]
        assert max(above, default=0) <= baseline - pictures.WORD.size, "no word on a panel"
        side = len(panels[number]) // 5
        cells = panels[number][: 5 * side, : 5 * side].reshape(5, side, 5, side, 3)
        assert cells.mean(axis=(1, 3, 4)).argmax() == number - 1, "the word's own attention"


def test_a_contact_sheet_has_at_most_the_given_number_of_columns(tmp_path):
    items = [(photograph(50, 70), "a dog runs", ()) for _ in range(5)]
    wide = pictures.contact_sheet(items, tmp_path / "sheet.png", columns=5)
    narrow = pictures.contact_sheet(items, columns=2)
    cell = pictures.SHEET_WIDTH + pictures.SHEET_GAP
    assert wide.shape[1] - narrow.shape[1] == 3 * cell
    assert pictures.contact_sheet(items[:1], columns=5).shape[1] < cell + 2 * pictures.MARGIN
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1], wide)


def test_photographs_of_a_contact_sheet_lie_in_rows_above_their_captions(monkeypatch):
    photographs, lefts, tops = (record(monkeypatch, "place", number) for number in range(3))
    texts, text_lefts, baselines = (record(monkeypatch, "write", number) for number in range(3))
    items = [(photograph(50 + 20 * n, 70, n), f"caption {n}", ("one dog",)) for n in range(5)]
    sheet = pictures.contact_sheet(items, columns=2)
    cell = pictures.SHEET_WIDTH + pictures.SHEET_GAP
    assert lefts == [pictures.MARGIN + cell * (number % 2) for number in range(5)]
    assert texts == [text for number in range(5) for text in (f"caption {number}", "one dog")]
    assert text_lefts == [left for left in lefts for _ in range(2)]
    bottoms = [top + len(each) for top, each in zip(tops, photographs, strict=True)]
    for number, bottom in enumerate(bottoms):
        caption, reference = baselines[2 * number : 2 * number + 2]
        next_row = tops[2 * (number // 2 + 1) :]
        assert bottom == bottoms[number // 2 * 2], "photographs of a row end at one height"
        assert bottom + pictures.SHEET_CAPTION.size <= caption < reference
        assert reference < min(next_row, default=len(sheet)), "rows do not overlap"
