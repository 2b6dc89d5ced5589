"""Trainings that share their graphs, because tracing takes most of the time of a short training."""

import dataclasses
import json

import numpy as np

from keras_aoa.runs.run import Run
from keras_aoa.training import loop

# Settings that neither variables nor graphs depend on.
NOT_IN_GRAPHS = ("name", "output", "checkpoint_steps")


def share_graphs(patch):
    """Make trainings with equal settings share a captioner, a trainer and a caption generator.

    The number of steps between checkpoints may differ. Before each training, all
    variables get the values that they had when they were created, as in a new process. What a
    checkpoint lacks is therefore lost.

    Args:
        patch: `pytest.MonkeyPatch`, which ends the sharing.
    """
    made = {}

    def shared(kind, configuration, make):
        settings = dataclasses.asdict(configuration)
        for other in NOT_IN_GRAPHS:
            del settings[other]
        key = kind, json.dumps(settings, sort_keys=True)
        if key not in made:
            made[key] = make()
        return made[key]

    make_captioner, make_trainer = Run.make_captioner, loop.Trainer
    make_generator = loop.CaptionGenerator.from_configuration

    def captioner_of(run, seed=None):
        return shared("captioner", run.configuration, lambda: make_captioner(run, seed))

    def trainer_of(captioner, configuration, steps, reward=None):
        def make():
            trainer = make_trainer(captioner, configuration, steps, reward=reward)
            assert not (trainer._accumulator or trainer._baseline)
            return trainer, [(variable, np.array(variable)) for variable in variables_of(trainer)]

        trainer, created = shared("trainer", configuration, make)
        for variable, value in created:
            variable.assign(value)
        trainer.configuration, trainer.reward = configuration, reward
        trainer.steps = trainer.plateaus = 0
        return trainer

    def generator_of(captioner, vocabulary, configuration):
        return shared(
            "generator",
            configuration,
            lambda: make_generator(captioner, vocabulary, configuration),
        )

    patch.setattr(Run, "make_captioner", captioner_of)
    patch.setattr(loop, "Trainer", trainer_of)
    patch.setattr(loop.CaptionGenerator, "from_configuration", generator_of)


def variables_of(trainer):
    """Return all variables of a trainer and of its captioner."""
    optimizers = trainer.optimizer, trainer.backbone_optimizer
    return [
        *trainer.captioner.variables,
        *trainer.averages.values(),
        *(variable for optimizer in optimizers for variable in optimizer.variables),
    ]
