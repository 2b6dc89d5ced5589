"""Small images whose brightness tells them apart, and comparisons of batches of them."""

import cv2
import numpy as np
import pytest

from keras_aoa.data.examples import Example
from keras_aoa.data.images.preprocessing import ImageSettings

SETTINGS = ImageSettings(16)
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
MEMORY = pytest.mark.parametrize("cache_gb", [4.0, 0], ids=["memory", "files"])


def write_examples(folder):
    """Write 11 images, dark left and light right; image i has i % 8 captions."""
    examples = []
    for i, word in enumerate(WORDS):
        image = np.full((20, 24, 3), 10 * i, np.uint8)
        image[:, 12:] += 100
        path = str(folder / f"{i}.png")
        cv2.imwrite(path, image)
        captions = [f"{word} {'very ' * k}many" for k in range(i % 8)]
        examples.append(Example(f"image {i}", path, tuple(captions)))
    return examples


def numpy(dataset):
    return list(dataset.as_numpy_iterator())


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key, value in batch.items():
            np.testing.assert_array_equal(value, other[key], err_msg=key)


def indices(batches):
    return np.concatenate([batch["index"] for batch in batches]).tolist()


# --- content of a batch ---------------------------------------------------------------------------
