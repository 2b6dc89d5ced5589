"""The README's Python examples run unchanged, and the files and settings it names exist."""

import pathlib
import re
import shutil

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block_with(text):
    (block,) = [block for block in BLOCKS if text in block]
    return compile(block, "README.md", "exec")


def test_the_example_of_layers_builds_a_model():
    names = {}
    exec(block_with("AttentionGRUCell"), names)
    words, regions = names["model"].output_shape
    assert words == (None, None, 1000)
    assert regions == (None, None, 49)


def test_the_example_of_captioning_runs(squares, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(squares / "03.png", "photo.jpg")
    names = {}
    exec(block_with("keras_aoa.load"), names)
    assert names["caption"].text in capsys.readouterr().out
    assert pathlib.Path("attention.png").is_file()


def test_there_are_no_other_examples():
    assert len(BLOCKS) == 2


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"\b(?:docs|tests|keras_aoa|export)/[\w/]+\.\w+", README)))
)
def test_files_that_it_names_exist(path):
    assert (ROOT / path).is_file()


def test_settings_that_it_names_exist():
    from keras_aoa.caption import Arguments as caption
    from keras_aoa.evaluate import Arguments as evaluate
    from keras_aoa.settings.configuration import Configuration

    known = {"config", "help", "with"}
    for settings in (Configuration, evaluate, caption):
        known |= set(settings.__dataclass_fields__)
    commands = re.findall(
        r"(?:train\.py|evaluate\.py|keras-aoa (?:train|evaluate|report|caption))((?:[^`\n]|\\\n)*)",
        README,
    )
    used = {name.replace("-", "_") for text in commands for name in re.findall(r"--([\w-]+)", text)}
    assert used
    assert used <= known, used - known
