"""Compares attention pooling by `AreaAttention` with average pooling in image classification.

The class of an image is visible in only one cell of a 7x7 map, and the other cells are clutter.
Average pooling mixes this cell with the clutter. `AreaAttention` scores classes and regions
together. p(class) is a sum over regions, and p(region) shows where the class is visible.

Run `python examples/attention_pooling.py`. The script needs keras, a backend and NumPy. A run takes
less than a minute on one core.
"""

from keras_aoa.utils import quiet_start

quiet_start.install()  # hides messages of TensorFlow that report no problem

import keras
import numpy as np

from keras_aoa.layers import AreaAttention, GridRegions

IMAGES = 3000
EPOCHS = 20
CLASSES, GRID, FEATURES = 10, 7, 64


def make_examples(rng):
    """Return maps `(n, 7, 7, 64)`, the class of each map, and the cell that shows the class.

    The features of each cell have an L2 norm of 200.
    """
    labels = rng.integers(CLASSES, size=IMAGES)
    cells = rng.integers(GRID * GRID, size=IMAGES)
    maps = rng.normal(size=(IMAGES, GRID * GRID, FEATURES))
    class_features = rng.normal(size=(CLASSES, FEATURES))
    maps[np.arange(IMAGES), cells] = class_features[labels] + 0.5 * maps[np.arange(IMAGES), cells]
    maps = np.maximum(maps, 0)
    maps *= 200 / np.linalg.norm(maps, axis=-1, keepdims=True)
    return maps.reshape(IMAGES, GRID, GRID, FEATURES).astype("float32"), labels, cells


def average_pooling():
    """Return a model with the usual head: the mean of the map, and a dense layer."""
    maps = keras.Input((GRID, GRID, FEATURES))
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    pooled = keras.layers.UnitNormalization()(pooled)
    return keras.Model(maps, keras.layers.Dense(CLASSES)(pooled))


def attention_pooling():
    """Return a model with log-probabilities of the classes and probabilities of the regions.

    The mean of the map takes the role of the state of a recurrent network.
    """
    maps = keras.Input((GRID, GRID, FEATURES))
    state = keras.layers.GlobalAveragePooling2D()(maps)
    state = keras.layers.Dense(32, "tanh")(keras.layers.UnitNormalization()(state))
    attention = AreaAttention(vocabulary_size=CLASSES, embedding_dim=32)
    class_log_probs, region_probs = attention(state, GridRegions()(maps))
    return keras.Model(maps, [class_log_probs, region_probs])


def train(model, maps, labels):
    """Train a model on its first output. Return the accuracy on held-out images."""
    trained = keras.Model(model.inputs, model.outputs[0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.compile(keras.optimizers.Adam(0.005), loss, metrics=["accuracy"])
    test = IMAGES // 5
    trained.fit(maps[:-test], labels[:-test], 64, EPOCHS, verbose=0)
    return trained.evaluate(maps[-test:], labels[-test:], verbose=0)[1]


def main():
    """Train both models. Print accuracies and the attention on the cell that shows the class."""
    keras.utils.set_random_seed(0)
    maps, labels, cells = make_examples(np.random.default_rng(0))
    print(f"average pooling:   accuracy {train(average_pooling(), maps, labels):.2f}")
    model = attention_pooling()
    print(f"attention pooling: accuracy {train(model, maps, labels):.2f}")
    test = IMAGES // 5
    _, region_probs = model.predict(maps[-test:], verbose=0)
    on_cell = region_probs[np.arange(test), cells[-test:]].mean()
    print(f"attention on the cell that shows the class: {on_cell:.2f} (uniform {1 / GRID**2:.2f})")


if __name__ == "__main__":
    main()
