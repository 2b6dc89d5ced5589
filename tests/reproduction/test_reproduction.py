"""The paper's tables: the runs they need, training each run once, and the printed tables."""

import dataclasses
import json
import os
import time

import pytest

from keras_aoa import reproduce
from keras_aoa.reproduction import figures, runs, tables
from keras_aoa.reproduction.rows import TABLES
from keras_aoa.reproduction.tables import TableSettings, chain, make_table, markdown, spread
from keras_aoa.settings.configuration import Configuration
from keras_aoa.settings.presets import PRESETS
from keras_aoa.utils.errors import UserError


def test_another_spelling_of_the_data_does_not_make_a_finished_run_unfinished(
    tmp_path, trained_runs, monkeypatch
):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = TableSettings(rows=("baseline",), seeds=1, tuning_epochs=0)
    for data in ("photos", "./photos", str(tmp_path / "photos")):
        base = dataclasses.replace(PRESETS["study"], data=data, output="runs")
        assert "| 50.0 |" in make_table("table2", base, settings)
    assert trained_runs == ["study-baseline-0"]


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_run_that_several_runs_start_from_is_trained_once(
    tmp_path, trained_runs, monkeypatch, jobs
):
    train = runs.train

    def slow_train(configuration):
        time.sleep(0.02)  # lets another chain request the same run meanwhile
        train(configuration)

    monkeypatch.setattr(runs, "train", slow_train)
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    rows = ("transformer", "grid", "sampled")
    settings = TableSettings(rows=rows, seeds=2, jobs=jobs, warm_start=True)
    text = make_table("table4", base, settings)
    names = [
        f"study-{row}-{seed}{tuned}" for row in rows for seed in (0, 1) for tuned in ("", "-tuned")
    ]
    assert sorted(trained_runs) == sorted(names)
    for row in rows:
        assert trained_runs.index("study-grid-1") <= trained_runs.index(f"study-{row}-1")
    results = json.loads((tmp_path / "table4.json").read_text())["results"]
    assert [(each["row"], each["stage"]) for each in results] == [
        (row, stage) for stage in (0, 1) for row in rows
    ]
    lines = [line for line in text.splitlines() if line.startswith("| spatial transformers | ")]
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("| spatial transformers | 10.0 ± 0.0 |")
        assert line.endswith("| 1.5 | 0.5 | 12.5 |")  # costs: means over seeds
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_presets_of_the_paper_use_its_fine_tuning_and_warm_start(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "keras_aoa.reproduction.everything.reproduce",
        lambda part, base, settings: calls.append((base, settings)),
    )
    for name in ("study", "coco", "flickr30k"):
        reproduce.main(["table2", "--config", name, "--name", "other"])
    defaults = [(settings.tuning_epochs, settings.warm_start) for _, settings in calls]
    assert defaults == [(2, False), (10, True), (10, True)]
    options = ["--tuning-epochs", "3", "--warm-start", "False", "--joint-epochs", "7"]
    reproduce.main(["table2", "--config", "coco", *options])
    assert (calls[-1][1].tuning_epochs, calls[-1][1].warm_start) == (3, False)


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_run_is_trained_once_in_the_order_of_its_chain(tmp_path, trained_runs, jobs):
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    settings = TableSettings(rows=("baseline", "grid"), seeds=2, jobs=jobs)
    text = make_table("table2", base, settings)
    assert sorted(trained_runs) == sorted(
        f"study-{row}-{seed}{tuned}"
        for row in ("baseline", "grid")
        for seed in (0, 1)
        for tuned in ("", "-tuned")
    )
    for row in ("baseline", "grid"):
        first = trained_runs.index(f"study-{row}-0")
        assert first < trained_runs.index(f"study-{row}-0-tuned")
    del trained_runs[:]
    assert make_table("table2", base, settings) == text == (tmp_path / "table2.md").read_text()
    assert trained_runs == []
    make_table(
        "table2", dataclasses.replace(base, units=99), TableSettings(rows=("grid",), seeds=1)
    )
    assert trained_runs == ["study-grid-0", "study-grid-0-tuned"]


