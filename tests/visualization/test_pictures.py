"""Pictures of captions and of the attention at each word."""

import subprocess
import sys
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
from drawn_pages import TWENTY, generated, grid, photograph, record

from keras_aoa.data.images.preprocessing import to_original
from keras_aoa.visualization import canvas as page
from keras_aoa.visualization import pictures
from keras_aoa.visualization.panel import View

WHOLE = (0.0, 0.0, 1.0, 1.0)
MIDDLE = (0.25, 0.0, 0.75, 1.0)


def is_blank(picture):
    return bool((picture == 255).all())


@pytest.mark.parametrize("caption", ["", "dog", "a dog runs on the beach", TWENTY])
def test_the_file_holds_the_returned_picture(caption, tmp_path):
    path = tmp_path / "picture.png"
    picture = pictures.attention_picture(photograph(60, 80), generated(caption), path)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], picture)
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("size", [(1, 1), (96, 96), (3000, 4000), (40, 2000), (2000, 40)])
@pytest.mark.parametrize("window", [WHOLE, MIDDLE])
def test_the_picture_of_an_image_of_any_shape_fits_a_screen(size, window):
    image = np.broadcast_to(np.uint8(90), (*size, 3))
    height, width, _ = pictures.attention_picture(
        image, generated("a big dog", window=window)
    ).shape
    assert 400 < width <= pictures.WIDEST + 2 * pictures.MARGIN
    assert 150 < height < 1500


def test_the_image_and_each_word_have_a_panel(monkeypatch):
    texts, panels = record(monkeypatch, "write", 0), record(monkeypatch, "place", 0)
    pictures.attention_picture(photograph(60, 80), generated("a dog runs"), title="1.jpg")
    assert len(panels) == 4
    assert len({panel.shape for panel in panels}) == 1
    assert texts == [
        *("1.jpg", "a dog runs", "log-probability −4.20"),  # noqa: RUF001
        "highlighted: attention at the word · outlined: strongest regions",
        *("image", "a", "dog", "runs"),
    ]


def test_the_legend_says_that_attention_is_uniform(monkeypatch):
    uniform = generated("a dog")
    regions = len(uniform.boxes)
    uniform.attention[:] = 1 / regions
    almost = generated("a dog")
    almost.attention[:] = uniform.attention
    almost.attention[1, :2] += (1e-5, -1e-5)
    for caption, legend in (
        (uniform, f"uniform attention: equal weights on all {regions} regions"),
        (almost, "highlighted: attention at the word · outlined: strongest regions"),
    ):
        texts = record(monkeypatch, "write", 0)
        pictures.attention_picture(photograph(60, 80), caption)
        assert legend in texts


@pytest.mark.parametrize("count", range(1, 40))
def test_columns_hold_all_panels_without_an_empty_row(count):
    columns = pictures.column_count(count, 240, 260)
    assert 1 <= columns <= count and columns * 240 <= pictures.WIDEST


def test_text_stays_inside_the_margins():
    caption = "incomprehensibilities and " * 10 + "pneumono" * 20
    image, title = photograph(90, 30), "folder/" * 90
    picture = pictures.attention_picture(image, generated(caption.strip()), title=title)
    assert is_blank(picture[:, : pictures.MARGIN - 2])
    assert is_blank(picture[:, -pictures.MARGIN + 2 :])


@pytest.mark.parametrize("caption", ["größer naïve Élan", "собака σκύλος", "狗 在 🐕"])
def test_words_of_any_script_are_drawn_without_a_warning(caption):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.attention_picture(photograph(60, 80), generated(caption))


def test_a_panel_highlights_the_attended_regions():
    view = View(np.full((80, 80, 3), 150, np.uint8), WHOLE, 1)
    one_hot = np.eye(16)[[0, 15]]
    first, last = (panel.mean(axis=2) for panel in view.highlight(one_hot, grid(4)))
    assert first[:15, :15].mean() > 2 * first[40:, 40:].mean()
    np.testing.assert_allclose(first, last[::-1, ::-1], atol=1)


