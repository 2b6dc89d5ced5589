"""Backbones: preprocessing and layers of each network, files, and error messages."""

import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_aoa.models.backbones import (
    BackboneSettings,
    application_names,
    is_pretrained,
    load_backbone,
    make_backbone,
    scenes_backbone,
)
from keras_aoa.utils.errors import UserError

PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


def small_network(**_):
    """A network with two maps and a vector."""
    pixels = keras.Input((None, None, 3))
    same = layers.Activation("linear", name="same")(pixels)
    activations = layers.Conv2D(4, 3, name="convolution")(same)
    vector = layers.GlobalMaxPooling2D(name="highest")(activations)
    return keras.Model(pixels, layers.Dense(5, name="scores")(vector), name="small")


@pytest.fixture
def network_file(tmp_path):
    """A small network with random weights, and its file."""
    network = small_network()
    network.save(tmp_path / "network.keras")
    return network, str(tmp_path / "network.keras")


def test_application_names_include_well_known_networks():
    assert {"VGG16", "ResNet50V2", "EfficientNetB0", "MobileNetV3Small"} <= set(application_names())


@pytest.mark.parametrize("name", application_names())
def test_each_application_uses_the_preprocessing_of_its_module(name, monkeypatch):
    module = sys.modules[getattr(keras.applications, name).__module__]
    monkeypatch.setattr(keras.applications, name, small_network)
    settings = BackboneSettings(name, 32, map_layer="same", vector_layer="mean", weights="none")
    inputs = make_backbone(settings)(PIXELS)["map"]
    expected = module.preprocess_input(PIXELS.copy())
    np.testing.assert_allclose(inputs, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def vgg16():
    """VGG16 with random weights: the backbone and the network of keras.applications in it."""
    make, made = keras.applications.VGG16, []

    def make_once(*arguments, **options):  # 138 million random numbers
        made.append(make(*arguments, **options))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "VGG16", make_once)
        backbone = make_backbone(BackboneSettings("vgg16", 224, weights="none"))
    (plain,) = made
    # The backbone ends at fc2, the network one layer later.
    assert len(backbone.weights) == len(plain.weights[:-2]) == 30
    return backbone, plain