def test_a_tuned_run_older_than_the_one_it_started_from_is_refused(tmp_path, trained_runs):
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    settings = TableSettings(rows=("grid",), seeds=1)
    make_table("table2", base, settings)
    for name, moment in (("study-grid-0", 9), ("study-grid-0-tuned", 5)):
        (tmp_path / name / "best.npz").touch()
        os.utime(tmp_path / name / "best.npz", (moment, moment))
    with pytest.raises(UserError, match="study-grid-0-tuned: is older than the run it started"):
        make_table("table2", base, settings)


def test_no_training_starts_after_a_failure_or_an_interrupt(tmp_path, monkeypatch):
    started = []

    def train(configuration):
        started.append(configuration.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", train)
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path), backbone="scenes")
    with pytest.raises(KeyboardInterrupt):
        make_table("table2", base, TableSettings(rows=("baseline", "grid", "mean"), seeds=3))
    assert len(started) <= 2


def test_a_base_without_a_frozen_stage_is_refused():
    message = r"rnn_epochs: expected at least 1, .* received 0 in scenes; set rnn_epochs to 1"
    with pytest.raises(UserError, match=message):
        make_table("table2", PRESETS["scenes"], TableSettings())


def test_the_table_contains_means_deviations_and_the_papers_scores(tmp_path, trained_runs):
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    lines = make_table(
        "table2", base, TableSettings(rows=("baseline", "grid"), seeds=3)
    ).splitlines()
    assert lines[2] == "| **Frozen CNN** | | | | | |"
    assert lines[3] == "| baseline | 10.0 ± 0.0 |  | 60.0 ± 10.0 |  | 78.9 |"
    assert lines[4] == "| activation grid | 10.0 ± 0.0 |  | 60.0 ± 10.0 | 25.0 ± 0.0 | 87.4 |"
    assert lines[5] == "| **Fine-tuned CNN** | | | | | |"
    assert lines[6].endswith("| 87.1 |") and lines[7].endswith("| 92.6 |")
    results = json.loads((tmp_path / "table2.json").read_text())["results"]
    assert [result["scores"][2]["CIDEr"] for result in results] == [70.0] * 4


def test_finished_rows_are_printed_and_others_marked_without_training(
    tmp_path, trained_runs, monkeypatch, capsys
):
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    make_table("table2", base, TableSettings(rows=("baseline",), seeds=1))
    make_table("table1", base, TableSettings(rows=("grid",), seeds=2))
    del trained_runs[:]
    rows = ("baseline", "grid", "mean")
    lines = make_table(
        "table2", base, TableSettings(rows=rows, seeds=2, finished_only=True)
    ).splitlines()
    assert lines[3] == "| baseline (1 of 2 seeds) | 10.0 |  | 50.0 |  | 78.9 |"
    assert lines[4] == "| activation grid | 10.0 ± 0.0 |  | 55.0 ± 7.1 | 25.0 ± 0.0 | 87.4 |"
    assert lines[5] == "| equal weights | not run |  |  |  |  |"
    assert lines[8] == "| activation grid | not run |  |  |  | 92.6 |"
    ensemble = make_table("table4", base, TableSettings(rows=("ensemble",), finished_only=True))
    assert "| spatial transformers, ensemble of 3 | not run |" in ensemble
    new = dataclasses.replace(base, output=str(tmp_path / "new" / "deep"))
    nothing = make_table("table2", new, TableSettings(rows=rows, seeds=2, finished_only=True))
    assert nothing.count("| not run |") == 6
    with pytest.raises(UserError, match="finished_only: expected finished runs for the figure"):
        figures.figure4(base, TableSettings(finished_only=True))
    assert trained_runs == []


def test_an_ensemble_of_runs_with_other_vocabularies_is_refused_before_training(
    tmp_path, trained_runs
):
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path), select_images=5)
    with pytest.raises(UserError, match=r"^rows: .* same vocabulary, .*; add --select-seed 0, or"):
        make_table("table4", base, TableSettings(rows=("grid", "ensemble")))
    assert trained_runs == []
    make_table("table4", base, TableSettings(rows=("transformer",), seeds=3, tuning_epochs=0))
    assert len(trained_runs) == 3
    finished = TableSettings(rows=("ensemble",), tuning_epochs=0, finished_only=True)
    assert "ensemble of 3 | not run |" in make_table("table4", base, finished)


