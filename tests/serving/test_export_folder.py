"""The folder of an export: complete, numbered versions that are never overwritten."""

import errno
import json
import os
import re

import pytest
import tensorflow as tf
from export_answers import LIMIT

from keras_aoa.export import Arguments
from keras_aoa.serving.module import MAX_PIXELS
from keras_aoa.serving.save import DESCRIPTION, export_run
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError


@pytest.fixture
def small_export(monkeypatch):
    """Replace the graph's part of an export, which takes seconds to trace, by one small file."""

    def save(module, folder, signatures):
        (folder / "saved_model.pb").write_text("a graph")

    monkeypatch.setattr(tf.saved_model, "save", save)


def test_versions_are_numbered_and_never_overwritten(out, cropped, trained):
    assert sorted(path.name for path in out.iterdir()) == ["7", "8", "notes"]
    assert not list((out / "7").iterdir())
    for folder, beam, pixels in ((out / "8", 3, LIMIT), (cropped / "out/1", 2, MAX_PIXELS)):
        description = json.loads((folder / "assets.extra" / DESCRIPTION).read_text())
        assert description["run"] == ("squares" if folder.parent == out else "run")
        assert description["search"]["beam"] == beam
        assert description["max_pixels"] == pixels == (80_000 if beam == 3 else 50_000_000)
        assert description["regions"] == "grid"
    with pytest.raises(UserError, match="never overwritten"):
        export_run(trained, out, SearchSettings(), version=8)
    assert sorted(path.name for path in out.iterdir()) == ["7", "8", "notes"]


@pytest.mark.usefixtures("small_export")
def test_the_next_version_is_one_more_than_the_largest(trained, tmp_path):
    (tmp_path / "10").mkdir()
    (tmp_path / "9").mkdir()
    exported = export_run(trained, tmp_path, SearchSettings())
    assert exported.folder == tmp_path / "11"
    files = {path.name: path.stat().st_size for path in exported.folder.rglob("*.*")}
    assert set(files) == {"saved_model.pb", "assets.extra", DESCRIPTION}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "11", "9"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("by", ["Python", "TensorFlow"])
@pytest.mark.usefixtures("small_export")
def test_a_failed_write_leaves_nothing_and_names_the_folder_and_the_reason(
    by, number, trained, tmp_path, monkeypatch
):
    reason = os.strerror(number)

    def fail(path, **_):
        if by == "Python":
            raise OSError(number, reason, str(path))
        message = f"{{{{function_node __wrapped__SaveV2}}}} {path}.tempstate1; {reason} [Op:SaveV2]"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr("keras_aoa.serving.save.write_warm_up", fail)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}: expected")) as caught:
        export_run(trained, tmp_path, SearchSettings())
    assert reason.lower() in str(caught.value)
    assert not re.search("memory|batch_size|[.]part|tempstate", str(caught.value))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_export")
def test_lack_of_memory_during_an_export_is_not_called_a_full_disk(trained, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("keras_aoa.serving.save.write_warm_up", fail)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        export_run(trained, tmp_path, SearchSettings())
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_export")
def test_a_version_that_another_export_takes_meanwhile_is_kept(trained, tmp_path, monkeypatch):
    def take(*_, **__):
        (tmp_path / "3").mkdir()
        (tmp_path / "3" / "theirs").touch()

    monkeypatch.setattr("keras_aoa.serving.save.write_warm_up", take)
    with pytest.raises(UserError, match="3: this version exists"):
        export_run(trained, tmp_path, SearchSettings(), version=3)
    assert [path.name for path in tmp_path.rglob("*")] == ["3", "theirs"]


def test_an_export_to_a_file_is_refused(trained, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="found a file"):
        export_run(trained, tmp_path / "out", SearchSettings())
    assert (tmp_path / "out").read_text() == "mine"


def test_a_setting_that_does_not_apply_to_the_run_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match="stride instead"):
        export_run(trained, tmp_path, SearchSettings(proposals=5))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_settings_that_are_not_finite_are_refused(value):
    with pytest.raises(UserError, match="length_penalty: expected a finite number"):
        SearchSettings(length_penalty=value)
    with pytest.raises(UserError, match="max_megapixels: expected a finite number"):
        Arguments(run="", output="", max_megapixels=value)
