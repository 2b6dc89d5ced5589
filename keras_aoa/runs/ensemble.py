"""Runs by their names on the command line: one, or several that speak together."""

import pathlib

from keras_aoa.runs.run import Run
from keras_aoa.utils.errors import UserError

# What all members must share: the images they see, and the regions that stand beside each other.
SHARED = ("regions", "image_size", "fit", "proposals_size", "proposals_fit", "test_stride")


def open_run(name):
    """The `Run` in a folder, or the `EnsembleRun` of folders with commas between.

    Raises:
        UserError: no run there, or runs that do not go together.
    """
    folders = [folder for folder in str(name).split(",") if folder]
    if pathlib.Path(name).exists() or len(folders) < 2:
        return Run(name)
    return EnsembleRun(folders)


class EnsembleRun(Run):
    """Trained runs of one vocabulary and kind of regions; a caption is that of all together.

    Settings are the first's. What is written goes to a folder beside it, named after all.

    Args:
        folders: Of the runs.

    Raises:
        UserError: a folder that is no run, one named twice, or runs that do not go together.
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
                    f"{member.folder}: has another vocabulary than {self.folder}; an ensemble's "
                    "members are trained on the same captions."
                )
            for setting in SHARED:
                own, first = (
                    getattr(run.configuration, setting) for run in (member, self.members[0])
                )
                if own != first:
                    raise UserError(
                        f"{member.folder}: has {setting} {own!r}, but {self.folder} {first!r}; an "
                        "ensemble's members look at the same regions of the same images."
                    )

    @property
    def members(self):
        """The runs that speak together."""
        return self._members

    @property
    def results_folder(self):
        """Where evaluations of all together are written."""
        names = "+".join(member.folder.name for member in self.members)
        return self.folder.parent / f"ensemble-{names}"

    def load_captioner(self):
        """All members with their best weights, as one: `Ensemble`."""
        from keras_aoa.models.ensemble import Ensemble

        return Ensemble([member.load_captioner() for member in self.members])
