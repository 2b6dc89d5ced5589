"""Fixtures for runs that start from another run."""

import pytest
from warm_sources import configured, make_source, network

from keras_aoa.data.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def vocabulary(squares):
    from keras_aoa.data.readers import read

    train = read(squares).splits["train"]
    return Vocabulary.from_captions([text for example in train for text in example.captions], 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    network(folder)
    return folder


@pytest.fixture(scope="module")
def source(folder, squares, vocabulary):
    """A run on the grid with a trained backbone."""
    return make_source(configured(folder, squares, name="grid"), vocabulary, tuned=True)


@pytest.fixture(scope="module")
def loaded(source):
    """The captioner of this run."""
    return source.load_captioner()
