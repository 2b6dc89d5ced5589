"""What the packaging files say agrees."""

import pathlib
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_requirements_and_pyproject_name_the_same_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = {line for name, lines in extras.items() if name != "all" for line in lines}
    listed = (ROOT / "requirements.txt").read_text().splitlines()
    required = {line for line in listed if line and not line.startswith("#")}
    assert required == named | set(project["dependencies"])
