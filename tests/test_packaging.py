"""What the packaging files say agrees, and is what the package holds."""

import pathlib
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_requirements_and_pyproject_name_the_same_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    beam, docs, whole = (set(extras.pop(name)) for name in ("beam", "docs", "all"))
    assert whole == {f"keras-aoa[{','.join(extras)}]"}
    named = {line for lines in extras.values() for line in lines}
    assert required("requirements.txt") == named | set(project["dependencies"])
    assert beam < required("requirements-beam.txt") < beam | named
    assert docs == required("requirements-docs.txt")


def required(name):
    """Lines of a file that are no comments."""
    lines = (ROOT / name).read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_files_that_are_no_python_are_in_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    named = {
        path
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = {path for path in (ROOT / "keras_aoa").rglob("*") if path.is_file()}
    others = {path for path in files if path.suffix not in (".py", ".pyc")}
    assert others and others == named