def test_vgg16_outputs_conv5_3_and_fc7(vgg16):
    backbone, plain = vgg16
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype("float32")
    outputs = [plain.get_layer(name).output for name in ("block5_conv3", "fc2")]
    activations, vector = keras.Model(plain.input, outputs)(
        keras.applications.vgg16.preprocess_input(pixels.copy())
    )
    actual = backbone(pixels)
    assert actual["map"].shape == (1, 14, 14, 512)
    assert actual["vector"].shape == (1, 4096)
    np.testing.assert_allclose(actual["map"], activations, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(actual["vector"], vector, rtol=1e-4, atol=1e-3)
    assert np.std(vector) > 0.1


def test_vgg16_accepts_any_size_with_a_mean_vector_and_weights_from_a_file(tmp_path):
    plain = keras.applications.VGG16(weights=None, include_top=False)
    plain.save_weights(tmp_path / "vgg16.weights.h5")
    settings = BackboneSettings(
        "VGG16", 64, vector_layer="mean", weights=str(tmp_path / "vgg16.weights.h5")
    )
    actual = make_backbone(settings)(PIXELS)
    (tmp_path / "vgg16.weights.h5").unlink()
    activations = keras.Model(plain.input, plain.get_layer("block5_conv3").output)(
        keras.applications.vgg16.preprocess_input(PIXELS.copy())
    )
    assert actual["map"].shape == (2, 2, 2, 512)
    np.testing.assert_allclose(actual["map"], activations, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        actual["vector"], np.mean(activations, axis=(1, 2)), rtol=1e-4, atol=1e-4
    )


def test_the_pretrained_network_receives_bgr_minus_the_mean(shared):
    path = str(shared / "models" / "squeezenet1_1_notop.keras")
    backbone = make_backbone(BackboneSettings(path, 243, preprocessing="caffe"))
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 243, 243, 3)).astype("float32")
    expected = keras.models.load_model(path)(pixels[..., ::-1] - [103.939, 116.779, 123.68])
    actual = backbone(pixels)
    assert actual["map"].shape == (1, 14, 14, 512)
    np.testing.assert_allclose(actual["map"], expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        actual["vector"], np.mean(expected, axis=(1, 2)), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize(
    ("preprocessing", "inputs"),
    [
        ("raw", PIXELS),
        ("unit", PIXELS / 255),
        ("tf", PIXELS / 127.5 - 1),
        ("torch", (PIXELS / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("caffe", PIXELS[..., ::-1] - [103.939, 116.779, 123.68]),
    ],
)
def test_a_network_from_a_file_uses_the_configured_preprocessing(
    network_file, preprocessing, inputs
):
    network, path = network_file
    actual = make_backbone(BackboneSettings(path, 32, preprocessing))(PIXELS)
    expected = network.get_layer("convolution")(inputs)
    np.testing.assert_allclose(actual["map"], expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        actual["vector"], np.mean(expected, axis=(1, 2)), rtol=1e-4, atol=1e-3
    )


def test_layers_can_be_selected_by_name(network_file):
    network, path = network_file
    settings = BackboneSettings(path, 32, "raw", map_layer="same", vector_layer="scores")
    actual = make_backbone(settings)(PIXELS)
    np.testing.assert_array_equal(actual["map"], PIXELS)
    np.testing.assert_allclose(actual["vector"], network(PIXELS), rtol=1e-5)


@pytest.mark.parametrize("name", ["scenes", "network"])
def test_a_saved_backbone_loads_without_its_settings(name, network_file, tmp_path):
    settings = BackboneSettings(name, 32)
    if name == "network":
        settings = BackboneSettings(network_file[1], 32, "torch", vector_layer="highest")
    backbone = make_backbone(settings)
    backbone.save(tmp_path / "backbone.keras")
    loaded = load_backbone(tmp_path / "backbone.keras")(PIXELS)
    expected = backbone(PIXELS)
    assert set(loaded) == {"map", "vector"}
    for output in loaded:
        np.testing.assert_array_equal(loaded[output], expected[output])


def test_the_scenes_network_has_cells_of_8_pixels_and_encodes_their_positions():
    backbone = scenes_backbone()
    pixels = np.full((1, 96, 96, 3), 90, "float32")
    actual = backbone(pixels)
    activations = np.asarray(actual["map"])
    assert activations.shape == (1, 12, 12, 192)
    np.testing.assert_allclose(actual["vector"], activations.mean(axis=(1, 2)), 1e-4, 1e-5)
    inside = activations[0, 3:9, 3:9]
    assert np.std(inside, axis=0).max() > 0.01
    assert np.std(inside, axis=1).max() > 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "VGG-16"},
            r"backbone: expected 'scenes', a network of keras.applications, EfficientNetLite0 to 2 "
            r"or a .keras file, received 'VGG-16'. Did you mean .*VGG16",
        ),
        (
            {"name": "VGG16", "preprocessing": "tf"},
            "preprocessing: expected no value because VGG16 includes its own preprocessing, "
            "received 'tf'; omit the setting",
        ),
        (
            {"name": "VGG16", "image_size": 256},
            r"VGG16's fc2 needs images of 224 pixels, received image_size=256; set image_size",
        ),
        (
            {"name": "MobileNetV3Small", "weights": "nowhere.weights.h5"},
            "backbone_weights: expected 'imagenet', 'none' or a file, received "
            "'nowhere.weights.h5', which does not exist",
        ),
        (
            {"name": "folder/nowhere.keras", "preprocessing": "tf"},
            "expected a .keras file, received folder/nowhere.keras, which does not exist",
        ),
        (
            {"name": "NETWORK"},
            r"preprocessing: a backbone from a file needs one of caffe, tf, torch, unit, raw, "
            r"received ''; set the preprocessing that .*network.keras was trained with",
        ),
        ({"name": "NETWORK", "preprocessing": "bgr"}, "needs one of .* received 'bgr'"),
        (
            {"name": "NETWORK", "preprocessing": "raw", "map_layer": "convolutoin"},
            r"small has no layer 'convolutoin'. Did you mean convolution\?",
        ),
        (
            {"name": "NETWORK", "preprocessing": "raw", "vector_layer": "fc7"},
            "small has no layer 'fc7'. Known: convolution, highest",
        ),
        (
            {"name": "NETWORK", "preprocessing": "raw", "map_layer": "scores"},
            r"map_layer: expected a layer of shape \(batch, rows, columns, features\), received "
            "'scores' of shape",
        ),
        (
            {"name": "NETWORK", "preprocessing": "raw", "vector_layer": "convolution"},
            r"vector_layer: expected a layer of shape \(batch, features\), received 'convolution'",
        ),
    ],
)
def test_wrong_settings_raise_a_one_line_error(settings, message, network_file):
    if settings["name"] == "NETWORK":
        settings = {**settings, "name": network_file[1]}
    with pytest.raises(UserError, match=message) as raised:
        make_backbone(BackboneSettings(**{"image_size": 224, **settings}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"no network", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_not_a_network_is_refused(content, tmp_path):
    path = tmp_path / "photo.keras"
    path.write_bytes(content)
    settings = BackboneSettings(str(path), 224, "raw")
    with pytest.raises(UserError, match=r"photo.keras: expected a backbone in Keras's .keras"):
        make_backbone(settings)


def test_code_in_a_file_is_not_executed(tmp_path):
    pixels = keras.Input((None, None, 3))
    network = keras.Model(pixels, layers.Lambda(lambda x: x + 1)(pixels))
    network.save(tmp_path / "lambda.keras")
    with pytest.raises(UserError, match=r"expected a backbone .* that does not load"):
        load_backbone(tmp_path / "lambda.keras")


def test_a_network_without_a_map_is_refused(tmp_path):
    numbers = keras.Input((8,))
    keras.Model(numbers, layers.Dense(3)(numbers), name="flat").save(tmp_path / "flat.keras")
    with pytest.raises(UserError, match="flat has no layer with an activation map"):
        make_backbone(BackboneSettings(str(tmp_path / "flat.keras"), 224, "raw"))


def test_a_network_with_two_inputs_is_refused(tmp_path):
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    keras.Model(inputs, layers.Add()(inputs), name="two").save(tmp_path / "two.keras")
    with pytest.raises(UserError, match="with one input, received Functional 'two'"):
        make_backbone(BackboneSettings(str(tmp_path / "two.keras"), 224, "raw"))


@pytest.mark.parametrize(
    ("name", "weights", "pretrained"),
    [
        ("scenes", "imagenet", False),
        ("VGG16", "imagenet", True),
        ("VGG16", "None", False),
        ("VGG16", "folder/vgg.weights.h5", True),
        ("network.keras", "none", True),
    ],
)
def test_is_pretrained_depends_on_name_and_weights(name, weights, pretrained):
    assert is_pretrained(name, weights) == pretrained


def test_the_error_of_a_failed_download_suggests_a_weights_file(monkeypatch):
    def broken(**_):
        raise OSError("URL fetch failure\nand a stack of details")

    monkeypatch.setattr(keras.applications, "VGG16", broken)
    message = r"received an error .URL fetch failure.; .* set backbone_weights to a file"
    with pytest.raises(UserError, match=message):
        make_backbone(BackboneSettings("VGG16", 224))


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_network_are_refused(network_file, tmp_path):
    network_file[0].save_weights(tmp_path / "other.weights.h5")
    settings = BackboneSettings(
        "VGG19", 32, vector_layer="mean", weights=str(tmp_path / "other.weights.h5")
    )
    with pytest.raises(UserError, match=r"to build VGG19 with weights .*received an error"):
        make_backbone(settings)


def test_receptive_fields_of_the_scenes_backbone_are_centered_on_their_cells():
    tf = pytest.importorskip("tensorflow")
    backbone = scenes_backbone()
    pixels = tf.random.stateless_uniform((1, 96, 96, 3), (1, 2), 0, 255)
    for row, column in ((6, 6), (5, 6)):
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            cell = tf.reduce_sum(backbone(pixels, training=False)["map"][0, row, column])
        gradient = tf.reduce_sum(tf.abs(tape.gradient(cell, pixels)), axis=(0, 3)).numpy()
        rows, columns = np.flatnonzero(gradient.sum(1)), np.flatnonzero(gradient.sum(0))
        assert abs((rows[0] + rows[-1] + 1) / 2 - 8 * (row + 0.5)) <= 0.5
        assert abs((columns[0] + columns[-1] + 1) / 2 - 8 * (column + 0.5)) <= 0.5
