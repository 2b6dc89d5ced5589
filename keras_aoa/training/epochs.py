"""The loop over the epochs of a training: stages, steps, validation and checkpoints."""

import gc
import time
from dataclasses import dataclass

import numpy as np

from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.images.split_images import Images
from keras_aoa.distribution.process import Process
from keras_aoa.evaluation.metrics import cider
from keras_aoa.evaluation.split import caption_split
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.models import weights
from keras_aoa.runs.run import Run
from keras_aoa.training.accumulation import groups
from keras_aoa.training.callbacks import Callbacks
from keras_aoa.training.checkpoints import Checkpoints
from keras_aoa.training.frozen import frozen_features
from keras_aoa.training.logs import SAMPLES, TensorBoard, describe
from keras_aoa.training.reward import keep_frequencies
from keras_aoa.training.schedule import count_plateaus
from keras_aoa.training.stopping import StopRequest, not_finite, why_diverged
from keras_aoa.training.trainer import Trainer
from keras_aoa.utils.progress import print_progress, progress_bar

STAGES = ("RNN", "both", "reward")


@dataclass
class Epochs:
    """The epochs of a training that was set up.

    `images` are the `Images` for training, and those for selecting the best weights.
    """

    process: Process
    run: Run
    images: list[Images]
    batches: CaptionBatches
    trainer: Trainer
    generator: CaptionGenerator
    checkpoints: Checkpoints
    callbacks: Callbacks

    def train(self, progress):
        """Train all remaining epochs.

        Args:
            progress: `Progress`, updated in place.

        Returns:
            List of one dictionary of metrics per epoch.
        """
        trainer, checkpoints, callbacks = self.trainer, self.checkpoints, self.callbacks
        configuration = trainer.configuration
        board = TensorBoard(self.run.folder / "tensorboard", self.process.chief)
        stage, select_images = None, self.images[1]
        epochs = () if progress.stopped else range(progress.epochs, configuration.epochs)
        if epochs:
            callbacks.begin(trainer)
        for epoch in epochs:
            if stage != configuration.stage(epoch):
                stage = configuration.stage(epoch)
                first = configuration.rnn_epochs + configuration.joint_epochs
                if stage == 3 and epoch == first and not progress.steps:
                    trainer.use_averaged_backbone()
                select_images = self.start_stage(stage)
            trainer.plateaus = count_plateaus(configuration, progress.history)
            callbacks.call("on_epoch_begin", epoch, {})
            metrics = train_epoch(
                trainer, self.process, self.batches, progress, board, checkpoints, callbacks
            )
            epoch_metrics = {"epoch": epoch + 1, **metrics}
            # The clocks of processes differ, but all processes must train the same epochs.
            time_is_up = bool(configuration.minutes) and self.process.any(
                checkpoints.seconds() > 60 * configuration.minutes
            )
            diverged = why_diverged(metrics, progress.history) if stage == 3 else ""
            ended = callbacks.ended()
            last = epoch + 1 == configuration.epochs or time_is_up or bool(diverged) or ended
            if last or (epoch + 1) % configuration.validate_every == 0:
                self.validate(epoch_metrics, progress, select_images, board)
            logs = {name: value for name, value in epoch_metrics.items() if name != "epoch"}
            callbacks.call("on_epoch_end", epoch, logs)
            if not last and callbacks.ended():
                last = ended = True
                if "CIDEr" not in epoch_metrics:
                    self.validate(epoch_metrics, progress, select_images, board)
            progress.history.append(epoch_metrics)
            progress.epochs, progress.stopped = epoch + 1, last
            progress.steps, progress.sums = 0, {}
            checkpoints.save(trainer, progress)
            print_progress(describe(epoch_metrics, configuration, progress.seconds))
            if diverged:
                print_progress(f"Stage 3 ends early: {diverged} The best weights are kept.")
            if ended:
                print_progress("A callback ended the training. The best weights are kept.")
            if last:
                break
        if epochs:
            callbacks.call("on_train_end", logs)
        return progress.history

    def start_stage(self, stage):
        """Set the source of batches for a stage, and return the images for validation.

        If the stage does not train the backbone, cached features can replace the images.

        Args:
            stage: Number of the stage. The captioner has the weights from which it starts or
                resumes.
        """
        process, configuration = self.process, self.run.configuration
        training_images, select_images = self.images
        if configuration.feature_cache != "none" and stage != 2:
            run, captioner = self.run, self.trainer.captioner
            mirrored, count = self.batches.mirrored_indices, configuration.cached_views
            views = self.batches.fixed_views(count) if count > 1 else None
            training_images, select_images = process.chief_first(
                lambda: (
                    frozen_features(run, captioner, self.images[0], mirrored, views),
                    frozen_features(run, captioner, self.images[1]),
                )
            )
        self.batches.set_source(training_images)
        if stage == 3:
            frequencies, reward = self.run.folder / "document_frequencies.npz", self.trainer.reward
            process.chief_first(lambda: process.chief and keep_frequencies(frequencies, reward))
        return select_images

    def validate(self, epoch_metrics, progress, images, board):
        """Add CIDEr to the metrics of an epoch, and save the weights if they are the best."""
        # An interruption during validation must not lose training steps.
        self.checkpoints.save(self.trainer, progress)
        captions = captions_for_validation(self.trainer, self.generator, images)
        score = epoch_metrics["CIDEr"] = validation_cider(images, captions)
        board.validation(self.trainer.steps, score, images, captions)
        if score > progress.best:
            progress.best = score
            arrays = self.trainer.evaluated_weights()
            if self.process.chief:
                weights.save_arrays(self.run.best_file, arrays, self.run.digests)
        # Validation leaves large reference cycles, which Python might free much later.
        gc.collect()


