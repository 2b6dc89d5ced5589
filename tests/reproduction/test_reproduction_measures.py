"""Measures of trained runs: each is computed once and only those of the right evaluation count."""

import dataclasses
import json
import os
import types

import pytest

from keras_aoa.reproduction import correctness_table, figures, runs
from keras_aoa.reproduction.rows import ENSEMBLE
from keras_aoa.reproduction.tables import TableSettings, make_table
from keras_aoa.settings.presets import PRESETS
from keras_aoa.utils.errors import UserError


def own_measures(configuration):
    """Entries that mark measures as those of a run's configured test split and search."""
    return {
        "data": configuration.data,
        "split": configuration.test_split,
        "search": {"beam": configuration.beam},
    }


def test_scores_of_another_evaluation_are_ignored(tmp_path, trained_runs):
    configuration = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    runs.train(configuration)
    own = runs.scores_of(configuration)
    assert own["CIDEr"] == 0.5
    file = configuration.folder / "scores.json"
    for other in ({"split": "val"}, {"search": {**own["search"], "beam": 7}}, {"search": {}}):
        file.write_text(json.dumps({**own, **other}))
        assert runs.scores_of(configuration) is None
    (configuration.folder / "scores_test.json").write_text(json.dumps(own))
    assert runs.scores_of(configuration) == own


