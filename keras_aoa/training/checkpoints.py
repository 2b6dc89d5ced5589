"""Saves and restores checkpoints. A run's folder contains its last two checkpoints."""

import contextlib
import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass, field

import numpy as np

from keras_aoa.models import weights
from keras_aoa.training.stopping import RATES
from keras_aoa.utils.errors import UserError

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a run has been trained.

    `epochs` counts complete epochs. `steps` counts the steps of the current epoch, and `sums` are
    the sums of metrics such as `loss` over these steps. `best` is the best CIDEr so far, or -1.
    `stopped` is true if the training has ended. `seconds` is the duration of the training, and
    `step_seconds` the median duration of a step in the last epoch. `history` contains the metrics
    of each epoch.
    """

    epochs: int = 0
    steps: int = 0
    sums: dict = field(default_factory=dict)
    best: float = -1.0
    stopped: bool = False
    seconds: float = 0.0
    history: list = field(default_factory=list)
    step_seconds: float = 0.0

    @classmethod
    def of(cls, saved):
        """Return the progress in a checkpoint's metadata, also if an older version wrote it."""
        loss = saved.pop("loss_sum", None)
        return cls(**saved if loss is None else {**saved, "sums": {"loss": loss}})

    def add(self, metrics):
        """Count a step with its dictionary of metrics."""
        self.steps += 1
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in metrics.items()}

    def means(self):
        """Return the means of the metrics over the steps of the current epoch."""
        return {name: value / self.steps for name, value in self.sums.items()}


class Checkpoints:
    """Saves and restores the complete training state.

    Each checkpoint is written to a temporary file, then renamed atomically. The previous checkpoint
    is kept too, in case the last checkpoint is damaged later.

    Args:
        run: `Run`.
        chief: Whether this process writes files.
        started: Start time of the command, as returned by `time.monotonic`.

    Attributes:
        step: Step of the last checkpoint. 0 means that there is no checkpoint. None means that
            another process wrote the checkpoint.
    """

    def __init__(self, run, chief, started):
        self._run, self._chief, self._started = run, chief, started
        self._previous = run.last_file.with_name("previous.npz")
        self._last_is_intact = True
        self.step = 0

    def seconds(self):
        """Return the training time, including the time before the run was resumed."""
        return time.monotonic() - self._started

    def save(self, trainer, progress):
        """Write a checkpoint. All processes must call this method. Only the chief writes.

        Raises:
            UserError: some weights are not finite. The last checkpoint then stays unchanged.
        """
        arrays = trainer.state()
        not_finite = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if not_finite:
            rates = RATES[trainer.configuration.stage(progress.epochs)]
            raise UserError(
                f"train: weights became infinite or NaN before step {trainer.steps + 1} "
                f"({not_finite[0]}); lower {rates} or clip_norm in {self.another_run()}. "
                f"{self.last_good()}"
            )
        progress.seconds = self.seconds()
        if self._chief:
            metadata = {**self._run.digests, "steps": trainer.steps, "progress": asdict(progress)}
            weights.save_arrays(self._run.last_file, arrays, metadata, self._keep_previous)
        self.step = trainer.steps if self._chief else None

    def last_good(self):
        """Return a sentence about the checkpoint from which the training can resume."""
        if self.step is None:
            return "Worker 0 keeps the last checkpoint."
        if not self.step:
            return "There is no checkpoint yet."
        return f"The last checkpoint is kept: {self._run.last_file}, after step {self.step}."

    def another_run(self):
        """Return a phrase that suggests a new run, because a run's settings cannot change."""
        if not self._run.best_file.exists():
            return "a run of another --name"
        return f"a run of another --name, with --start-from {self._run.folder}"

    def restore(self, trainer):
        """Restore the newest intact checkpoint, if there is one.

        Returns:
            The `Progress` in the checkpoint, or a new `Progress` if there is no checkpoint.

        Raises:
            UserError: all checkpoints are damaged, or the checkpoint belongs to another model.
        """
        for file in (self._run.last_file, self._previous):
            if not file.exists():
                continue
            try:
                arrays, metadata = weights.load_arrays(file)
            except UserError as damage:
                if file == self._previous or not self._previous.exists():
                    raise
                log.warning("%s Resuming from the previous checkpoint, %s.", damage, self._previous)
                self._last_is_intact = False
                continue
            self._run.check(metadata, file)
            trainer.restore(arrays, metadata["steps"], file)
            self.step = trainer.steps
            progress = Progress.of(metadata["progress"])
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
                log.warning("%s The best weights will be chosen from the remaining epochs.", damage)
                progress.best = -1.0
                return progress
            log.warning("%s The last epoch's weights replace this file.", damage)
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
        # A hard link, because after a rename there would briefly be no last checkpoint.
        temporary = self._previous.with_name("previous.part.npz")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        if self._run.last_file.exists():
            link_or_copy(self._run.last_file, temporary)
            os.replace(temporary, self._previous)


def link_or_copy(file, other):
    """Create a hard link to a file. If the file system does not support links, copy the file."""
    try:
        os.link(file, other)
    except OSError:
        shutil.copyfile(file, other)
