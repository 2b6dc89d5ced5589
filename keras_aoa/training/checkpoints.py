"""A training's last state, and the one before it, in the run's folder."""

import contextlib
import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass, field

import numpy as np

from keras_aoa.models import weights
from keras_aoa.utils.errors import UserError

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a training has come.

    `epochs` are whole ones, `steps` those of the epoch under way and `loss_sum` the sum of their
    losses; `best` is the best CIDEr so far, `history` holds facts of each epoch, `seconds` is the
    time spent, and `stopped` says that no epoch is to follow.
    """

    epochs: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    best: float = -1.0
    stopped: bool = False
    seconds: float = 0.0
    history: list = field(default_factory=list)


class Checkpoints:
    """Saves and restores all that the next step depends on.

    Each checkpoint is written to a temporary file and then renamed. The checkpoint before the
    newest one is kept too, in case the newest is damaged later.

    Args:
        run: `Run`.
        chief: Whether this process writes.
        started: When the command began, of `time.monotonic`.

    Attributes:
        step: After which step the last checkpoint was made; 0 without one, None where that is
            another process's to know.
    """

    def __init__(self, run, chief, started):
        self._run, self._chief, self._started = run, chief, started
        self._previous = run.last_file.with_name("previous.npz")
        self._last_is_whole = True
        self.step = 0

    def seconds(self):
        """Time spent on the training, before it was resumed too."""
        return time.monotonic() - self._started

    def save(self, trainer, progress):
        """Write a checkpoint; all processes call it.

        Raises:
            UserError: weights are no finite numbers; the last checkpoint stays.
        """
        arrays = trainer.state()
        broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if broken:
            raise UserError(
                f"train: weights became infinite or NaN before step {trainer.steps + 1} "
                f"({broken[0]}); lower learning_rate or clip_norm in {self.another_run()}. "
                f"{self.last_good()}"
            )
        progress.seconds = self.seconds()
        if self._chief:
            facts = {**self._run.digests, "steps": trainer.steps, "progress": asdict(progress)}
            weights.save_arrays(self._run.last_file, arrays, facts, self._keep_previous)
        self.step = trainer.steps if self._chief else None

    def last_good(self):
        """A sentence that says where the training can go on from."""
        if self.step is None:
            return "Worker 0 keeps the last checkpoint."
        if not self.step:
            return "There is no checkpoint yet."
        return f"The last checkpoint is kept: {self._run.last_file}, after step {self.step}."

    def another_run(self):
        """What to give the command for a run of other settings, which this one cannot become."""
        if not self._run.best_file.exists():
            return "a run of another --name"
        return f"a run of another --name, with --start-from {self._run.folder}"

    def restore(self, trainer):
        """Go on from the newest whole checkpoint: the `Progress` made; at the start if none is.

        Raises:
            UserError: there are checkpoints and all are damaged, or they are of another model.
        """
        for file in (self._run.last_file, self._previous):
            if not file.exists():
                continue
            try:
                arrays, facts = weights.load_arrays(file)
            except UserError as damage:
                if file == self._previous or not self._previous.exists():
                    raise
                log.warning("%s Going on from %s, the one before.", damage, self._previous)
                self._last_is_whole = False
                continue
            self._run.check(facts, file)
            trainer.restore(arrays, facts["steps"], file)
            self.step = trainer.steps
            progress = Progress(**facts["progress"])
            self._started -= progress.seconds
            return self._with_best(progress, trainer)
        return Progress()

    def _with_best(self, progress, trainer):
        if progress.best == -1:
            return progress
        try:
            weights.load_arrays(self._run.best_file)
        except UserError as damage:
            if not progress.stopped:
                log.warning("%s The best of the epochs to come will be kept.", damage)
                progress.best = -1.0
                return progress
            log.warning("%s The weights of the last epoch take its place.", damage)
            if self._chief:
                weights.save_arrays(
                    self._run.best_file, trainer.evaluated_weights(), self._run.digests
                )
        return progress

    def _keep_previous(self):
        # A damaged one would take the place of the only whole one.
        if not self._last_is_whole:
            self._last_is_whole = True
            return
        # A second name for the last file: at every moment there is a whole one.
        temporary = self._previous.with_name("previous.part.npz")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        if self._run.last_file.exists():
            second_name(self._run.last_file, temporary)
            os.replace(temporary, self._previous)


def second_name(file, other):
    """Give a file another name, or a copy where the disk knows no second names."""
    try:
        os.link(file, other)
    except OSError:
        shutil.copyfile(file, other)