def test_uniform_attention_highlights_the_whole_panel_evenly():
    view = View(np.full((80, 80, 3), 150, np.uint8), WHOLE, 1)
    [panel] = view.highlight(np.full((1, 16), 1 / 16), grid(4))
    assert np.ptp(panel.reshape(-1, 3).astype(int), axis=0).max() <= 1
    assert panel.mean() > 140


def test_the_part_outside_the_network_input_is_pale_and_never_highlighted():
    view = View(np.zeros((60, 100, 3), np.uint8), MIDDLE, 1)
    wide = to_original(grid(1) * 5 - 2, np.array(MIDDLE))
    [panel] = view.highlight(np.ones((1, 1)), wide)
    for picture in (view.photograph, panel):
        assert (picture[:, :25] > 200).all() and (picture[:, 75:] > 200).all()
    assert (view.photograph[:, 25:75] == 0).all() and (panel[:, 25:75] < 100).all()
    assert not view.is_whole and View(np.zeros((60, 100, 3), np.uint8), WHOLE, 1).is_whole


def test_outlines_mark_the_strongest_regions_with_lines_as_wide_as_their_weights():
    view = View(photograph(200, 400), MIDDLE, 1)
    attention = np.zeros((2, 16))
    attention[0, [0, 5, 10, 15]] = 0.02, 0.2, 0.28, 0.5
    attention[1] = 1 / 16
    strongest, uniform = view.outlines(attention, to_original(grid(4), np.array(MIDDLE)))
    widths = [width for _, width in strongest]
    np.testing.assert_allclose(np.divide(widths, widths[-1]), [0.4, 0.56, 1])
    corner = np.array([100 + 3 / 4 * 200, 3 / 4 * 200])
    np.testing.assert_allclose(strongest[-1][0][0], corner)
    assert uniform == []


def test_padding_is_neither_highlighted_nor_outlined():
    caption = generated("a dog")
    padded = generated(
        "a dog",
        boxes=np.concatenate([caption.boxes, caption.boxes[:3] + 0.1]),
        attention=np.pad(caption.attention, ((0, 0), (0, 3)), constant_values=0.9),
        mask=np.arange(19) < 16,
    )
    image = photograph(60, 80)
    np.testing.assert_array_equal(
        pictures.attention_picture(image, padded),
        pictures.attention_picture(image, caption),
    )


def test_a_contact_sheet_writes_references_in_gray_below_the_caption(monkeypatch):
    texts, styles = record(monkeypatch, "write", 0), record(monkeypatch, "write", 3)
    pictures.contact_sheet([(photograph(50, 70), "", ["one dog", "two dogs"])])
    assert texts == ["(no words)", "one dog", "two dogs"]
    assert [style.color == page.GRAY for style in styles] == [False, True, True]


def test_the_readme_picture_has_a_fixed_width_and_the_given_words(monkeypatch, tmp_path):
    texts, panels = record(monkeypatch, "write", 0), record(monkeypatch, "place", 0)
    caption = generated("a black dog runs on the beach")
    items = [
        (photograph(60, 90), replace(caption, window=(1 / 6, 0, 5 / 6, 1)), (1, 2, 6)),
        (photograph(90, 60), caption, (2, 3, 4, 6)),
    ]
    picture = pictures.readme_picture(items, tmp_path / "readme.png")
    assert picture.shape[1] == pictures.README_WIDTH and picture.shape[0] < 900
    first, second = ["black", "dog", "beach"], ["dog", "runs", "on", "beach"]
    assert texts == [*caption.words, *first, *caption.words, *second]
    cropped, tall = panels[0].shape, panels[4].shape
    assert len(panels) == 1 + 3 + 1 + 4
    assert cropped[0] == cropped[1] and tall[0] == pictures.README_HEIGHT > tall[1]
    assert is_blank(picture[:, -pictures.MARGIN + 2 :])


