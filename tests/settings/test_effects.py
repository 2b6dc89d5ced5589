"""Settings without effect: which are refused, and that they do not make runs different."""

import dataclasses

import pytest

from keras_aoa import train
from keras_aoa.settings.configuration import Configuration
from keras_aoa.settings.effects import require_effects
from keras_aoa.settings.presets import PRESETS
from keras_aoa.utils.errors import UserError


@pytest.mark.parametrize(
    ("changed", "needed"),
    [
        ({"review_steps": 4}, {"variant": "review"}),
        ({"hard_reinforce": 0.5}, {"variant": "hard"}),
        ({"hard_entropy": 0.5}, {"variant": "hard"}),
        ({"concept_count": 90}, {"concepts": "attributes"}),
        ({"concept_loss": 0.5}, {"concepts": "topics"}),
        ({"anchor_scale": 3.0}, {"regions": "transformer"}),
        ({"border": "replicate"}, {"regions": "transformer"}),
        ({"transformer_filter": "backbone"}, {"regions": "transformer"}),
        ({"train_proposals": 9}, {"regions": "proposals"}),
        ({"test_proposals": 9}, {"regions": "proposals"}),
        ({"proposals_size": 64}, {"regions": "proposals"}),
        ({"proposals_fit": "pad"}, {"regions": "proposals"}),
        ({"proposal_method": "selective_search"}, {"regions": "proposals"}),
        ({"edge_model": "forest.yml"}, {"regions": "proposals"}),
        ({"decay_factor": 0.1}, {"decay": "step"}),
        ({"decay_epochs": 2}, {"decay": "plateau"}),
        ({"reward_learning_rate": 1e-4}, {"reward_epochs": 1}),
        ({"reward_samples": 3}, {"reward_epochs": 1}),
        ({"reward_temperature": 0.5}, {"reward_epochs": 1}),
        ({"reward_baseline": "greedy"}, {"reward_epochs": 1}),
        ({"reward_cider": 0.5}, {"reward_epochs": 1}),
        ({"reward_bleu": 0.5}, {"reward_epochs": 1}),
    ],
)
def test_changed_settings_without_effect_are_refused(changed, needed):
    start = PRESETS["scenes"]
    require_effects(dataclasses.replace(start, **changed, **needed), start)
    (name,), ((other, value),) = changed, needed.items()
    without = dataclasses.replace(start, **changed)
    expected = f".*'{value}'.*" if isinstance(value, str) else "1 or more"
    message = f"{name}: needs {other} {expected}, received .*; leave it out, or set {other} to "
    with pytest.raises(UserError, match=message):
        require_effects(without, start)
    require_effects(without, without)


def test_settings_of_scenes_and_of_stage_2_are_refused_where_they_have_no_effect():
    start = PRESETS["flickr8k"]
    for changed, needed in (
        ({"scenes_images": 9}, {"data": "scenes"}),
        ({"scenes_seed": 9}, {"data": "scenes"}),
        ({"select_seed": 9}, {"select_images": 5}),
        ({"backbone_learning_rate": 1e-3}, {"joint_epochs": 1}),
    ):
        (name,), (other,) = changed, needed
        require_effects(dataclasses.replace(start, **changed, **needed), start)
        with pytest.raises(UserError, match=f"^{name}: needs {other} "):
            require_effects(dataclasses.replace(start, **changed), start)
    stage_3 = dataclasses.replace(start, start_from="run", rnn_epochs=0, reward_epochs=1)
    require_effects(stage_3, start)
    with pytest.raises(UserError, match=r"^learning_rate: is the rate of stages 1 and 2, received"):
        require_effects(dataclasses.replace(stage_3, learning_rate=1e-4), start)


def test_training_refuses_only_settings_without_effect_that_its_command_changes(tmp_path):
    with pytest.raises(
        UserError, match=r"^regions: variant 'hard' chooses one of several regions,"
    ):
        train.main(["--variant", "hard", "--regions", "mean"])
    # `reproduce` starts each run with such a file, whose settings are for runs of all variants.
    file = tmp_path / "config.json"
    values = {"variant": "hard", "regions": "mean", "review_steps": 4, "concept_count": 9}
    file.write_text(dataclasses.replace(PRESETS["scenes"], **values).to_json())
    require_effects(Configuration.read(file), Configuration.read(file))
    with pytest.raises(UserError, match=r"^concept_loss: needs concepts 'attributes' or 'topics'"):
        train.main(["--config", str(file), "--concept-loss", "2"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label_smoothing": 0.1}, "applies to stages 1 and 2, received 0.1 with stage 3 only"),
        ({"captions_per_image": 3}, "applies to stages 1 and 2, received 3 with stage 3 only"),
        ({"scheduled_sampling": 0.3}, "applies to stages 1 and 2, received 0.3"),
        (
            {"learning_rate": 1e-4},
            "is the rate of stages 1 and 2, received 0.0001 .*; leave",
        ),
        ({"map_layer": "top"}, "does not apply to backbone 'scenes', received 'top'; leave it out"),
        ({"backbone_weights": "none"}, "does not apply to backbone 'scenes', received 'none'"),
        ({"warmup_steps": 5}, "applies to stages 1 and 2, received 5 with stage 3 only; leave"),
        ({"images": "photos"}, "does not apply to data 'scenes', received 'photos'; set data to"),
        ({"region_dropout": 0.5}, "variant 'baseline' attends to no regions, received 0.5; leave"),
    ],
)
def test_settings_without_effect_in_a_stage_a_network_or_a_variant_are_refused(changed, message):
    (name,) = changed
    start = PRESETS["scenes"]
    stage_3 = {"start_from": "run", "joint_epochs": 0, "reward_epochs": 1, "variant": "baseline"}
    with pytest.raises(UserError, match=f"^{name}: {message}"):
        require_effects(dataclasses.replace(start, **stage_3, **changed), start)
    others = {"backbone": "network.keras", "data": "captions.csv"}
    require_effects(dataclasses.replace(start, **others, **changed), start)


def test_switching_off_what_is_not_used_is_allowed():
    start = PRESETS["flickr8k"]
    stage_3 = {"start_from": "run", "rnn_epochs": 0, "reward_epochs": 1, "variant": "baseline"}
    off = {"warmup_steps": 0, "region_dropout": 0.0, "label_smoothing": 0.0}
    require_effects(dataclasses.replace(start, **stage_3, **off), start)


def test_the_seed_of_scenes_matters_for_a_network_pretrained_on_scenes():
    start = dataclasses.replace(PRESETS["study"], data="captions.csv")
    require_effects(dataclasses.replace(start, scenes_seed=3), start)


def test_settings_without_effect_do_not_make_runs_different():
    few, many = (Configuration(concept_count=count) for count in (80, 256))
    assert few.differences(many) == []
    few, many = (dataclasses.replace(each, concepts="topics") for each in (few, many))
    assert few.differences(many) == ["concept_count"]
    one, five = (Configuration(reward_samples=count) for count in (2, 5))
    assert one.differences(five) == []
    rewarded = dataclasses.replace(five, reward_epochs=1)
    assert set(one.differences(rewarded)) == {"reward_epochs", "reward_samples"}
