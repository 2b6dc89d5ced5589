"""The folder of an export: versions that are whole, numbered and never overwritten."""

import json

import pytest

from keras_aoa.export import Arguments
from keras_aoa.serving.save import DESCRIPTION, export_run
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError


def test_versions_are_numbered_and_never_overwritten(trained, tmp_path):
    out, run = tmp_path / "out", trained
    (out / "7").mkdir(parents=True)
    (out / "notes").mkdir()
    found = export_run(run, out, SearchSettings())
    assert found.folder == out / "8"
    about = json.loads((found.folder / "assets.extra" / DESCRIPTION).read_text())
    assert about["run"] == "squares"
    assert about["search"]["beam"] == 2
    assert about["regions"] == "grid"
    with pytest.raises(UserError, match="never overwritten"):
        export_run(run, out, SearchSettings(), version=8)
    assert sorted(path.name for path in out.iterdir()) == ["7", "8", "notes"]
    assert found.megabytes > 0.01


def test_an_export_that_breaks_off_is_not_seen(trained, tmp_path, monkeypatch):
    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_aoa.serving.save.write_warm_up", no_space)
    with pytest.raises(OSError, match="No space"):
        export_run(trained, tmp_path, SearchSettings())
    assert not list(tmp_path.iterdir())


def test_an_export_onto_a_file_is_refused(trained, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="found a file"):
        export_run(trained, tmp_path / "out", SearchSettings())
    assert (tmp_path / "out").read_text() == "mine"


def test_a_setting_that_means_nothing_for_the_run_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match="stride instead"):
        export_run(trained, tmp_path, SearchSettings(proposals=5))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_settings_that_are_no_numbers_are_refused(value):
    with pytest.raises(UserError, match="length_penalty: expected a finite number"):
        SearchSettings(length_penalty=value)
    with pytest.raises(UserError, match="max_megapixels: expected a finite number"):
        Arguments(run="", output="", max_megapixels=value)
