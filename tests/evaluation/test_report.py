"""The report: choice of images and areas, and a page that is self-contained and escaped."""

import html.parser
import itertools
import json
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from report_example import DIAMOND, HOSTILE, LEFT, LONG, WHOLE, example, word

from keras_aoa import evaluate as command
from keras_aoa.evaluation import report
from keras_aoa.inference.caption import Caption
from keras_aoa.utils.errors import UserError
from keras_aoa.visualization import areas, highlights
from keras_aoa.visualization.report_page import render

SIZE = (480, 360)


@pytest.fixture(autouse=True)
def without_meteor(monkeypatch):
    """Skip METEOR, whose Java process takes 7 s to start; `test_metrics.py` tests it."""
    monkeypatch.setattr(report, "start_meteor", lambda: False)


class Reader(html.parser.HTMLParser):
    """Collects a page's tags, attributes and text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.words = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())
        if self.tags[-1:] == ["bdi"] and self.tags[-3:-2] == ["input"] and data.strip():
            self.words.append(data)

    def values(self, name):
        return [value for attribute, value in self.attributes if attribute == name]


def check_self_contained(page):
    """Check that a page runs and loads nothing, and that every referenced id exists once."""
    reader = Reader(page)
    assert not {"script", "link", "iframe", "object", "embed", "img", "form"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    links = reader.values("href") + reader.values("src")
    assert links and all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "@import" not in style and "url(" not in style and "//" not in style
    names = reader.values("id")
    assert len(names) == len(set(names))
    wanted = [link[1:] for link in links if link.startswith("#")]
    wanted += re.findall(r"url\(#([^)]*)\)", page)
    for attribute in ("aria-describedby", "aria-labelledby"):
        wanted += reader.values(attribute)
    assert set(wanted) <= set(names)
    return reader


def test_every_caption_reference_and_score_is_on_the_page():
    reader = check_self_contained(render(example()))
    first, second = ["left", "right", "the"], ["square", "big"]
    assert reader.words == [*first, *second, *first, *first, *second, *first, *second]
    assert reader.texts.count("a white square") == 2 and reader.texts.count("no words") == 2
    for score in ("150.0", "50.0", "\N{MINUS SIGN}50.0", "125.0", "75.0", "25.0"):
        assert score in reader.texts
    assert reader.values("aria-label").count("1.png: a white square") == 3
    # The page contains each picture once per image, not once per run or word.
    assert sum(link.startswith("data:") for link in reader.values("href")) == 3


def test_scores_of_objects_are_explained_only_if_they_were_measured():
    content = example()
    assert "Correct phrases:" not in render(content)
    first = replace(content.runs[0], scores={**content.runs[0].scores, "phrases_correct": 0.5})
    assert "Correct phrases:" in render(replace(content, runs=(first, *content.runs[1:])))


def test_hostile_texts_are_escaped():
    page = render(example(hostile=True))
    reader = check_self_contained(page)
    assert "<script" not in page and "<img" not in page
    assert HOSTILE in reader.texts and HOSTILE in reader.words and LONG in reader.words
    assert f"{HOSTILE}: {HOSTILE}" in reader.values("aria-label")


def test_characters_without_an_encoding_in_utf_8_are_replaced():
    content = example()
    (image,) = content.sections["best"]
    image = replace(image, file="\udcff.png", references=("half \ud800 a pair",))
    page = render(replace(content, sections={"best": (image,)}))
    page.encode("utf-8")
    assert "?.png" in page and "half ? a pair" in page


def test_the_page_contains_no_web_address():
    assert "http" not in render(example()).replace("http-equiv", "")


def test_areas_are_drawn_in_units_of_the_picture():
    values = highlights.highlight(word("dog", (0.8, DIAMOND), (0.4, LEFT), (0.1, LEFT)), SIZE)
    diamond, left = "M360 90l96 90-96 90-96-90z", "M0 0l120 0 0 360-120 0z"
    assert values["holes"] == [(diamond, 1.0), (left, 0.5), (left, 0.125)]
    assert values["outlines"] == [(left, 0.5), (diamond, 1.0)]
    assert [weight for *_, weight in values["labels"]] == [0.8, 0.4]
    assert values["drawn_weight"] == pytest.approx(1.3) and values["drawn"] == 3


def test_labels_lie_inside_the_picture_and_do_not_overlap():
    random = np.random.default_rng(0)
    for _ in range(200):
        boxes = random.uniform(-0.5, 1.5, (3, 1, 2)) + LEFT * random.uniform(0.05, 2, (3, 1, 2))
        areas = zip((0.4, 0.3, 0.2), boxes, strict=True)
        labels = highlights.highlight(word("dog", *areas), SIZE)["labels"]
        positions = [position for *position, _ in labels]
        assert 1 <= len(positions) <= 3
        for x, y in positions:
            assert 0 <= x <= SIZE[0] - highlights.LABEL_WIDTH
            assert highlights.LABEL_HEIGHT - 4 <= y < SIZE[1]
        for index, (x, y) in enumerate(positions):
            for other_x, other_y in positions[:index]:
                wide, high = highlights.LABEL_WIDTH, highlights.LABEL_HEIGHT
                assert abs(x - other_x) >= wide or abs(y - other_y) >= high


def test_the_part_outside_the_network_input_is_marked():
    assert highlights.outside_window(WHOLE, SIZE) == ""
    assert highlights.outside_window([0, 0, 1.2, 1.5], SIZE) == "", "padding is outside the image"
    path = highlights.outside_window([0.125, 0, 0.875, 1], SIZE)
    assert path == "M0 0H480V360H0zM60.0 0.0V360.0H420.0V0.0z"


def test_the_legend_explains_the_part_outside_the_network_input_if_there_is_one():
    content = example()
    assert "outside the network input" not in render(content)
    (image,) = content.sections["best"]
    cropped = replace(image.captions[0], window=np.array([0.125, 0.0, 0.875, 1.0]))
    image = replace(image, captions=(cropped, *image.captions[1:]))
    page = render(replace(content, sections={"best": (image,)}))
    assert "Pale: outside the network input." in page
    assert page.count('class="outside"') == 1


@pytest.mark.parametrize(
    ("share", "percent", "style"),
    [(1.0, "100 %", "1"), (0.376, "38 %", ".38"), (0.004, "<1 %", "0"), (0.0, "0 %", "0")],
)
def test_shares_are_formatted_briefly(share, percent, style):
    assert (highlights.percent(share), highlights.short(share)) == (percent, style)


def test_negative_numbers_have_a_minus_sign_and_zero_has_none():
    assert [highlights.number(value) for value in (-12.34, -0.04, 0.0, 5)] == [
        "\N{MINUS SIGN}12.3", "0.0", "0.0", "5.0",
    ]  # fmt: skip


def test_pictures_are_scaled_down_but_never_up():
    def decoded(pixels):
        content = highlights.base64.b64decode(highlights.data_uri(pixels).split(",")[1])
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]

    large = np.full((1200, 1600, 3), (200, 30, 60), np.uint8)
    assert decoded(large).shape == (360, 480, 3)
    np.testing.assert_allclose(decoded(large)[100, 100], (200, 30, 60), atol=6)
    assert decoded(large[:30, :40]).shape == (30, 40, 3)


def test_noticeable_areas_are_sorted_from_strongest_to_weakest():
    weights = np.array([0.02, 0.6, 0.0, 0.03, 0.35])
    corners = np.arange(5)[:, None, None] + LEFT
    dog = areas.noticeable("dog", weights, corners)
    np.testing.assert_array_equal(dog.weights, [0.6, 0.35, 0.03])
    np.testing.assert_array_equal(dog.corners, corners[[1, 4, 3]])
    assert dog.regions == 5 and not dog.is_even
    assert areas.noticeable("dog", np.full(1000, 0.001), np.zeros((1000, 4, 2))).is_even
    assert not areas.noticeable("dog", np.ones(1), corners[:1]).is_even, "one region"


def test_areas_are_in_coordinates_of_the_original_without_padding():
    generated = Caption(
        "dog", ("dog",), -1.0,
        attention=np.array([[0.7, 0.3, 0.0]]),
        boxes=np.stack([LEFT, DIAMOND, LEFT]),
        mask=np.array([True, True, False]),
        window=np.array([0.25, 0.0, 0.75, 1.0]),
    )  # fmt: skip
    caption = report.report_caption(generated, 0.5)
    (dog,) = caption.words
    np.testing.assert_allclose(dog.corners[0], LEFT)
    np.testing.assert_array_equal(caption.window, generated.window)
    assert dog.regions == 2


@pytest.mark.parametrize(
    ("images", "count", "best", "middle", "worst"),
    [
        (9, 3, [0], [4], [8]),
        (10, 6, [0, 1], [4, 5], [9, 8]),
        (9, 1, [0], [], []),
        (9, 2, [0], [], [8]),
        (4, 24, [0, 1], [2], [3]),
        (1, 24, [0], [], []),
    ],
)
def test_best_middle_and_worst_each_have_a_third_of_the_images(images, count, best, middle, worst):
    sections = report.choose(list(range(images)), count)
    assert sections == {"best": best, "middle": middle, "worst": worst}
    for images in range(1, 30):
        for count in range(1, 30):
            sections = report.choose(list(range(images)), count).values()
            indices = list(itertools.chain(*sections))
            assert len(indices) == len(set(indices)) == min(images, count)
            assert set(indices) <= set(range(images))


def test_a_report_shows_runs_side_by_side_and_escapes_names(
    trained, trained_proposals, squares, tmp_path, capsys
):
    data = tmp_path / "data"
    shutil.copytree(squares, data)
    name = "<b>&amp;'.png"
    (data / "02.png").rename(data / name)
    text = (data / "captions.csv").read_text().replace("02.png", name)
    (data / "captions.csv").write_text(text.replace("square on the", "<i>square</i> on the"))
    folders = [tmp_path / "one" / "run", tmp_path / "two" / "run"]
    for folder, run in zip(folders, (trained, trained_proposals), strict=True):
        shutil.copytree(run.folder, folder)
    before = sorted(folders[0].rglob("*"))
    arguments = [str(folders[0]), "--report", "--with", str(folders[1]), "--data", str(data)]
    arguments += ["--output", str(tmp_path / "out"), "--split", "train", "--regions", "2"]
    command.main(arguments)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    reader = check_self_contained(page)
    assert sorted(folders[0].rglob("*")) == before and len(list((tmp_path / "out").iterdir())) == 1
    printed = capsys.readouterr().out
    assert f"9 of 9 images of train; report: {tmp_path}/out/report.html" in printed
    for line in (data / "captions.csv").read_text().splitlines()[1:19]:
        assert line.split(",", 1)[1].removesuffix(",train").strip('"') in reader.texts
    assert reader.texts.count("grid cells") == reader.texts.count("object proposals") == 1
    assert page.count('<div class="panel">') == 18
    assert "of 16 regions" in page or "on all 16 regions" in page
    assert "stride&nbsp;1" in page and "proposals&nbsp;2" in page
    assert {"one/run", "two/run", name} <= set(reader.texts)
    assert str(tmp_path) not in page, "a shared page must not reveal folders of the machine"
    assert "<b>&amp" not in page and "<i>" not in page
    assert "one/run: CIDEr" in printed and "two/run: CIDEr" in printed


def test_a_report_has_the_scores_of_an_evaluation(trained, tmp_path):
    command.main([str(trained.folder), "--report", "--output", str(tmp_path), "--beam", "2"])
    reader = check_self_contained((tmp_path / "report.html").read_text(encoding="utf-8"))
    scores = json.loads((trained.folder / "scores_test.json").read_text())
    assert scores["search"]["beam"] == 2
    for name in ("Bleu_1", "ROUGE_L", "CIDEr"):
        assert f"{100 * scores[name]:.1f}" in reader.texts
    captions = json.loads((trained.folder / "captions_test.json").read_text())
    legends = sorted(text for text in reader.texts if text.startswith("Words of the caption"))
    assert legends == sorted(f"Words of the caption “{each['caption']}”" for each in captions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report", "--report-images", "0"], "report-images: expected at least 1, received 0"),
        (["--report", "--split", "tset"], "a split of .*received 'tset'; its splits are train"),
        (["--report", "--with", "/nowhere"], "/nowhere: expected the folder of a run"),
        (["--report", "--with", "RUN"], "expected different runs, received .* more than once"),
        (["--report", "--stride", "1,2"], "stride: expected one number for a report"),
        (["--report", "--proposals", "5"], "proposals: does not apply to regions 'grid'"),
        (["--with", "/nowhere"], "with: expected --report beside --with /nowhere, received none"),
        (["--report", "--data", "/nowhere"], "/nowhere"),
    ],
)
def test_invalid_arguments_of_a_report_raise_a_one_line_error(trained, arguments, message):
    before = sorted(trained.folder.rglob("*"))
    arguments = [str(trained.folder) if each == "RUN" else each for each in arguments]
    with pytest.raises(UserError, match=message) as caught:
        command.main([str(trained.folder), *arguments])
    assert "\n" not in str(caught.value)
    assert sorted(trained.folder.rglob("*")) == before


def test_a_report_of_a_file_of_captions_raises_an_error():
    with pytest.raises(UserError, match="--report needs the folder of a run"):
        command.main(["--results", "captions.json", "--report"])
