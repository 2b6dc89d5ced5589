"""Schedules: learning rates, and the share of sampled input words, at each step of a training."""

import math


def rate_factor(settings, step, steps_per_epoch, plateaus=0):
    """Return the factor by which warmup and decay scale the learning rates at a step.

    Stage 3 has no warmup, and starts the decay again.

    Args:
        settings: `Configuration`.
        step: Number of steps before this step.
        steps_per_epoch: Number of optimizer steps per epoch.
        plateaus: Result of `count_plateaus`.
    """
    begin, end = 0, steps_before_rewards(settings, steps_per_epoch)
    warmup = settings.warmup_steps
    factor = min(1.0, (step + 1) / warmup) if warmup else 1
    if settings.reward_epochs and step >= end:
        begin, end = end, settings.epochs * steps_per_epoch
        factor = 1
    if settings.decay == "cosine":
        share = (step - begin) / max(1, end - begin)
        factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    elif settings.decay == "step":
        epoch = (step - begin) // steps_per_epoch
        factor *= settings.decay_factor ** (epoch // settings.decay_epochs)
    elif settings.decay == "plateau":
        factor *= settings.decay_factor**plateaus
    return factor


def count_plateaus(settings, history):
    """Count how often the validated score did not rise for `decay_epochs` validations in a row.

    The count is computed from the history, so that a resumed run has the same count.

    Args:
        settings: `Configuration`.
        history: List of the metrics of each trained epoch. Stage 3 counts only its own epochs.
    """
    epochs = settings.rnn_epochs + settings.joint_epochs
    history = history[epochs if len(history) >= epochs else 0 :]
    best, waited, plateaus = -math.inf, 0, 0
    for score in (entry["CIDEr"] for entry in history if "CIDEr" in entry):
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited == settings.decay_epochs:
            plateaus, waited = plateaus + 1, 0
    return plateaus


def sampled_share(settings, step, steps_per_epoch):
    """Return the probability that scheduled sampling replaces an input word at a step."""
    total = max(1, steps_before_rewards(settings, steps_per_epoch))
    return settings.scheduled_sampling * min(1.0, step / total)


def steps_before_rewards(settings, steps_per_epoch):
    """Return the number of steps of stages 1 and 2."""
    return (settings.rnn_epochs + settings.joint_epochs) * steps_per_epoch
