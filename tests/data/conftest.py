"""Small images, as they are written by `shaded_images`, for the tests of batches."""

import pytest


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    from shaded_images import write_examples

    return write_examples(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def images(examples):
    """Images in memory and images from files."""
    from shaded_images import SETTINGS

    from keras_aoa.data.images.split_images import Images

    return {cache_gb: Images("train", examples, SETTINGS, cache_gb) for cache_gb in (4.0, 0)}


@pytest.fixture(scope="module")
def vocabulary(examples):
    from keras_aoa.data.text.vocabulary import Vocabulary

    return Vocabulary.from_captions([c for example in examples for c in example.captions], 1)
