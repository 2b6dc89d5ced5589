"""The examples run, and the notebook holds the code of its script."""

import json
import pathlib
import re

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


def run(name, **settings):
    """Execute an example with other settings and return its variables."""
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    for setting, value in settings.items():
        source, count = re.subn(rf"^{setting} = .*", f"{setting} = {value}", source, flags=re.M)
        assert count == 1
    names = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), names)
    return names


def test_caption_toy_trains_saves_and_draws(tmp_path, monkeypatch, capsys):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    names = run("caption_toy.py", SCENES=128, EPOCHS=2)
    assert names["history"][1] < names["history"][0]
    output = capsys.readouterr().out
    assert "length of a region's features: 200" in output
    assert output.count("caption:") == output.count("reference:") == 4
    assert (tmp_path / "caption_toy.keras").stat().st_size > 10_000
    pixels = matplotlib.pyplot.imread(tmp_path / "caption_toy.png")
    assert pixels.std() > 0.1


def test_attention_pooling_prints_accuracies(capsys):
    run("attention_pooling.py", IMAGES=320, EPOCHS=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "average pooling",
        "attention pooling",
        "attention on the cell that shows the class",
    ]


def code_cells(script):
    """Code of the cells of a script in the percent format."""
    cells = re.split(r"^# %%", script, flags=re.M)[1:]
    return [cell.strip() for cell in cells if not cell.startswith(" [markdown]")]


def test_the_notebook_is_the_executed_script():
    notebook = json.loads((EXAMPLES / "caption_toy.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    script = (EXAMPLES / "caption_toy.py").read_text(encoding="utf-8")
    assert ["".join(cell["source"]).strip() for cell in cells] == code_cells(script)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
