"""Invalid settings are refused, and a run's file restores all settings."""

import dataclasses
import json
import pathlib
import re

import pytest

from keras_aoa.settings.configuration import Configuration
from keras_aoa.settings.presets import PRESETS
from keras_aoa.utils.errors import UserError

# Settings that are refused with other variants: the variant, and a value.
OF_A_VARIANT = {"attention_gate": ("soft", True), "review_words": ("review", 0.25)}
# Settings that cannot be changed together with other settings, which then have these values.
EXCLUDING = {
    "image_each_step": {"image_first": False},
    "proposal_method": {"edge_model": ""},
}


def changed_values():
    """Yield a valid non-default value of each setting."""
    other = {str: "other", int: 9, float: 0.25, bool: None}
    chosen = {
        "fit": "stretch",
        "variant": "word_region",
        "decay": "cosine",
        "reward_baseline": "greedy",
        "regions": "transformer",
        "border": "replicate",
        "transformer_filter": "own",
        "proposals_fit": "stretch",
        "image_size": 99,
        "proposals_size": 99,
        "feature_cache": "bfloat16",
        "precision": "bfloat16",
        "distribution": "workers",
        "crop": 0.25,
        "concepts": "attributes",
        "proposal_method": "selective_search",
    }
    for field in dataclasses.fields(Configuration):
        if field.name in OF_A_VARIANT:
            continue
        value = chosen.get(field.name, other[type(field.default)])
        yield field.name, (not field.default) if value is None else value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected at least 1, received 0."),
        ({"beam": 0}, "beam: expected at least 1, received 0."),
        ({"beam": 1001}, "beam: expected at most 1000, received 1001."),
        ({"length_penalty": float("nan")}, "length_penalty: expected a finite number"),
        ({"length_penalty": float("inf")}, "length_penalty: expected a finite number"),
        ({"max_words": 0}, "max_words: expected at least 1, received 0."),
        ({"units": -3}, "units: expected at least 1, received -3."),
        ({"embedding_dim": 0}, "embedding_dim: expected at least 1"),
        ({"concept_count": 1}, "concept_count: expected at least 2, received 1."),
        ({"concept_loss": -0.5}, "concept_loss: expected at least 0, received -0.5."),
        ({"stride": 0}, "stride: expected at least 1"),
        ({"test_stride": 0}, "test_stride: expected at least 1"),
        ({"captions_per_image": 0}, "captions_per_image: expected at least 1"),
        ({"minimum_count": 0}, "minimum_count: expected at least 1"),
        ({"scenes_images": 0}, "scenes_images: expected at least 1"),
        ({"validate_every": 0}, "validate_every: expected at least 1"),
        ({"image_size": 15}, "image_size: expected from 16 to 4096 pixels, received 15."),
        ({"image_size": 5000}, "image_size: expected from 16 to 4096 pixels, received 5000."),
        ({"select_images": -1}, "select_images: expected at least 0"),
        ({"cache_gigabytes": -0.1}, "cache_gigabytes: expected at least 0, received -0.1."),
        ({"rnn_epochs": -1}, "rnn_epochs: expected at least 0"),
        ({"joint_epochs": -1}, "joint_epochs: expected at least 0"),
        ({"warmup_steps": -1}, "warmup_steps: expected at least 0"),
        ({"minutes": -1.0}, "minutes: expected at least 0"),
        ({"seed": -1}, "seed: expected at least 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected more than 0, received 0.0."),
        ({"learning_rate": float("nan")}, "learning_rate: expected more than 0, received nan."),
        (
            {"learning_rate": float("inf")},
            "learning_rate: expected a finite number, received inf.",
        ),
        (
            {"variant": "hard", "hard_reinforce": float("inf")},
            "hard_reinforce: expected a finite number, received inf.",
        ),
        ({"backbone_learning_rate": -1.0}, "backbone_learning_rate: expected more than 0"),
        ({"clip_norm": 0.0}, "clip_norm: expected more than 0"),
        ({"crop": 0.0}, "crop: expected a share from 0.05 to 1, received 0.0."),
        ({"crop": 1.5}, "crop: expected a share from 0.05 to 1, received 1.5."),
        ({"dropout": 1.0}, "dropout: expected at least 0 and below 1, received 1.0."),
        ({"region_dropout": -0.1}, "region_dropout: expected at least 0 and below 1"),
        ({"average": 1.0}, "average: expected at least 0 and below 1"),
        ({"rnn_epochs": 0, "joint_epochs": 0}, "all are 0; set one of them to 1 or more."),
        ({"name": ""}, "name: expected a folder's name, received ''."),
        ({"name": "a/b"}, "name: expected a folder's name, received 'a/b'."),
        ({"name": ".."}, "name: expected a folder's name, received '..'."),
        ({"proposals_size": 9}, "proposals_size: expected from 16 to 4096 pixels, received 9."),
        ({"train_proposals": 0}, "train_proposals: expected at least 1"),
        ({"test_proposals": 2001}, "test_proposals: expected at most 2000, received 2001."),
        ({"anchor_scale": 0.0}, "anchor_scale: expected more than 0, received 0.0."),
        ({"regions": "proposals", "crop": 0.5}, "crop: regions 'proposals' need whole images"),
        ({"feature_cache": "float16", "crop": 0.5}, "cached_views, crop: a feature cache"),
        ({"variant": "conditional", "tied": False}, "tied: variant 'conditional' needs tied"),
        (
            {"attention_gate": True},
            "attention_gate: needs variant 'soft' or 'hard', received 'full'",
        ),
        (
            {"review_words": 1.0},
            "review_words: needs variant 'review', received variant 'full'; set",
        ),
        ({"review_steps": 0}, "review_steps: expected at least 1, received 0."),
        ({"attention_coverage": -1.0}, "attention_coverage: expected at least 0, received -1.0."),
        (
            {"attention_coverage": 1.0, "variant": "baseline"},
            "attention_coverage: needs attention to regions, but with variant 'baseline' and reg",
        ),
        (
            {"variant": "semantic"},
            "concepts: variant 'semantic' attends to attributes, received 'n",
        ),
        (
            {"edge_model": "forest.yml", "proposal_method": "selective_search"},
            "edge_model: proposal_method 'selective_search' uses no edges, received 'forest.yml';",
        ),
        ({"image_first": True, "image_each_step": True}, "image_first, image_each_step: the image"),
    ],
)
def test_a_value_out_of_range_is_refused_and_the_error_states_the_range(settings, message):
    with pytest.raises(UserError) as raised:
        Configuration(**settings)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_limits_of_ranges_are_allowed():
    Configuration(
        image_size=16, crop=0.05, dropout=0.0, region_dropout=0.0, average=0.0, minutes=0.0
    )
    Configuration(rnn_epochs=0, joint_epochs=1)
    Configuration(rnn_epochs=1, joint_epochs=0)
    Configuration(cache_gigabytes=0.0, beam=1, max_words=1)
    Configuration(variant="full", tied=False)