def train_epoch(trainer, process, batches, progress, board, checkpoints, callbacks):
    """Train the remaining steps of the current epoch.

    Args:
        trainer: `Trainer`.
        process: `Process`.
        batches: `CaptionBatches`.
        progress: `Progress`, updated in place.
        board: `TensorBoard`.
        checkpoints: `Checkpoints`.
        callbacks: `Callbacks`. A callback may end the epoch early.

    Returns:
        The means of the epoch's metrics: `loss`, in nats per word. In stage 3, the metrics are
        `SAMPLE_METRICS` without `loss`.

    Raises:
        KeyboardInterrupt: a stop was requested. The current step was finished and saved.
        UserError: the loss is not finite.
    """
    stage = trainer.configuration.stage(progress.epochs)
    every, size = trainer.configuration.checkpoint_steps, trainer.configuration.accumulate
    total, durations = trainer.steps_per_epoch, []
    parts = batches.epoch(progress.epochs, progress.steps * size, process.replicas)
    with (
        StopRequest() as stop,
        progress_bar(
            groups(process.feed(parts), size),
            total=total,
            initial=progress.steps,
            desc=f"epoch {progress.epochs + 1} ({STAGES[stage - 1]})",
            unit="step",
        ) as bar,
    ):
        for group in bar:
            callbacks.call("on_train_batch_begin", progress.steps, {})
            started = time.monotonic()
            metrics, stopped = trainer.step(group, stage, stop.asked)
            durations.append(time.monotonic() - started)
            if not np.isfinite(metrics["loss"]):
                parts = [part for batch in group for part in process.local(batch["index"])]
                index = np.concatenate([part.numpy() for part in parts])
                names = batches.names(dict.fromkeys(index.tolist()))
                raise not_finite(metrics["loss"], trainer.steps, names, stage, checkpoints)
            if stage == 3:  # this loss does not measure progress: it is 0 on average
                del metrics["loss"]
            progress.add(metrics)
            shown = next(iter(metrics))
            bar.set_postfix({shown: f"{progress.means()[shown]:.3f}"}, refresh=False)
            board.step(trainer.steps, metrics, trainer.rate_factor())
            callbacks.call("on_train_batch_end", progress.steps - 1, metrics)
            if stopped or (trainer.steps % every == 0 and progress.steps < total):
                checkpoints.save(trainer, progress)
            if stopped:
                print_progress(f"Saved after step {trainer.steps}.")
                raise KeyboardInterrupt
            if callbacks.ended():
                break
    if durations:
        progress.step_seconds = float(np.median(durations))
    return progress.means()


def captions_for_validation(trainer, generator, images):
    """Generate captions with the evaluated weights, with attention for the logged pictures."""
    purpose = f"captions of {images.name}"
    return trainer.with_evaluated_weights(
        lambda: caption_split(generator, images, purpose, SAMPLES)
    )


def validation_cider(images, captions):
    """Return the CIDEr score of generated captions."""
    references = {index: images.examples[index].captions for index in captions}
    return cider(references, {index: caption.text for index, caption in captions.items()})
