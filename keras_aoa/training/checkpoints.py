"""The last two checkpoints of a training, in the run's folder."""

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
    """Progress of a training.

    `epochs` counts complete epochs. `steps` counts the steps of the current epoch, and `loss_sum`
    is the sum of their losses. `best` is the best CIDEr so far, `history` holds the metrics of
    each epoch, and `seconds` is the time spent. `stopped` is true if no epoch follows.
    """

    epochs: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    best: float = -1.0
    stopped: bool = False
    seconds: float = 0.0
    history: list = field(default_factory=list)


class Checkpoints:
    """Saves and restores the complete training state.

    Each checkpoint is written to a temporary file, then renamed atomically. The previous
    checkpoint is kept too, in case the newest one is damaged later.

    Args:
        run: `Run`.
        chief: Whether this process writes files.
        started: Start time of the command, as returned by `time.monotonic`.

    Attributes:
        step: Step of the last checkpoint; 0 if there is none, None if only another process
            knows it.
    """

    def __init__(self, run, chief, started):
        self._run, self._chief, self._started = run, chief, started
        self._previous = run.last_file.with_name("previous.npz")
        self._last_is_intact = True
        self.step = 0

    def seconds(self):
        """Time spent on the training, including the time before it was resumed."""
        return time.monotonic() - self._started

    def save(self, trainer, progress):
        """Write a checkpoint; all processes must call it.

        Raises:
            UserError: some weights are not finite; the last checkpoint is kept.
        """
        arrays = trainer.state()
        not_finite = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if not_finite:
            raise UserError(
                f"train: weights became infinite or NaN before step {trainer.steps + 1} "
                f"({not_finite[0]}); lower learning_rate or clip_norm in {self.another_run()}. "
                f"{self.last_good()}"
            )
        progress.seconds = self.seconds()
        if self._chief:
            metadata = {**self._run.digests, "steps": trainer.steps, "progress": asdict(progress)}
            weights.save_arrays(self._run.last_file, arrays, metadata, self._keep_previous)
        self.step = trainer.steps if self._chief else None

    def last_good(self):
        """A sentence about the checkpoint that the training can resume from."""
        if self.step is None:
            return "Worker 0 keeps the last checkpoint."
        if not self.step:
            return "There is no checkpoint yet."
        return f"The last checkpoint is kept: {self._run.last_file}, after step {self.step}."

    def another_run(self):
        """A phrase that suggests a new run, since the settings of a run cannot change."""
        if not self._run.best_file.exists():
            return "a run of another --name"
        return f"a run of another --name, with --start-from {self._run.folder}"

    def restore(self, trainer):
        """Restore the newest intact checkpoint, if there is one.

        Returns:
            The checkpoint's `Progress`, or a new one without a checkpoint.

        Raises:
            UserError: all checkpoints are damaged, or they belong to another model.
        """
        for file in (self._run.last_file, self._previous):
            if not file.exists():
                continue
            try:
                arrays, metadata = weights.load_arrays(file)
            except UserError as damage:
                if file == self._previous or not self._previous.exists():
                    raise
                log.warning("%s Resuming from the previous one, %s.", damage, self._previous)
                self._last_is_intact = False
                continue
            self._run.check(metadata, file)
            trainer.restore(arrays, metadata["steps"], file)
            self.step = trainer.steps
            progress = Progress(**metadata["progress"])
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
                log.warning("%s The best weights of the remaining epochs will be kept.", damage)
                progress.best = -1.0
                return progress
            log.warning("%s The weights of the last epoch replace it.", damage)
            if self._chief:
                weights.save_arrays(
                    self._run.best_file, trainer.evaluated_weights(), self._run.digests
                )
        return progress

    def _keep_previous(self):
        # A damaged last checkpoint must not replace the only intact one.
        if not self._last_is_intact:
            self._last_is_intact = True
            return
        # With a hard link to the last file, an intact checkpoint exists at every moment.
        temporary = self._previous.with_name("previous.part.npz")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        if self._run.last_file.exists():
            link_or_copy(self._run.last_file, temporary)
            os.replace(temporary, self._previous)


def link_or_copy(file, other):
    """Create a hard link to a file, or a copy if the file system does not support links."""
    try:
        os.link(file, other)
    except OSError:
        shutil.copyfile(file, other)