def test_a_runs_file_restores_every_setting(tmp_path):
    values = dict(changed_values())
    alone = {name: values.pop(name) for name in EXCLUDING}
    changed = Configuration(**values)
    each = [Configuration(**{**values, **EXCLUDING[name], name: alone[name]}) for name in alone]
    names, start = [field.name for field in dataclasses.fields(Configuration)], Configuration()
    assert {
        name
        for name in names
        if any(getattr(one, name) != getattr(start, name) for one in (changed, *each))
    } == {*names} - {*OF_A_VARIANT}
    of_variants = [
        Configuration(variant=variant, **{name: value})
        for name, (variant, value) in OF_A_VARIANT.items()
    ]
    for name, configuration in zip(OF_A_VARIANT, of_variants, strict=True):
        assert configuration.differences(Configuration()) == ["variant", name]
    for configuration in (changed, *each, *of_variants, *PRESETS.values()):
        (tmp_path / "config.json").write_text(configuration.to_json())
        assert Configuration.read(tmp_path / "config.json") == configuration


def test_a_setting_missing_from_a_file_has_its_default(tmp_path):
    (tmp_path / "config.json").write_text('{"format_version": 1, "units": 9, "dropout": 0}')
    configuration = Configuration.read(tmp_path / "config.json")
    assert configuration == Configuration(units=9, dropout=0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{half", "config.json: expected json, received "),
        ("[]", "config.json: expected format_version 1, received None."),
        ('{"units": 9}', "config.json: expected format_version 1, received None."),
        ('{"format_version": 2}', "config.json: expected format_version 1, received 2."),
        (
            '{"format_version": 1, "learning_rat": 1.0}',
            "config.json: unknown setting 'learning_rat'. Did you mean learning_rate",
        ),
        ('{"format_version": 1, "qqq": 1}', "config.json: unknown setting 'qqq'. Known: "),
        ('{"format_version": 1, "units": "9"}', "config.json: units must be int, received '9'."),
        ('{"format_version": 1, "units": 9.0}', "config.json: units must be int, received 9.0."),
        ('{"format_version": 1, "units": true}', "config.json: units must be int, received True."),
        ('{"format_version": 1, "dropout": true}', "dropout must be float, received True."),
        ('{"format_version": 1, "flip": 1}', "config.json: flip must be bool, received 1."),
        ('{"format_version": 1, "data": null}', "config.json: data must be str, received None."),
        ('{"format_version": 1, "units": 0}', "units: expected at least 1, received 0."),
    ],
)
def test_an_invalid_file_is_refused_in_one_line(content, message, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError) as raised:
        Configuration.read(tmp_path / "config.json")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"config.json: expected a run's .*, found no file"):
        Configuration.read(tmp_path / "config.json")


