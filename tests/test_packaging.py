"""The packaging files agree with each other and with the files of the package."""

import pathlib
import tomllib

from keras_aoa.utils.command_line import EXTRAS

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_requirements_and_pyproject_have_the_same_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    separate = ("beam", "demo", "docs", "gpu", "serve", "all")
    beam, demo, docs, gpu, serve, everything = (set(extras.pop(name)) for name in separate)
    assert everything == {f"keras-aoa[{','.join(extras)}]"}
    listed = {line for lines in extras.values() for line in lines}
    assert required("requirements.txt") == listed | set(project["dependencies"])
    assert beam < required("requirements-beam.txt") < beam | listed
    assert docs == required("requirements-docs.txt")
    assert serve == required("requirements-serve.txt")
    assert demo == {"keras-aoa[train]"}
    assert {line.replace("[and-cuda]", "") for line in gpu} < listed


def test_missing_packages_belong_to_the_extras_that_install_them():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    distributions = {
        "apache_beam": "apache-beam",
        "cv2": "opencv-contrib-python",
        "tensorflow_serving": "tensorflow-serving-api",
    }
    for package, extra in EXTRAS.items():
        wanted = distributions.get(package, package)
        assert [line for line in extras[extra] if line.startswith(f"{wanted}>=")], package


def required(name):
    """Return the lines of a requirements file, without comments."""
    lines = (ROOT / name).read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_the_wheel_contains_all_files_other_than_python_files():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = {
        path
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = {path for path in (ROOT / "keras_aoa").rglob("*") if path.is_file()}
    others = {path for path in files if path.suffix not in (".py", ".pyc")}
    assert others and others == listed
