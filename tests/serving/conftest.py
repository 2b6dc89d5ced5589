"""Exports that the tests of this folder share; tests that change them must copy them."""

import dataclasses
import shutil

import numpy as np
import pytest
from made_once import made_once


@pytest.fixture(scope="session")
def out(trained, tmp_path_factory):
    """The folder of the versions of an export, 8 besides an older one, and `description.txt`."""

    def make(folder):
        from export_answers import LIMIT, SEARCH

        from keras_aoa.serving.save import export_run
        from keras_aoa.settings.search import SearchSettings

        (folder / "out/7").mkdir(parents=True)
        (folder / "out/notes").mkdir()
        exported = export_run(trained, folder / "out", SearchSettings(**SEARCH), max_pixels=LIMIT)
        assert exported.folder == folder / "out/8"
        assert exported.megabytes > 0.01
        (folder / "description.txt").write_text("\n".join(exported.description))

    return made_once(tmp_path_factory, "exported", make) / "out"


@pytest.fixture(scope="session")
def cropped(trained, tmp_path_factory):
    """A run that sees only the center of an image, and its export, both in one folder.

    Some weights are stored in 16 bits, which a program converts when it loads the model.
    """

    def make(folder):
        from keras_aoa.models import weights
        from keras_aoa.runs.run import Run
        from keras_aoa.serving.save import export_run
        from keras_aoa.settings.search import SearchSettings

        shutil.copytree(trained.folder, folder / "run")
        configuration = dataclasses.replace(trained.configuration, fit="crop")
        (folder / "run/config.json").write_text(configuration.to_json())
        run = Run(folder / "run")
        arrays, metadata = weights.load_arrays(run.best_file)
        halved = {name: array.astype(np.float16) for name, array in arrays.items()}
        weights.save_arrays(run.best_file, halved, metadata)
        export_run(run, folder / "out", SearchSettings())

    return made_once(tmp_path_factory, "exported-cropped", make)
