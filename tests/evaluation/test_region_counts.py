"""Scores over the number of regions of one run: the sweep, its table and its curve."""

import json
import shutil

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes

from keras_aoa import evaluate as command
from keras_aoa.evaluation import evaluate as evaluation
from keras_aoa.evaluation import region_counts
from keras_aoa.runs.run import Run
from keras_aoa.utils.errors import UserError


@pytest.fixture(autouse=True)
def without_meteor(monkeypatch):
    """Skip METEOR, whose Java process takes 7 s to start; `test_metrics.py` tests it."""
    for module in (evaluation, region_counts):
        monkeypatch.setattr(module, "start_meteor", lambda: False)


def copied(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    for name in ("scores.json", "scores_test.json"):
        (tmp_path / "run" / name).unlink()
    return Run(tmp_path / "run")


def rows_of(run, split="test"):
    content = json.loads((run.folder / f"regions_{split}.json").read_text())
    assert content["split"] == split
    return content


def table_of(text):
    """Return the lines of the printed table as lists of cells."""
    lines = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return [line for line in cells if len(line) > 4]


def check_files(run, curves):
    """Check that the picture shows CIDEr of all rows by count, and that no partial files remain."""
    picture = cv2.imread(str(run.folder / "regions_test.png"))
    assert picture.shape == (480, 720, 3)
    assert picture.std() > 10
    assert not list(run.folder.rglob("*.part*"))
    points = sorted((row["count"], 100 * row["CIDEr"]) for row in rows_of(run)["rows"])
    assert len(points) == 3
    assert curves == [(run.configuration.regions, points)]


@pytest.fixture
def curves(monkeypatch):
    """Record the label and the points of each curve that is drawn."""
    drawn, plot = [], Axes.plot

    def recording(axes, x, y, **style):
        drawn.append((style["label"], list(zip(x, y, strict=True))))
        return plot(axes, x, y, **style)

    monkeypatch.setattr(Axes, "plot", recording)
    return drawn


def test_strides_are_scored_in_the_given_order(trained, tmp_path, capsys, curves):
    run = copied(trained, tmp_path)
    command.main([str(run.folder), "--stride", "3,1,2", "--beam", "1"])
    printed = capsys.readouterr().out
    content = rows_of(run)
    assert content["setting"] == "stride" and content["run"] == str(run.folder)
    rows = content["rows"]
    # The CNN for scenes has 4x4 cells of 32 pixels.
    assert [(row["stride"], row["count"]) for row in rows] == [(3, 4.0), (1, 16.0), (2, 4.0)]
    heading, *lines = table_of(printed)
    assert heading == ["stride", "regions per image", "Bleu_4", "CIDEr", "ms per image"]
    for line, row in zip(lines, rows, strict=True):
        scores = [f"{100 * row[name]:.1f}" for name in ("Bleu_4", "CIDEr")]
        assert line[:4] == [str(row["stride"]), f"{row['count']:.1f}", *scores]
        assert row["seconds"] > 0
    assert f"3 images of test; table and curve: {run.folder}/regions_test.*" in printed
    check_files(run, curves)
    assert not (run.folder / "scores.json").exists(), "a sweep must not write scores.json"
    # Each value has the same scores as an evaluation with only that value.
    command.main([str(run.folder), "--stride", "2", "--beam", "1", "--pictures", "0"])
    scores = json.loads((run.folder / "scores.json").read_text())
    assert scores["search"]["stride"] == 2
    for name in ("Bleu_4", "CIDEr"):
        assert rows[2][name] == pytest.approx(scores[name], abs=1e-12)


def test_proposals_are_limited_by_the_number_in_each_image(
    trained_proposals, tmp_path, capsys, curves
):
    run = copied(trained_proposals, tmp_path)
    command.main([str(run.folder), "--proposals", "1,2,2000", "--beam", "1"])
    content = rows_of(run)
    counts = [row["count"] for row in content["rows"]]
    assert [row["proposals"] for row in content["rows"]] == [1, 2, 2000]
    assert counts[0] == 1.0
    images = run.load_images("test", run.load_data().splits["test"], cache_gb=1.0)
    available = [images.proposal_count(index) for index in images.readable]
    # A line and an image of one color have only the whole image.
    assert available.count(1) == 2 and len(available) == 8 and max(available) > 3
    assert counts[1:] == [pytest.approx(np.mean(np.minimum(available, most))) for most in (2, 2000)]
    assert table_of(capsys.readouterr().out)[0][0] == "proposals"
    check_files(run, curves)


def test_a_single_value_runs_an_ordinary_evaluation(trained_proposals, tmp_path):
    run = copied(trained_proposals, tmp_path)
    command.main([str(run.folder), "--regions", "2", "--beam", "1", "--pictures", "1"])
    scores = json.loads((run.folder / "scores.json").read_text())
    assert scores["search"] == {"beam": 1, "max_words": 5, "length_penalty": 0.0, "proposals": 2}
    assert not (run.folder / "regions_test.json").exists()


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (
            "trained",
            ["--proposals", "1,2"],
            "proposals: does not apply to regions 'grid', received 1",
        ),
        ("trained", ["--regions", "5"], "proposals: does not apply .* 'grid'.* set stride instead"),
        ("trained_proposals", ["--stride", "1,2"], "stride: does not apply .* 'proposals'"),
        ("trained_proposals", ["--stride", "1"], "stride: does not apply .* set proposals instead"),
        ("trained", ["--stride", "1,2", "--proposals", "3,4"], "proposals: does not apply"),
        ("trained", ["--stride", "0,1"], "stride: expected at least 1, received 0"),
        ("trained", ["--stride", "2,-1"], "stride: expected at least 1, received -1"),
        ("trained", ["--stride", "1,x"], "evaluate.py: .*stride"),
        ("trained", ["--stride", ""], "evaluate.py: .*stride"),
        ("trained", ["--stride", "1,2", "--split", "tset"], "received 'tset'"),
    ],
)
def test_invalid_arguments_of_a_sweep_raise_a_one_line_error(request, kind, arguments, message):
    run = request.getfixturevalue(kind)
    before = sorted(run.folder.rglob("*"))
    with pytest.raises(UserError, match=message) as caught:
        command.main([str(run.folder), *arguments])
    assert "\n" not in str(caught.value)
    assert sorted(run.folder.rglob("*")) == before


def test_a_picture_can_show_the_curves_of_several_kinds_of_regions(tmp_path, curves):
    rows = [{"count": float(count), "CIDEr": count / 200} for count in (49, 196)]
    more = [{"count": float(count), "CIDEr": 0.5 + count / 4000} for count in (50, 1000, 10)]
    region_counts.draw(tmp_path / "one.png", {"grid": rows})
    region_counts.draw(tmp_path / "curves.png", {"grid": rows, "proposals": more}, "scenes")
    assert [label for label, _ in curves] == ["grid", "grid", "proposals"]
    points = [point for _, curve in curves for point in curve]
    grid = [(49, 24.5), (196, 98)]
    expected = [*grid, *grid, (10, 50.25), (50, 51.25), (1000, 75)]
    np.testing.assert_allclose(points, expected, rtol=1e-12)
    one, both = (cv2.imread(str(tmp_path / name)) for name in ("one.png", "curves.png"))
    assert one.shape == both.shape and np.abs(one.astype(int) - both).max() > 100
