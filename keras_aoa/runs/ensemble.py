"""Opens a run, or an ensemble of comma-separated runs, by its name on the command line."""

import os
import pathlib

from keras_aoa.runs.named import run_folder
from keras_aoa.runs.run import Run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import clip

# All members must agree in these settings, because they attend to the same regions of an image.
SHARED = (
    "regions",
    "image_size",
    "fit",
    "proposals_size",
    "proposals_fit",
    "proposal_method",
    "edge_model",
    "test_stride",
)


def open_run(name: str | os.PathLike) -> Run:
    """Open the `Run` in a folder, or the `EnsembleRun` of comma-separated folders.

    Raises:
        UserError: a folder contains no run, or the runs cannot form an ensemble.
    """
    if not isinstance(name, str | os.PathLike):
        raise UserError(
            f"run: expected a run's folder or a captioner's name such as 'flickr8k', received "
            f"{clip(name)}."
        )
    folders = [folder for folder in str(name).split(",") if folder]
    if pathlib.Path(name).exists() or len(folders) < 2:
        return Run(run_folder(name))
    return EnsembleRun([run_folder(folder) for folder in folders])


class EnsembleRun(Run):
    """Trained runs that form an ensemble.

    The runs have the same vocabulary and kind of regions. The ensemble has the settings of its
    first run. Results are written to a new folder beside the first run. The name of the new folder
    contains the names of all runs.

    Args:
        folders: Folders of the runs.

    Raises:
        UserError: a folder contains no run, a folder occurs twice, or the runs have different
            vocabularies, images or regions.
    """

    def __init__(self, folders):
        super().__init__(folders[0])
        self._members = [Run(folder) for folder in folders]
        paths = [member.folder.resolve() for member in self.members]
        if len(set(paths)) < len(paths):
            raise UserError(
                f"ensemble: expected each run once, received {', '.join(map(str, folders))}."
            )
        for member in self.members[1:]:
            if member.vocabulary.digest != self.vocabulary.digest:
                raise UserError(
                    f"{member.folder}: its vocabulary differs from the vocabulary of "
                    f"{self.folder}; train all members of an ensemble on the same captions, "
                    "with the same --select-seed if --select-images holds out images."
                )
            for setting in SHARED:
                own, first = (
                    getattr(run.configuration, setting) for run in (member, self.members[0])
                )
                if own != first:
                    raise UserError(
                        f"{member.folder}: {setting} is {own!r}, but {first!r} in {self.folder}; "
                        "members of an ensemble need the same images and regions."
                    )

    @property
    def members(self):
        """The runs of the ensemble."""
        return self._members

    @property
    def results_folder(self):
        """Folder to which evaluations of the ensemble are written."""
        names = "+".join(member.folder.name for member in self.members)
        return self.all_runs / f"ensemble-{names}"

    def load_captioner(self, for_inference=False):
        """Return an `Ensemble` of the members' captioners with their best weights."""
        from keras_aoa.models.ensemble import Ensemble

        return Ensemble([member.load_captioner(for_inference) for member in self.members])
