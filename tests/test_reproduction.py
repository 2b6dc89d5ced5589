"""The paper's tables: which runs they need, that each is trained once, and what is printed."""

import dataclasses
import json
import os

import pytest

from keras_aoa import reproduce
from keras_aoa.errors import UserError
from keras_aoa.reproduction import runs
from keras_aoa.reproduction import table2 as preparation
from keras_aoa.reproduction.table2 import ROWS, Table2Settings, chain, markdown, spread, table2
from keras_aoa.training.configuration import Configuration
from keras_aoa.training.presets import PRESETS


@pytest.fixture
def trained_runs(monkeypatch):
    """Trainings replaced by their files: configuration and scores; a list of their names."""
    made = []

    def train(configuration):
        made.append(configuration.name)
        configuration.folder.mkdir(parents=True, exist_ok=True)
        (configuration.folder / "config.json").write_text(configuration.to_json())
        search = {"beam": configuration.beam, "stride": configuration.test_stride}
        scores = {"split": "test", "search": search}
        scores |= {"Bleu_4": 0.1, "METEOR": None, "CIDEr": 0.5 + 0.1 * configuration.seed}
        if configuration.variant != "baseline":
            scores["grounding"] = {"attention": 0.25}
        (configuration.folder / "scores.json").write_text(json.dumps(scores))

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(preparation, "prepare", lambda base, settings: None)
    return made


def test_a_chain_tunes_the_network_from_where_it_was_left():
    base = PRESETS["study"]
    frozen, tuned = chain(base, "transformer", 2, Table2Settings(tuning_epochs=3, tuning_rate=0.5))
    assert frozen == dataclasses.replace(
        base, name="study-transformer-2", seed=2, regions="transformer"
    )
    assert tuned.start_from == str(frozen.folder) and tuned.name == "study-transformer-2-tuned"
    assert (tuned.rnn_epochs, tuned.joint_epochs) == (0, 3)
    assert (tuned.learning_rate, tuned.backbone_learning_rate) == (0.5, base.backbone_learning_rate)
    assert tuned.regions == "transformer"
    assert chain(base, "baseline", 0, Table2Settings(tuning_epochs=0))[0].variant == "baseline"


def test_rows_differ_in_nothing_but_what_attention_chooses_from():
    for name in ("study", "coco"):
        base = PRESETS[name]
        for row in ROWS:
            (frozen,) = chain(base, row, 0, Table2Settings(tuning_epochs=0))
            assert set(base.differences(frozen)) <= {"regions", "variant", "joint_epochs"}
            assert frozen.joint_epochs == 0


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_run_is_trained_once_a_chain_in_its_order(tmp_path, trained_runs, jobs):
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    settings = Table2Settings(rows=("baseline", "grid"), seeds=2, jobs=jobs)
    text = table2(base, settings)
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
    assert table2(base, settings) == text == (tmp_path / "table2.md").read_text()
    assert trained_runs == []
    table2(dataclasses.replace(base, units=99), Table2Settings(rows=("grid",), seeds=1))
    assert trained_runs == ["study-grid-0", "study-grid-0-tuned"]


def test_scores_of_another_evaluation_are_not_taken_for_the_runs_own(tmp_path, trained_runs):
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


def test_a_tuned_run_older_than_the_one_it_started_from_is_refused(tmp_path, trained_runs):
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    settings = Table2Settings(rows=("grid",), seeds=1)
    table2(base, settings)
    for name, time in (("study-grid-0", 9), ("study-grid-0-tuned", 5)):
        (tmp_path / name / "best.npz").touch()
        os.utime(tmp_path / name / "best.npz", (time, time))
    with pytest.raises(UserError, match="study-grid-0-tuned: is older than the run it started"):
        table2(base, settings)


def test_a_failure_or_an_interrupt_begins_no_other_training(tmp_path, monkeypatch):
    begun = []

    def train(configuration):
        begun.append(configuration.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", train)
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path), backbone="scenes")
    with pytest.raises(KeyboardInterrupt):
        table2(base, Table2Settings(rows=("baseline", "grid", "mean"), seeds=3))
    assert len(begun) <= 2


def test_a_base_that_only_tunes_is_refused():
    with pytest.raises(UserError, match=r"rnn_epochs: .* scenes has no epoch"):
        table2(PRESETS["scenes"], Table2Settings())


def test_the_table_has_means_spreads_and_the_papers_figures(tmp_path, trained_runs):
    base = dataclasses.replace(PRESETS["study"], output=str(tmp_path))
    lines = table2(base, Table2Settings(rows=("baseline", "grid"), seeds=3)).splitlines()
    assert lines[2] == "| **CNN as it is** | | | | | |"
    assert lines[3] == "| baseline | 10.0 ± 0.0 |  | 60.0 ± 10.0 |  | 78.9 |"
    assert lines[4] == "| activation grid | 10.0 ± 0.0 |  | 60.0 ± 10.0 | 25.0 ± 0.0 | 87.4 |"
    assert lines[5] == "| **CNN tuned** | | | | | |"
    assert lines[6].endswith("| 87.1 |") and lines[7].endswith("| 92.6 |")
    results = json.loads((tmp_path / "table2.json").read_text())["results"]
    assert [result["scores"][2]["CIDEr"] for result in results] == [70.0] * 4


def test_a_spread_needs_several_values():
    assert spread([12.34]) == "12.3"
    assert spread([1.0, 3.0]) == "2.0 ± 1.4"
    assert spread([1.0, None]) == ""


def test_a_table_of_one_stage_has_no_second_half():
    scores = [{"Bleu_4": 1.0, "METEOR": 2.0, "CIDEr": 3.0, "grounding/attention": 4.0}]
    text = markdown([{"row": "grid", "stage": 0, "scores": scores}])
    assert "CNN tuned" not in text and "| activation grid | 1.0 | 2.0 | 3.0 | 4.0 | 87.4 |" in text


def test_a_training_that_fails_is_told_with_its_last_line_and_log(tmp_path):
    configuration = Configuration(name="no", data=str(tmp_path / "absent"), output=str(tmp_path))
    with pytest.raises(UserError, match=r"no: train failed: data: .*absent.*no\.log"):
        runs.train(configuration)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table2", "--rows", "gird"], "rows: unknown row 'gird'. Did you mean grid"),
        (["table2", "--seeds", "0"], "seeds: expected at least 1, received 0."),
        (["table2", "--jobs", "0"], "jobs: expected at least 1, received 0."),
        (["table2", "--config", "stduy"], "--config: unknown preset 'stduy'. Did you mean study"),
        (["table2", "--seed", "3"], "seed: the table's rows set it; leave it out."),
        (["table2", "--regions", "transformer"], "regions: the table's rows set it"),
        (["table2", "--unit", "3"], "unknown setting '--unit'. Did you mean units"),
        (["table9"], "invalid choice 'table9'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(arguments, message, trained_runs):
    with pytest.raises(UserError) as raised:
        reproduce.main(arguments)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert trained_runs == []


def test_the_command_takes_the_settings_of_a_training(tmp_path, trained_runs, capsys):
    arguments = ["table2", "--rows", "grid", "--seeds", "1", "--tuning-epochs", "0"]
    reproduce.main([*arguments, "--output", str(tmp_path), "--units", "7"])
    assert trained_runs == ["study-grid-0"]
    written = Configuration.read(tmp_path / "study-grid-0" / "config.json")
    assert written.units == 7 and written.backbone == "scenes-pretrained"
    assert "| activation grid |" in capsys.readouterr().out
