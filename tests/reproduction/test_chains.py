"""The runs of each row of the paper's tables, in the order of their training."""

import dataclasses

from keras_aoa.reproduction.rows import ENSEMBLE, TABLES
from keras_aoa.reproduction.tables import TableSettings, chain
from keras_aoa.settings.presets import PRESETS


def row_chain(base, row, seed, settings):
    """The chain of a row of table 2."""
    return chain(base, TABLES["table2"].rows[row], row, seed, settings)


def test_a_chain_fine_tunes_the_network_of_its_frozen_run():
    base = PRESETS["study"]
    frozen, tuned = row_chain(
        base, "transformer", 2, TableSettings(tuning_epochs=3, tuning_rate=0.5)
    )
    assert frozen == dataclasses.replace(
        base, name="study-transformer-2", seed=2, regions="transformer"
    )
    assert tuned.start_from == str(frozen.folder) and tuned.name == "study-transformer-2-tuned"
    assert (tuned.rnn_epochs, tuned.joint_epochs) == (0, 3)
    assert (tuned.learning_rate, tuned.backbone_learning_rate) == (0.5, base.backbone_learning_rate)
    assert tuned.regions == "transformer"
    assert row_chain(base, "baseline", 0, TableSettings(tuning_epochs=0))[0].variant == "baseline"


def test_fine_tuned_runs_cache_no_views_and_stage_3_caches_them_again():
    base = dataclasses.replace(PRESETS["flickr8k"], crop=0.6, cached_views=3)
    runs_of_row = chain(base, TABLES["table4"].rows["rewarded"], "rewarded", 0, TableSettings())
    assert [run.cached_views for run in runs_of_row] == [3, 1, 3, 3]


def test_selective_search_ignores_the_edge_model_of_the_other_rows():
    base = dataclasses.replace(PRESETS["study"], edge_model="forest.yml.gz")
    (run,) = chain(base, TABLES["table4"].rows["jin"], "jin", 0, TableSettings(tuning_epochs=0))
    assert (run.proposal_method, run.edge_model) == ("selective_search", "")
    (run,) = row_chain(base, "proposals", 0, TableSettings(tuning_epochs=0))
    assert (run.proposal_method, run.edge_model) == ("edge_boxes", "forest.yml.gz")


def test_rows_differ_only_in_attention_and_stage_settings():
    for name in ("study", "coco"):
        base = PRESETS[name]
        for table in TABLES.values():
            for row, of_row in table.rows.items():
                if of_row.continues_grid:
                    continue
                frozen, tuned = chain(base, of_row, row, 0, TableSettings())
                changed = {
                    "regions", "variant", "joint_epochs", "scheduled_sampling",
                    "attention_supervision", "attention_gate", "attention_coverage",
                    "image_first", "image_each_step", "concepts", "concept_count", "review_words",
                    "proposal_method",
                }  # fmt: skip
                assert set(base.differences(frozen)) <= changed
                assert frozen.joint_epochs == 0 < tuned.joint_epochs


def test_a_warm_started_transformer_starts_from_the_grid_run_of_its_seed():
    base, settings = PRESETS["coco"], TableSettings(warm_start=True, tuning_epochs=4)
    grid, frozen, tuned = row_chain(base, "transformer", 2, settings)
    assert [grid] == row_chain(base, "grid", 2, settings)[:1]
    assert frozen.start_from == str(grid.folder) and tuned.start_from == str(frozen.folder)
    cold = row_chain(base, "transformer", 2, dataclasses.replace(settings, warm_start=False))
    assert cold == [dataclasses.replace(frozen, start_from=""), tuned]
    for row in ("baseline", "grid", "proposals", "mean"):
        assert len(row_chain(base, row, 0, settings)) == 2
    only_frozen = dataclasses.replace(settings, tuning_epochs=0)
    assert row_chain(base, "transformer", 2, only_frozen) == [grid, frozen]


def test_self_critical_runs_continue_the_grid_runs_of_both_stages():
    base, settings = PRESETS["coco"], TableSettings(tuning_epochs=4)
    runs_of_row = chain(base, TABLES["table4"].rows["rewarded"], "rewarded", 1, settings)
    assert runs_of_row[:2] == row_chain(base, "grid", 1, settings)
    for run, start in zip(runs_of_row[2:], runs_of_row[:2], strict=True):
        assert run.name == start.name.replace("grid", "rewarded")
        assert run.start_from == str(start.folder)
        assert (run.rnn_epochs, run.joint_epochs, run.reward_epochs) == (0, 0, 3)
        assert run.feature_cache == base.feature_cache
    only_frozen = dataclasses.replace(settings, tuning_epochs=0)
    assert len(chain(base, TABLES["table4"].rows["rewarded"], "rewarded", 1, only_frozen)) == 2


def test_rows_with_the_same_name_share_their_runs_in_all_tables():
    settings = {}
    for table in TABLES.values():
        for row, of_row in table.rows.items():
            if row != ENSEMBLE:
                configurations = chain(PRESETS["study"], of_row, row, 0, TableSettings())
                assert settings.setdefault(row, configurations) == configurations
    runs_of_rows = [[run.name for run in chain] for chain in settings.values()]
    assert len(set(map(tuple, runs_of_rows))) == len(runs_of_rows)