def test_the_readme_picture_shows_the_attention_at_the_given_words(monkeypatch):
    panels = record(monkeypatch, "place", 0)
    caption = generated("a b c d", side=2, attention=np.eye(4))
    image = np.full((60, 60, 3), 150, np.uint8)
    pictures.readme_picture([(image, caption, (3, 1))])
    quarters = [
        panel.reshape(2, len(panel) // 2, 2, len(panel) // 2, 3).mean(axis=(1, 3, 4)).argmax()
        for panel in panels[1:]
    ]
    assert quarters == [3, 1]


def test_a_long_caption_fits_the_readme_picture():
    items = [(photograph(60, 60), generated(TWENTY + " " + TWENTY[:60]), (0, 3, 19))]
    assert is_blank(pictures.readme_picture(items)[:, -pictures.MARGIN + 2 :])


def test_curves_show_cider_times_100_and_omit_epochs_without_a_value(monkeypatch, tmp_path):
    points, best = record(monkeypatch, "plot", 0), record(monkeypatch, "plot", 5)
    history = [
        {"epoch": 1, "loss": 4.0},
        {"epoch": 2, "loss": 3.0, "CIDEr": 0.5},
        {"epoch": 3, "loss": float("nan"), "CIDEr": 0.25},
        {"epoch": 4, "loss": 2.0, "CIDEr": None},
    ]
    picture = pictures.curves_picture(history, tmp_path / "curves.png")
    assert points == [[(1, 4.0), (2, 3.0), (4, 2.0)], [(2, 50.0), (3, 25.0)]]
    assert best == [None, (2, 50.0)]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "curves.png"))[..., ::-1], picture)
    assert pictures.curves_picture(history[:1]).shape == picture.shape


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(monkeypatch, tmp_path):
    path = tmp_path / "curves.png"
    path.write_text("old")

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        pictures.curves_picture([{"epoch": 1, "loss": 4.0}], path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="missing"):
        pictures.curves_picture([{"epoch": 1, "loss": 4.0}], tmp_path / "missing" / "a.png")


IMAGE, DOG = np.zeros((8, 8, 3), np.uint8), generated("a dog")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pictures.attention_picture(IMAGE / 255, DOG), "uint8.*of float64"),
        (lambda: pictures.attention_picture(IMAGE[..., 0], DOG), r"received shape \(8, 8\)"),
        (lambda: pictures.attention_picture(IMAGE[:0], DOG), r"shape \(0, 8, 3\)"),
        (
            lambda: pictures.attention_picture(IMAGE, generated("a dog", attention=None)),
            "'a dog' has no attention; generate it with_attention=True",
        ),
        (
            lambda: pictures.attention_picture(IMAGE, generated("a dog", boxes=grid(3))),
            r"for 2 words, received shapes \(2, 16\) and \(9, 4, 2\)",
        ),
        (
            lambda: pictures.attention_picture(IMAGE, generated("a dog", boxes=grid(4) * np.nan)),
            "not finite",
        ),
        (lambda: pictures.contact_sheet([]), "received 0 and 4"),
        (lambda: pictures.contact_sheet([(IMAGE, "a", ())], columns=0), "received 1 and 0"),
        (lambda: pictures.readme_picture([]), "received none"),
        (
            lambda: pictures.readme_picture([(IMAGE, DOG, (0, 2))]),
            r"indices of the 2 words of 'a dog', received \[0, 2\]",
        ),
        (lambda: pictures.curves_picture([]), "at least one epoch"),
    ],
)
def test_invalid_input_raises_a_one_line_error(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value) and "_" in str(caught.value).split(":")[0]


def test_importing_pictures_loads_no_heavy_package_and_drawing_no_pyplot():
    code = (
        "import sys; from keras_aoa.visualization import pictures;"
        "heavy = {'matplotlib', 'cv2', 'tensorflow'} & set(sys.modules); assert not heavy, heavy;"
        "pictures.curves_picture([{'epoch': 1, 'loss': 4.0}]);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
