"""Captioners with every kind of regions: initialization, separate weights, files and batches."""

import dataclasses

import keras
import numpy as np
import pytest
import tiny
from keras import layers

from keras_aoa.models import weights
from keras_aoa.models.backbone_parts import convolutional_part
from keras_aoa.models.backbones import BackboneSettings, make_backbone
from keras_aoa.models.build import backbone_settings, make_captioner
from keras_aoa.models.scenes_network import scenes_backbone
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.trainer import Trainer
from keras_aoa.utils.errors import UserError

WORDS = 12
KINDS = ("grid", "transformer", "proposals", "mean")
every_kind = pytest.mark.parametrize("kind", KINDS)
CAPTIONS = np.array([[[1, 4, 6, 2], [1, 3, 2, 0]], [[1, 5, 2, 0], [0, 0, 0, 0]]])
BOXES = np.array(
    [
        [[0.1, 0.1, 0.6, 0.9], [0, 0, 1, 1], [0.7, 0.2, 0.9, 0.4], [0, 0, 0, 0]],
        [[0.5, 0.5, 1, 1], [0.2, 0, 0.3, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
    ],
    np.float32,
)
SETTINGS = Configuration(
    image_size=24,
    vector_layer="mean",
    backbone_weights="none",
    units=9,
    embedding_dim=8,
    stride=1,
    anchor_scale=1.0,
    feature_length=3.0,
    dropout=0.0,
    learning_rate=0.01,
    backbone_learning_rate=0.01,
)


def network(last=None):
    """A 5x5 and a 3x3 convolution, the latter with random biases, and an optional last layer."""
    pixels = keras.Input((None, None, 3))
    first = layers.Conv2D(6, 5, strides=4, padding="same", activation="relu", name="first")(pixels)
    second = layers.Conv2D(
        5, 3, padding="same", activation="relu", bias_initializer="random_normal", name="second"
    )(first)
    return keras.Model(pixels, last(second) if last else second, name="network")


@pytest.fixture(scope="module")
def network_file(tmp_path_factory):
    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("network") / "network.keras"
    network().save(path)
    return str(path)


def configured(network_file, kind, **changes):
    return dataclasses.replace(
        SETTINGS, **{"backbone": network_file, "preprocessing": "tf", "regions": kind, **changes}
    )


def make(configuration, seed=0):
    """A captioner built as in training, with random weights in its cell."""
    keras.utils.set_random_seed(seed)
    return make_captioner(configuration, make_backbone(backbone_settings(configuration)), WORDS)


def inputs_of(captioner, seed=0, count=2):
    batch = {"images": pixels(24, seed, count), "captions": CAPTIONS[:count]}
    if captioner.region_backbone:
        batch |= {"region_images": pixels(40, seed + 9, count), "proposals": BOXES[:count]}
    return batch


def pixels(side, seed=0, count=2):
    random = np.random.default_rng(seed)
    return random.uniform(0, 255, (count, side, side, 3)).astype(np.float32)


def copy_cell_and_projection(captioner, other):
    """Copy the weights of the cell and the image projection from another captioner."""
    for name in ("cell", "image_projection"):
        parts = (getattr(each, name).variables for each in (captioner, other))
        for own, theirs in zip(*parts, strict=True):
            own.assign(theirs)


def test_an_identity_transformer_equals_the_grid_including_its_border(network_file):
    grid, transformer = (make(configured(network_file, kind)) for kind in ("grid", "transformer"))
    copy_cell_and_projection(transformer, grid)
    images = pixels(24)
    for stride in (1, 2):
        expected, actual = (
            grid.encode(images, stride=stride),
            transformer.encode(images, stride=stride),
        )
        assert np.asarray(expected.memory.regions).std() > 0.01
        np.testing.assert_allclose(
            actual.memory.regions, expected.memory.regions, rtol=0, atol=1e-5
        )
        centers = np.mean(expected.boxes, axis=2)
        np.testing.assert_allclose(np.mean(actual.boxes, axis=2), centers, rtol=0, atol=1e-6)
    inputs = {"images": images, "captions": CAPTIONS}
    np.testing.assert_allclose(transformer(inputs), grid(inputs), rtol=0, atol=1e-5)
    larger = make(configured(network_file, "transformer", anchor_scale=2.0))
    moved = np.asarray(larger.encode(images).memory.regions)
    assert np.abs(moved - grid.encode(images).memory.regions).max() > 0.01
    vectors = (captioner.backbone(images)["vector"] for captioner in (grid, transformer))
    np.testing.assert_allclose(*vectors, rtol=1e-6, err_msg="mean of the filter's output")


@pytest.fixture(scope="module")
def vgg16():
    """VGG16 with random weights, once with the map layer's output and once with its input."""
    keras.utils.set_random_seed(0)
    backbones = [
        make_backbone(
            BackboneSettings("VGG16", 48, vector_layer="mean", weights="none", before_map=before)
        )
        for before in (False, True)
    ]
    backbones[1].set_weights(backbones[0].get_weights())
    return backbones


def test_vgg16_supports_every_kind_and_its_identity_transformer_equals_the_grid(vgg16):
    images, outputs, first = pixels(48), {}, None
    for kind in KINDS:
        configuration = dataclasses.replace(SETTINGS, regions=kind, image_size=48)
        assert backbone_settings(configuration).before_map == (kind == "transformer")
        captioner = make_captioner(configuration, vgg16[kind == "transformer"], WORDS)
        first = first or captioner
        copy_cell_and_projection(captioner, first)
        inputs = {"images": images, "captions": CAPTIONS}
        if kind == "proposals":
            inputs |= {"region_images": pixels(64), "proposals": BOXES}
        encoded = captioner.encode(inputs)
        log_probs = np.asarray(captioner(inputs))
        assert np.isfinite(log_probs).all() and (log_probs[0, 0] < 0).all()
        outputs[kind] = np.asarray(encoded.memory.regions), log_probs
    counts = {kind: regions.shape[1:] for kind, (regions, _) in outputs.items()}
    assert counts == {
        "grid": (9, 512), "transformer": (9, 512), "proposals": (4, 512), "mean": (1, 512),
    }  # fmt: skip
    assert outputs["grid"][0].std() > 0.01
    for own, grids in zip(outputs["transformer"], outputs["grid"], strict=True):
        np.testing.assert_allclose(own, grids, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (
            layers.Activation("relu", name="relu10"),
            "expected a 3x3 convolution with stride 1 as the map layer, received layer relu10 of "
            "network",
        ),
        (layers.Conv2D(4, 1, name="squeeze"), "received layer squeeze of network"),
        (layers.Conv2D(4, 3, strides=2, padding="same", name="half"), "layer half of network"),
        (layers.Conv2D(4, 3, padding="valid", name="less"), "layer less of network"),
    ],
)
def test_a_map_layer_that_is_not_a_3x3_convolution_is_refused(last, message, tmp_path):
    network(last).save(tmp_path / "network.keras")
    with pytest.raises(UserError, match=r"^transformer_filter: ") as refusal:
        make(configured(str(tmp_path / "network.keras"), "transformer"))
    assert message in str(refusal.value) and "'own'" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    own = configured(str(tmp_path / "network.keras"), "transformer", transformer_filter="own")
    assert make(own).encode(pixels(24)).boxes.shape[0] == 2
    named = configured(str(tmp_path / "network.keras"), "transformer", map_layer="second")
    assert make(named).encode(pixels(24)).boxes.shape[1] == 36


def test_the_scenes_network_cannot_provide_a_filter():
    with pytest.raises(UserError, match=r"transformer_filter: .*'scenes'.*'own'") as refusal:
        make(dataclasses.replace(SETTINGS, backbone="scenes", regions="transformer"))
    assert "\n" not in str(refusal.value)


# --- the second network of proposals --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "scenes", "plain"])
def test_the_copied_network_outputs_the_map_of_the_backbone_at_any_size(network_file, kind):
    if kind == "file":
        backbone = make_backbone(backbone_settings(configured(network_file, "grid")))
    else:
        backbone = scenes_backbone() if kind == "scenes" else tiny.make_backbone()
    copy = convolutional_part(backbone)
    expected = backbone(pixels(24))["map"]
    np.testing.assert_allclose(copy(pixels(24)), expected, rtol=1e-5, atol=1e-5)
    larger = copy(pixels(40)[:, :, :32])
    assert larger.shape[1] > expected.shape[1] and larger.shape[1] > larger.shape[2]
    assert not {id(v) for v in copy.variables} & {id(v) for v in backbone.variables}


def values(part):
    return [np.asarray(v.value).copy() for v in part.trainable_variables]


def test_both_networks_of_proposals_start_equal_and_only_joint_steps_change_them(network_file):
    rate = 1e-3
    changes = {"rnn_epochs": 1, "joint_epochs": 1, "backbone_learning_rate": rate}
    configuration = configured(network_file, "proposals", variant="word_region", **changes)
    captioner = make(configuration)
    parts = captioner.backbone, captioner.region_backbone
    first = [values(part) for part in parts]
    for own, copied in zip(*first, strict=True):
        np.testing.assert_array_equal(own, copied)
    trainer = Trainer(captioner, configuration, 4)
    cell = values(captioner.cell)
    trainer.step(inputs_of(captioner), stage=1)
    for part, before in zip(parts, first, strict=True):
        for value, old in zip(values(part), before, strict=True):
            np.testing.assert_array_equal(value, old)
    assert not np.array_equal(cell[0], values(captioner.cell)[0])
    trainer.step(inputs_of(captioner), stage=2)
    for own, copied, old in zip(*map(values, parts), first[0], strict=True):
        # Adam's first step has the length of the learning rate.
        assert np.abs(own - old).max() == pytest.approx(rate, rel=0.01)
        assert np.abs(copied - old).max() == pytest.approx(rate, rel=0.01)
        assert np.abs(own - copied).max() > rate / 2
    names = weights.captioner_variables(captioner, with_backbone=True)
    assert sum(name.startswith("region_backbone/") for name in names) == 4


def test_each_network_of_proposals_receives_its_own_images(network_file):
    captioner = make(configured(network_file, "proposals"))
    inputs = inputs_of(captioner)
    before = captioner.encode(inputs)
    other = captioner.encode({**inputs, "images": pixels(24, 7)})
    np.testing.assert_array_equal(before.memory.regions, other.memory.regions)
    assert np.abs(np.asarray(before.state) - other.state).max() > 1e-3
    other = captioner.encode({**inputs, "region_images": pixels(40, 7)})
    assert np.abs(np.asarray(before.memory.regions) - other.memory.regions).max() > 1e-3


# --- files and batches ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("error::UserWarning")
@every_kind
def test_a_saved_captioner_has_the_same_outputs(network_file, kind, tmp_path):
    captioner = make(configured(network_file, kind))
    inputs = inputs_of(captioner)
    expected = np.asarray(captioner(inputs))
    captioner.save(tmp_path / "captioner.keras")
    loaded = keras.models.load_model(tmp_path / "captioner.keras")
    np.testing.assert_array_equal(loaded(inputs), expected)
    np.testing.assert_array_equal(loaded.encode(inputs).boxes, captioner.encode(inputs).boxes)
    assert (loaded.region_backbone is None) == (kind != "proposals")
    assert len(loaded.trainable_variables) == len(captioner.trainable_variables)


@every_kind
def test_a_caption_does_not_depend_on_its_neighbors(network_file, kind):
    captioner = make(configured(network_file, kind))
    inputs = inputs_of(captioner)
    together = np.asarray(captioner(inputs))
    for row in range(2):
        single = {name: value[row : row + 1] for name, value in inputs.items()}
        if kind == "proposals":
            kept = single["proposals"][:, : 3 - row]  # first with more padding, then without any
            more = {**single, "proposals": np.pad(kept, ((0, 0), (0, 5), (0, 0)))}
            np.testing.assert_allclose(captioner(more)[0], together[row], rtol=1e-5, atol=1e-5)
            single["proposals"] = kept
        np.testing.assert_allclose(captioner(single)[0], together[row], rtol=1e-5, atol=1e-5)
