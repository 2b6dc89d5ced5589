"""Warm start from another run's weights: loaded weights, new weights, and incompatible runs."""

import contextlib
import dataclasses
import re

import keras
import numpy as np
import pytest
from warm_sources import PARTS, arrays, assert_equal, configured, make_source

from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.models.backbones import make_backbone
from keras_aoa.models.build import backbone_settings
from keras_aoa.runs.run import Run
from keras_aoa.training import loop as training
from keras_aoa.training import preparation
from keras_aoa.training.warm_start import WarmStart
from keras_aoa.utils.errors import UserError


def prepare(configuration):
    """The initial captioner of a training, and the log line of its warm start."""
    run = preparation.prepare_run(configuration, contextlib.ExitStack())[0]
    keras.utils.set_random_seed(configuration.seed)
    captioner = run.make_captioner()
    return captioner, WarmStart(configuration.start_from).load(captioner)


def line_of(folder, loaded, new, unused):
    return f"Starting from {folder}: loaded {loaded}; new {new}; not needed {unused}."


CELL = "backbone, cell (10 arrays), image_projection (1 arrays)"


@pytest.mark.parametrize(
    ("regions", "new"),
    [
        ("grid", "nothing"),
        ("mean", "nothing"),
        ("transformer", "regions"),
        ("proposals", "region_backbone (a copy of the backbone)"),
    ],
)
def test_every_kind_can_start_from_a_grid_run(folder, source, loaded, squares, regions, new):
    configuration = configured(
        folder, squares, name=f"to-{regions}", regions=regions, start_from=str(source.folder)
    )
    captioner, line = prepare(configuration)
    assert line == line_of(source.folder, CELL, new, "nothing")
    for part in PARTS[:3]:
        assert_equal(getattr(captioner, part), getattr(loaded, part))
    tuned = loaded.backbone.get_weights()
    # Copies of the backbone have its trained weights, not those of its file.
    if regions == "proposals":
        for own, expected in zip(captioner.region_backbone.get_weights(), tuned, strict=True):
            np.testing.assert_array_equal(own, expected)
    if regions == "transformer":
        np.testing.assert_array_equal(captioner.regions.kernel, tuned[2])
        np.testing.assert_array_equal(captioner.regions.bias, tuned[3])
    # The run's own folder has the trained backbone, even if the run never trains it.
    kept = Run(configuration.folder).make_captioner().backbone.get_weights()
    for own, expected in zip(kept, tuned, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_a_grid_can_start_from_a_run_on_proposals(folder, squares, vocabulary):
    theirs = make_source(
        configured(folder, squares, name="proposals", regions="proposals"), vocabulary, tuned=True
    )
    configuration = configured(folder, squares, name="back", start_from=str(theirs.folder))
    captioner, line = prepare(configuration)
    assert line == line_of(theirs.folder, CELL, "nothing", "region_backbone")
    again = dataclasses.replace(configuration, name="again", regions="proposals")
    captioner, line = prepare(again)
    assert line == line_of(theirs.folder, f"{CELL}, region_backbone", "nothing", "nothing")
    saved = theirs.load_captioner()
    assert_equal(captioner.region_backbone, saved.region_backbone)
    assert not np.array_equal(arrays(saved.backbone)[0], arrays(saved.region_backbone)[0])


def test_a_transformer_loads_the_regions_of_another_transformer(folder, squares, vocabulary):
    options = {"regions": "transformer", "transformer_filter": "own"}
    theirs = make_source(configured(folder, squares, name="aimed", **options), vocabulary)
    captioner, line = prepare(
        configured(folder, squares, name="aimed-on", start_from=str(theirs.folder), **options)
    )
    assert line == line_of(theirs.folder, f"{CELL}, regions", "nothing", "nothing")
    assert_equal(captioner.regions, theirs.load_captioner().regions)
    _, line = prepare(configured(folder, squares, name="fixed", start_from=str(theirs.folder)))
    assert line == line_of(theirs.folder, CELL, "nothing", "regions")


def test_the_full_variant_loads_common_weights_of_a_baseline_and_lists_the_others(
    folder, squares, vocabulary
):
    theirs = make_source(configured(folder, squares, name="base", variant="baseline"), vocabulary)
    configuration = configured(folder, squares, name="full", start_from=str(theirs.folder))
    captioner, line = prepare(configuration)
    match = re.fullmatch(
        re.escape(f"Starting from {theirs.folder}: ")
        + r"loaded backbone, cell \((\d+) arrays\), image_projection \(1 arrays\); "
        r"new (.*); not needed nothing\.",
        line,
    )
    own, base = captioner.cell.variables, theirs.load_captioner().cell.variables
    names = {variable.name: np.asarray(variable.value) for variable in base}
    assert int(match[1]) == len(names) == len(base)
    new = match[2].split(", ")
    assert sorted(new) == sorted(f"cell's {v.name}" for v in own if v.name not in names)
    assert "cell's region_kernel" in new and "cell's region_state" in new
    for variable in own:
        if variable.name in names:
            np.testing.assert_array_equal(variable, names[variable.name])
    back = configured(
        folder, squares, name="less", variant="baseline", start_from=str(theirs.folder)
    )
    full = make_source(configured(folder, squares, name="full-source"), vocabulary)
    _, line = prepare(dataclasses.replace(back, start_from=str(full.folder)))
    assert line.endswith(f"new nothing; not needed {', '.join(new)}.")


def other_network(folder):
    pixels = keras.Input((None, None, 3))
    keras.Model(pixels, keras.layers.Conv2D(5, 5, strides=8)(pixels)).save(folder / "other.keras")
    return {"backbone": str(folder / "other.keras")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minimum_count": 8}, r"has another vocabulary \(\d+ words, here \d+\); use the data"),
        ({"units": 8}, r"has (cell|image_projection)'s \w+ of shape \(.*\), here \(.*\); choose"),
        ({"embedding_dim": 5}, r"has cell's \w+ of shape \(.*\), here \(.*\); choose"),
        (other_network, r"has another backbone \(4 arrays, here 2\); choose"),
        ({"feature_length": 2.5}, r"has feature_length .*, here 2\.5; set feature_length to"),
        ({"image_first": True}, "has image_first False, here True; set image_first to False"),
        ({"image_each_step": True}, "has image_each_step False, here True; set image_each_step to"),
        (
            {"start_from": "nowhere"},
            "nowhere: expected the folder of a run or the name of a captioner",
        ),
    ],
    ids=["vocabulary", "units", "embedding", "backbone", "length", "first", "each", "missing"],
)
def test_an_incompatible_run_is_refused_in_one_line_and_no_file_is_created(
    folder, source, squares, tmp_path, changes, message
):
    changes = changes(tmp_path) if callable(changes) else changes
    own = {"backbone": str(folder / "network.keras"), "start_from": str(source.folder)}
    with pytest.raises(UserError, match=message) as refusal:
        training.train(configured(tmp_path, squares, **{**own, **changes}))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()
    if "start_from" not in changes:
        assert str(refusal.value).startswith(f"start_from: {source.folder} has ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformer_filter": "own"}, "has transformer_filter 'backbone', here 'own'; set"),
        ({"anchor_scale": 3.0}, "has anchor_scale 1.0, here 3.0; set anchor_scale to 1.0"),
    ],
)
def test_another_spatial_transformer_is_refused(folder, squares, vocabulary, changes, message):
    settings = configured(folder, squares, name="transformers", regions="transformer")
    start = WarmStart(make_source(settings, vocabulary).folder)
    start.check_settings(settings)
    with pytest.raises(UserError, match=message):
        start.check_settings(dataclasses.replace(settings, **changes))
    start.check_settings(dataclasses.replace(settings, **changes, regions="grid"))


def test_a_vocabulary_of_the_same_length_with_another_word_is_refused(source, vocabulary):
    start = WarmStart(source.folder)
    start.check_vocabulary(Vocabulary(vocabulary.words[4:]))
    for words in ((*vocabulary.words[4:-1], "walrus"), vocabulary.words[:3:-1]):
        with pytest.raises(UserError, match=r"has another vocabulary \((\d+) words, .* \1\)"):
            start.check_vocabulary(Vocabulary(words))


def test_an_untrained_run_is_refused(folder, source, squares, tmp_path):
    bare = configured(tmp_path, squares, name="bare", backbone=source.configuration.backbone)
    Run.create(bare, source.vocabulary, make_backbone(backbone_settings(bare)))
    with pytest.raises(UserError, match=r"bare: expected trained weights"):
        training.train(dataclasses.replace(bare, name="run", start_from=str(tmp_path / "bare")))
    assert not (tmp_path / "run").exists()