def test_an_interrupted_command_prints_the_finished_rows(
    tmp_path, trained_runs, monkeypatch, capsys
):
    train = runs.train

    def second_is_interrupted(configuration):
        if trained_runs:
            raise KeyboardInterrupt
        train(configuration)

    monkeypatch.setattr(runs, "train", second_is_interrupted)
    arguments = ["table1", "--seeds", "1", "--rows", "baseline,grid", "--output", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        reproduce.main(arguments)
    out = capsys.readouterr().out
    assert "## table1, finished rows" in out
    assert "| baseline | 10.0 |" in out
    assert "| full model | not run |" in out


def test_spread_shows_a_deviation_only_for_several_values():
    assert spread([12.34]) == "12.3"
    assert spread([1.0, 3.0]) == "2.0 ± 1.4"
    assert spread([1.0, None]) == ""


def test_a_table_with_one_stage_has_no_second_half():
    scores = [{"Bleu_4": 1.0, "METEOR": 2.0, "CIDEr": 3.0, "grounding/attention_on_object": 4.0}]
    text = markdown(TABLES["table2"], [{"row": "grid", "stage": 0, "wanted": 1, "scores": scores}])
    assert (
        "Fine-tuned CNN" not in text
        and "| activation grid | 1.0 | 2.0 | 3.0 | 4.0 | 87.4 |" in text
    )


def test_the_error_of_a_failed_training_quotes_its_last_line_and_log(tmp_path):
    configuration = Configuration(name="no", data=str(tmp_path / "absent"), output=str(tmp_path))
    with pytest.raises(UserError, match=r"no: train failed: data: .*absent.*no\.log"):
        runs.train(configuration)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table2", "--rows", "gird"], "rows: unknown row 'gird'. Did you mean grid"),
        (["table2", "--seeds", "0"], "seeds: expected at least 1, received 0."),
        (["table2", "--tuning-epochs", "-1"], "tuning_epochs: expected at least 0, received -1."),
        (["table2", "--tuning-rate", "-1"], "tuning_rate: expected at least 0, received -1.0."),
        (["table2", "--tuning-rate", "nan"], "tuning_rate: expected at least 0, received nan."),
        (["table2", "--jobs", "0"], "jobs: expected at least 1, received 0."),
        (["table2", "--config", "stduy"], "--config: unknown preset 'stduy'. Did you mean study"),
        (["table2", "--seed", "3"], "seed: is set by the table's rows, received 3; omit it."),
        (["table2", "--regions", "transformer"], "regions: is set by the table's rows"),
        (["table2", "--unit", "3"], "unknown setting '--unit'. Did you mean units"),
        (["table1", "--rows", "mean"], "rows: unknown row 'mean'"),
        (["figure4", "--rows", "grid"], "rows: does not apply to figure4"),
        (["all", "--select-images", "5"], "rows: the members of the ensemble need the same"),
        (["table9"], "invalid choice 'table9'"),
    ],
)
def test_wrong_arguments_are_reported_before_any_training(arguments, message, trained_runs):
    with pytest.raises(UserError) as raised:
        reproduce.main(arguments)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert trained_runs == []


def test_the_command_accepts_training_settings(tmp_path, trained_runs, capsys):
    arguments = ["table2", "--rows", "grid", "--seeds", "1", "--tuning-epochs", "0"]
    reproduce.main([*arguments, "--output", str(tmp_path), "--units", "7"])
    assert trained_runs == ["study-grid-0"]
    written = Configuration.read(tmp_path / "study-grid-0" / "config.json")
    assert written.units == 7 and written.backbone == "scenes-pretrained"
    assert "| activation grid |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "commands"),
    [
        (("grid",), [("pretrain",)]),
        (
            ("proposals", "jin"),
            [
                ("pretrain",),
                ("propose", "--proposal-method", "edge_boxes", "--edge-model", ""),
                ("propose", "--proposal-method", "selective_search", "--edge-model", ""),
            ],
        ),
    ],
)
def test_files_that_runs_share_are_made_before_the_runs(rows, commands, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(
        tables, "call", lambda name, arguments, _: called.append((name, *arguments[2:]))
    )
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    every = TABLES["table2"].rows | TABLES["table4"].rows
    chains = {row: chain(base, every[row], row, 0, TableSettings()) for row in rows}
    tables.prepare(base, chains)
    assert called == commands