@pytest.mark.parametrize("name", ["variant", "fit", "decay", "regions", "border", "concepts"])
def test_a_value_that_is_not_one_of_the_choices_is_refused(name, tmp_path):
    settings = json.dumps({"format_version": 1, name: "fancy"})
    (tmp_path / "config.json").write_text(settings)
    with pytest.raises(UserError, match=f"{name}: expected one of .*, received 'fancy'"):
        Configuration.read(tmp_path / "config.json")


def test_differences_list_changed_settings_except_name_and_output():
    first = Configuration(units=3, seed=1)
    assert first.differences(Configuration(units=3, seed=1, name="b", output="c")) == []
    assert first.differences(Configuration(units=4, seed=2)) == ["units", "seed"]


def test_folder_and_epochs_are_derived_from_the_settings():
    configuration = Configuration(output="runs", name="mine", rnn_epochs=2, joint_epochs=3)
    assert configuration.folder.as_posix() == "runs/mine"
    assert configuration.epochs == 5


@pytest.mark.parametrize("name", ["coco", "flickr30k"])
def test_presets_of_the_papers_data_have_the_papers_settings(name):
    """Sections 3.3 and 4.1; 4.2 uses "the same hyper-parameters and architecture" on Flickr30k."""
    configuration = PRESETS[name]
    expected = {
        "backbone": "VGG16", "backbone_weights": "imagenet", "image_size": 224, "map_layer": "",
        "vector_layer": "", "minimum_count": 10, "captions_per_image": 5, "units": 512,
        "embedding_dim": 512, "tied": True, "variant": "full", "stride": 2, "test_stride": 1,
        "train_proposals": 50, "test_proposals": 1000, "proposals_size": 300,
        "proposals_fit": "pad", "anchor_scale": 2.0, "transformer_filter": "backbone",
        "image_first": False, "restval": False, "select_split": "val", "test_split": "test",
    }  # fmt: skip
    assert {setting: getattr(configuration, setting) for setting in expected} == expected
    assert configuration.rnn_epochs and configuration.joint_epochs, "expected two training stages"


def test_presets_are_the_documented_ones_and_bear_their_own_names(tmp_path):
    text = (pathlib.Path(__file__).resolve().parents[2] / "docs/training.md").read_text()
    text = text.partition("| preset | data | use |")[2].partition("\n\n")[0]
    table = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    documented = {name: data for names, data in table for name in re.findall("`(.*?)`", names)}
    assert set(PRESETS) == set(documented)
    for name, configuration in PRESETS.items():
        assert configuration.name == name
        if configuration.data == "scenes":
            assert f" {configuration.scenes_images:,} drawn scenes" in documented[name]
        else:
            assert configuration.data == f"data/{name}"
        (tmp_path / "config.json").write_text(configuration.to_json())
        assert Configuration.read(tmp_path / "config.json") == configuration, "valid when read"