def test_incomplete_scores_are_reported_and_complete_ones_used(tmp_path, trained_runs, caplog):
    configuration = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    runs.train(configuration)
    own = runs.scores_of(configuration)
    file = configuration.folder / "scores.json"
    text = file.read_text()
    for half in (text[: len(text) // 2], "", "[]"):
        file.write_text(half)
        assert runs.scores_of(configuration) is None
        assert f"{file}: is not complete JSON; the evaluation is repeated." in caplog.text
        caplog.clear()
    (configuration.folder / "scores_test.json").write_text(json.dumps(own))
    assert runs.scores_of(configuration) == own


def test_an_ensemble_trains_its_members_and_is_scored_once(tmp_path, trained_runs, monkeypatch):
    base = dataclasses.replace(
        PRESETS["study"], output=str(tmp_path), select_images=5, select_seed=0
    )
    calls = []

    def call(module, arguments, configuration):
        calls.append((module, arguments))
        file = tmp_path / configuration.name / "scores.json"
        file.parent.mkdir(exist_ok=True)
        own = {"split": "test", "search": {"beam": base.beam}}
        file.write_text(json.dumps({**own, "Bleu_4": 0.2, "METEOR": 0.2, "CIDEr": 0.9}))

    def open_run(folders):
        names = "+".join(folder.rsplit("/", 1)[1] for folder in folders.split(","))
        return types.SimpleNamespace(results_folder=tmp_path / f"ensemble-{names}")

    monkeypatch.setattr(runs, "call", call)
    monkeypatch.setattr("keras_aoa.runs.ensemble.open_run", open_run)
    settings = TableSettings(rows=(ENSEMBLE,), seeds=1)
    text = make_table("table4", base, settings)
    members = [f"study-transformer-{seed}-tuned" for seed in range(3)]
    assert set(members) < set(trained_runs)
    assert len(calls) == 2
    assert calls[1] == ("evaluate", [",".join(str(tmp_path / name) for name in members)])
    assert "| spatial transformers, ensemble of 3 | 20.0 | 20.0 | 90.0 |  | 98.1 |" in text
    assert make_table("table4", base, settings) == text
    assert len(calls) == 2
    # The scores are outdated if a member is trained again.
    (file,) = tmp_path.glob("ensemble-*tuned/scores.json")
    os.utime(file, (5, 5))
    for member, time in zip(members, (3, 9, 4), strict=True):
        os.utime(tmp_path / member / "best.npz", (time, time))
    for member in members:
        os.utime(tmp_path / member.removesuffix("-tuned") / "best.npz", (2, 2))
    make_table("table4", base, settings)
    assert len(calls) == 3


def test_table_3_compares_attention_with_uniform_attention_and_a_center_prior(
    tmp_path, trained_runs, monkeypatch
):
    calls = []

    def call(module, arguments, configuration):
        calls.append((module, arguments))
        measures = dict.fromkeys(correctness_table.MEASURES, 0.1 * (configuration.seed + 1))
        columns = {"model": measures, "uniform": dict.fromkeys(measures, 0.05)}
        columns["center_prior"] = dict.fromkeys(measures)
        columns["model_phrase"] = {"region": 0.9}
        content = dict.fromkeys(correctness_table.KINDS, columns)
        content |= {"conventions": correctness_table.CONVENTIONS} | own_measures(configuration)
        (configuration.folder / "correctness.json").write_text(json.dumps(content))

    monkeypatch.setattr(runs, "call", call)
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    settings = TableSettings(seeds=2)
    text = correctness_table.table3(base, settings)
    assert len(calls) == 12
    assert calls[0] == ("evaluate", [str(tmp_path / "study-soft-0-tuned"), "--correctness"])
    assert "| generated | object proposals | 15.0 ± 7.1 | 90.0 ± 0.0 | 15.0 ± 7.1 |" in text
    assert "| ground truth | spatial transformers | 15.0 ± 7.1 | 90.0 ± 0.0 | 15.0 ± 7.1 |" in text
    assert "| generated | equal weights, grid | 5.0 ± 0.0 | 5.0 ± 0.0 |" in text
    assert "| generated | center prior, grid |  |  |  |  |  |  |" in text
    assert {line.count("|") for line in text.splitlines()} == {9}
    assert correctness_table.table3(base, settings) == text
    assert len(calls) == 12


def test_figure_4_shows_means_over_seeds_for_three_areas(tmp_path, trained_runs, monkeypatch):
    calls = []

    def call(module, arguments, configuration):
        calls.append(arguments[1:])
        rows = [
            {"count": count, "CIDEr": 0.5 + 0.1 * configuration.seed + count / 1000}
            for count in (1, 100)
        ]
        name, values = arguments[1:]
        rows = [
            {name[2:]: int(value), **rows[index % 2]}
            for index, value in enumerate(values.split(","))
        ]
        file = configuration.folder / "regions_test.json"
        file.write_text(json.dumps({"rows": rows} | own_measures(configuration)))

    monkeypatch.setattr(runs, "call", call)
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    text = figures.figure4(base, TableSettings(seeds=2))
    assert len(calls) == 6
    assert calls[0] == ["--stride", "1,2,3,4,6,12"]
    assert calls[2][0] == "--proposals"
    assert "| object proposals | 100 | 65.0 ± 7.1 |" in text
    assert (tmp_path / "figure4.png").stat().st_size > 1000


def test_figure_5_compares_the_three_areas(tmp_path, trained_runs, monkeypatch):
    calls = []
    monkeypatch.setattr(figures, "call", lambda *arguments: calls.append(arguments[1]))
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    text = figures.figure5(base, TableSettings(seeds=3, tuning_epochs=0))
    grid, *others = (str(tmp_path / f"study-{area}-0") for area in figures.AREAS)
    options = ["--with", ",".join(others), "--output", str(tmp_path / "figure5")]
    assert calls == [[grid, "--report", *options]]
    page = tmp_path / "figure5/report.html"
    assert text == f"{page}\n" and len(trained_runs) == 3
    page.parent.mkdir()
    page.touch()
    settings = TableSettings(seeds=3, tuning_epochs=0)
    assert figures.figure5(base, settings) == text and len(calls) == 1
    os.utime(tmp_path / "study-proposals-0/best.npz", (3e9, 3e9))
    assert figures.figure5(base, settings) == text and len(calls) == 2


@pytest.fixture
def measured(tmp_path, trained_runs, monkeypatch):
    """A run, the file of its measures, the evaluations so far, and a function that requests it."""
    run = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    runs.train(run)
    file, evaluations = run.folder / "measures.json", []

    def call(module, arguments, configuration):
        evaluations.append(arguments)
        file.write_text(json.dumps({**own_measures(run), "values": [1, 2]}))

    monkeypatch.setattr(runs, "call", call)

    def ask():
        return runs.measures_of(file, [run], ["x"], lambda measures: measures["values"] == [1, 2])

    return types.SimpleNamespace(run=run, file=file, evaluations=evaluations, ask=ask)


@pytest.mark.parametrize(
    "other",
    [
        {"split": "val"},
        {"search": {"beam": 7}},
        {"search": {}},
        {"data": "elsewhere"},
        {"values": [1]},
    ],
)
def test_measures_of_another_evaluation_are_computed_again(measured, other):
    assert measured.ask()["values"] == [1, 2]
    assert measured.ask() and len(measured.evaluations) == 1
    content = json.loads(measured.file.read_text())
    measured.file.write_text(json.dumps({**content, **other}))
    assert measured.ask() == content and len(measured.evaluations) == 2


def test_incomplete_measures_are_computed_again(measured):
    content = measured.ask()
    text = measured.file.read_text()
    measured.file.write_text(text[: len(text) // 2])
    assert measured.ask() == content and len(measured.evaluations) == 2


def test_measures_of_the_default_split_count_if_the_data_have_no_test_split(measured):
    measured.ask()
    content = json.loads(measured.file.read_text())
    measured.file.write_text(json.dumps({**content, "split": "val", "default_split": True}))
    assert measured.ask()["split"] == "val" and len(measured.evaluations) == 1


def test_an_evaluation_that_writes_other_measures_raises_a_user_error(measured, monkeypatch):
    monkeypatch.setattr(runs, "call", lambda *_: None)
    with pytest.raises(
        UserError, match=r"measures.json: expected measures for the run's configured test split"
    ):
        measured.ask()
