"""Commands as a user calls them: help, captions of images, and errors of one line."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import exhausted
import numpy as np
import pytest

import keras_aoa
from keras_aoa import caption, evaluate, train
from keras_aoa.settings.configuration import Configuration
from keras_aoa.settings.presets import PRESETS
from keras_aoa.utils import command_line
from keras_aoa.utils.command_line import run
from keras_aoa.utils.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def start_to_exhaust_memory():
    exhausted.start()


def call(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "command",
    [
        ["train.py"],
        ["evaluate.py"],
        ["-m", "keras_aoa.caption"],
        ["-m", "keras_aoa.train"],
        ["-m", "keras_aoa.propose"],
        ["-m", "keras_aoa.pretrain"],
        ["export/saved_model.py"],
    ],
)
def test_help_lists_settings_without_importing_tensorflow(command):
    code = (
        "import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.{'run_module' if command[0] == '-m' else 'run_path'}({command[-1]!r}, "
        "run_name='__main__')\n"
        "except SystemExit as stop: print('status', stop.code)\n"
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = call("-c", code)
    assert "beam" in done.stdout.lower()
    assert done.stdout.endswith("status 0\nFalse False\n"), done.stdout[-300:] + done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--learning-rat", "1"], "unknown setting '--learning-rat'. Did you mean learning-rate"),
        (["--units", "many"], "invalid literal for int() with base 10: 'many'"),
        (["--variant", "half"], "invalid choice 'half' for argument '--variant'"),
        (["--config", "coko"], "unknown preset 'coko'. Did you mean coco?"),
        (["--dropout", "1"], "dropout: expected at least 0 and below 1, received 1.0."),
        (["photo.jpg"], "unexpected argument 'photo.jpg'"),
    ],
)
def test_a_mistake_gives_one_line_and_exit_status_2(arguments, line, tmp_path):
    done = call("train.py", *arguments, "--output", tmp_path / "runs")
    errors = [
        text for text in done.stderr.splitlines() if not text.startswith(("W0", "I0", "E0", "WARN"))
    ]
    assert done.returncode == 2
    assert line in errors[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("--lr=1", "learning-rate"),
        ("-lr", "learning-rate"),
        ("--num_epochs", "rnn-epochs"),
        ("--gpus", "distribution"),
    ],
)
def test_names_of_other_programs_find_the_setting(argument, meant):
    with pytest.raises(UserError, match=rf"unknown setting .*\. Did you mean {meant}\?$"):
        train.main([argument])


def test_names_of_other_programs_belong_to_settings_and_are_none_themselves():
    settings = {field.name.replace("_", "-") for field in dataclasses.fields(Configuration)}
    others = [name for names in command_line.OTHER_NAMES.values() for name in names]
    assert set(command_line.OTHER_NAMES) <= settings
    assert not settings & set(others) and len(others) == len(set(others))


def test_settings_select_and_change_a_preset(monkeypatch):
    configurations = []
    monkeypatch.setattr("keras_aoa.training.loop.train", configurations.append)
    train.main(["--units", "7", "--config", "coco"])
    train.main([])
    assert configurations[0].units == 7
    assert configurations[0].minimum_count == PRESETS["coco"].minimum_count == 10
    assert configurations[1] == PRESETS["scenes"]


def test_a_run_and_results_cannot_be_combined():
    with pytest.raises(UserError, match=r"expected the folder of a run, or --results .* neither"):
        evaluate.main([])
    with pytest.raises(UserError, match="received both"):
        evaluate.main(["runs/x", "--results", "captions.json"])
    with pytest.raises(UserError, match="--results needs --references"):
        evaluate.main(["--results", "captions.json"])


@pytest.fixture
def no_java(monkeypatch, tmp_path_factory):
    """Hide Java, whose start takes seconds; `test_metrics.py` tests the scores that need it."""
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))


@pytest.mark.usefixtures("no_java")
def test_a_file_of_captions_is_scored(tmp_path, capsys):
    results = [{"image_id": n, "caption": f"a {w} dog"} for n, w in enumerate(["red", "big"])]
    annotations = [{**entry, "caption": entry["caption"] + " runs"} for entry in results]
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "references.json").write_text(json.dumps({"annotations": annotations}))
    evaluate.main([
        "--results", str(tmp_path / "results.json"),
        "--references", str(tmp_path / "references.json"),
        "--output", str(tmp_path / "scores.json"),
    ])  # fmt: skip
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["images"] == 2
    assert list(scores["missing"]) == ["METEOR"], "the command asks for METEOR"
    assert f"Bleu_1 {100 * scores['Bleu_1']:.1f}\n" in capsys.readouterr().out


@pytest.mark.usefixtures("no_java")
def test_captions_of_some_images_are_scored_only_with_captioned_only(tmp_path, capsys):
    results = [{"image_id": n, "caption": "a red dog"} for n in range(2)]
    annotations = [{"image_id": n, "caption": "one red dog"} for n in range(3)]
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "references.json").write_text(json.dumps({"annotations": annotations}))
    files = ["--results", f"{tmp_path}/results.json", "--references", f"{tmp_path}/references.json"]
    with pytest.raises(UserError, match="1 of 3 images in references"):
        evaluate.main(files)
    evaluate.main([*files, "--captioned-only"])
    assert "2 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--output", "FILE"],
            "FILE/scenes: expected a folder that can be written, received not a directory",
        ),
        (["--config", "FOLDER"], "unknown preset"),
        (["--data", "/nowhere", "--output", "FOLDER/runs"], "/nowhere"),
    ],
)
def test_mistakes_with_files_give_one_line(arguments, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    names = {"FILE": str(tmp_path / "file"), "FOLDER": str(tmp_path)}
    arguments = [
        argument.replace("FOLDER", names["FOLDER"]).replace("FILE", names["FILE"])
        for argument in arguments
    ]
    with pytest.raises(SystemExit) as stop:
        command_line.run(train.main, arguments)
    assert stop.value.code == 2
    for name, path in names.items():
        line = line.replace(name, path)
    errors = capsys.readouterr().err
    assert line in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_files_and_folders_are_captioned_and_broken_files_reported(
    trained, squares, tmp_path, capsys
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    folder, pictures = tmp_path / "folder", tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        shutil.copy(squares / f"{number:02d}.png", folder)
    with pytest.raises(UserError, match="1 of 4 images could not be read"):
        caption.main([str(trained.folder), str(folder), str(broken), "--pictures", str(pictures)])
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3
    assert printed.out.splitlines()[2].startswith(f"{folder / '02.png'}: ")
    assert f"{broken}: expected a JPEG" in printed.err
    assert len(list(pictures.glob("*.png"))) == 3
    image = str(squares / "02.png")
    caption.main([str(trained.folder), image, "--pictures", str(pictures), "--json"])
    assert len(list(pictures.glob("*.png"))) == 4, "a picture was overwritten"
    # JSON captions have words with their strongest region.
    line = json.loads(capsys.readouterr().out)
    assert [word["word"] for word in line["words"]] == line["caption"].split()
    assert np.shape([word["corners"] for word in line["words"]])[1:] == (4, 2)


@pytest.fixture(scope="module")
def captioner(trained):
    return keras_aoa.load(trained.folder)


def test_python_and_command_line_agree_for_path_bytes_and_pixels(
    trained, captioner, squares, capsys
):
    from keras_aoa.data.images.preprocessing import read_image

    path = squares / "05.png"
    captions = [captioner.caption(image) for image in (path, path.read_bytes(), read_image(path))]
    caption.main([str(trained.folder), str(path)])
    line = capsys.readouterr().out
    for each in captions:
        assert line == f"{path}: {each.text} ({each.log_prob:.2f})\n"
        np.testing.assert_allclose(each.attention.sum(axis=1), 1, rtol=1e-5)
    assert len(captioner.captions(path)) == 2


@pytest.mark.parametrize(
    ("image", "line"),
    [
        ("nowhere.jpg", r"nowhere.jpg: expected an image, found no file"),
        (b"text", r"the bytes: expected a JPEG"),
        (np.zeros((4, 4), np.uint8), r"received shape \(4, 4\) in uint8"),
        (np.zeros((4, 4, 3)), r"received shape \(4, 4, 3\) in float64"),
    ],
)
def test_an_invalid_image_is_refused_in_one_line(captioner, image, line):
    with pytest.raises(UserError, match=line):
        captioner.caption(image)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected the folder of a run, found no config\.json"):
        keras_aoa.load(tmp_path)


@pytest.mark.parametrize("in_tensorflow", [False, True])
def test_out_of_memory_gives_one_line(in_tensorflow, capsys):
    def main(_):
        if not in_tensorflow:
            raise MemoryError
        exhausted.fail()

    with pytest.raises(SystemExit) as stop:
        run(main, [])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "out of memory (" in error
    assert "; lower batch_size, beam, " in error


def test_package_is_imported_from_the_folder_above_a_clone_of_its_name(tmp_path):
    (tmp_path / "keras_aoa").mkdir()  # without an __init__.py, as a clone
    done = subprocess.run(
        [sys.executable, "-c", "import keras_aoa; print(keras_aoa.load.__name__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "load\n", done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_text_that_the_terminal_lacks_is_escaped(encoding):
    code = (
        "from keras_aoa.utils.command_line import run\n"
        "def main(_):\n    print('caf\\u00e9 \\u3084 \\U0001f600'); raise SystemExit(0)\n"
        "run(main, [])"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    expected = "café \\u3084 \\U0001f600".encode(encoding, "backslashreplace")
    assert done.stdout.splitlines() == [expected] and not done.returncode, done.stderr
