"""Training steps whose result is easy to compute."""

import keras
import numpy as np

from keras_aoa.training.synchronization import PreReducedGradients


class SGD(PreReducedGradients, keras.optimizers.SGD):
    """An optimizer whose update is the gradient times the learning rate."""


def arrays(variables):
    return [np.array(variable.value) for variable in variables]
