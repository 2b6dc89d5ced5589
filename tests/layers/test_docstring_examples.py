"""The `Example:` of each public layer's docstring runs and prints what its comments say."""

import inspect
import re
import textwrap

import keras
import numpy as np
import pytest

from keras_aoa import layers


def example_of(name):
    """Code of the `Example:` in a public name's docstring."""
    text = inspect.cleandoc(getattr(layers, name).__doc__)
    (block,) = re.findall(r"^Example:\n\n```python\n(.*?)^```", text, re.M | re.S)
    return textwrap.dedent(block)


@pytest.mark.parametrize("name", layers.__all__)
def test_the_example_of_each_public_name_runs(name, capsys):
    keras.utils.set_random_seed(0)
    code = example_of(name)
    assert name in code
    exec(compile(code, name, "exec"), {})
    (shown,) = re.findall(r"print\(.*\)  # (.*)", code)
    printed = " ".join(capsys.readouterr().out.split())
    if name == "Regions":
        assert re.search(r"\[0\.?,? 0\.?,? 0\.?\]", printed)
    elif name == "ProposalRegions":
        assert np.array_equal(re.findall("True|False", printed), ["True", "False"])
    else:
        sizes = re.compile(r"\d+|None")
        assert sizes.findall(printed) == sizes.findall(shown)
