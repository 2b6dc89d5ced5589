# %% [markdown]
# # Caption drawn shapes with the layers of keras_aoa
#
# This example draws simple images and computes features that resemble the features of a CNN. It
# then trains a captioner from Keras's own layers and the layers of `keras_aoa.layers`. It needs
# keras, a backend, NumPy and Matplotlib, and takes less than a minute on one core.
#
# To run the script, enter `python examples/caption_toy.py`. It writes `caption_toy.keras` and
# `caption_toy.png`.

# %%
from keras_aoa.utils import quiet_start

quiet_start.install()  # hides messages of TensorFlow that report no problem

import keras
import matplotlib.pyplot as plt
import numpy as np

from keras_aoa.layers import AreaAttention, AttentionGRUCell, AttentionRNN, GridRegions

SCENES = 2000
EPOCHS = 14
GRID, CELL = 5, 16  # an image has 5x5 cells of 16x16 pixels
FEATURES = 128
COLORS = {"red": (1, 0.1, 0.1), "green": (0.1, 0.8, 0.1), "blue": (0.2, 0.3, 1)}
SHAPES = ("disc", "square", "cross", "ring")
WORDS = ["", "<start>", "<stop>", "a", "and", *COLORS, *SHAPES]  # id 0 is padding
IDS = {word: index for index, word in enumerate(WORDS)}
rng = np.random.default_rng(0)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Images and captions
#
# Each image shows one or two shapes. The caption names the shapes with their colors, in
# alphabetical order.


# %%
def stencil(shape):
    """Return the pixels of a shape in its cell, shifted by up to two pixels."""
    y, x = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2 - rng.integers(-2, 3, (2, 1, 1))
    radius = np.hypot(x, y)
    return {
        "disc": radius < 5.5,
        "square": np.maximum(abs(x), abs(y)) < 5,
        "cross": (np.minimum(abs(x), abs(y)) < 1.6) & (np.maximum(abs(x), abs(y)) < 6),
        "ring": (radius < 6) & (radius > 3.5),
    }[shape]


def draw_scene():
    """Return an image, `(80, 80, 3)` in 0..1, and its caption as ids."""
    image = rng.uniform(0, 0.1, (GRID * CELL, GRID * CELL, 3))
    phrases = []
    for column in rng.choice(GRID, rng.integers(1, 3), replace=False):
        color, shape, row = rng.choice(list(COLORS)), rng.choice(SHAPES), rng.integers(GRID)
        top, left = row * CELL, column * CELL
        image[top : top + CELL, left : left + CELL][stencil(shape)] = COLORS[color]
        phrases.append(["a", color, shape])
    phrases.sort()
    words = ["<start>", *phrases[0], *(["and", *phrases[1]] if phrases[1:] else []), "<stop>"]
    return image, [IDS[word] for word in words] + [0] * (9 - len(words))


scenes = [draw_scene() for _ in range(SCENES + 4)]
images, captions = (np.array(part) for part in zip(*scenes, strict=True))

# %% [markdown]
# ## Features
#
# A random layer on the pixels of each cell replaces a CNN. Its features have length 200 on
# average, like the features of many CNNs. You do not need to scale them, because the attention does
# (`AreaAttention(feature_length=4.0)` by default).

# %%
projection = rng.normal(size=(CELL * CELL * 3, FEATURES))


def activation_maps(images):
    """Return features that resemble the features of a CNN, `(n, 5, 5, 128)`."""
    cells = images.reshape(-1, GRID, CELL, GRID, CELL, 3).swapaxes(2, 3)
    features = np.maximum(cells.reshape(-1, GRID, GRID, CELL * CELL * 3) @ projection, 0)
    lengths = np.linalg.norm(features, axis=-1)
    return (features * 200 / lengths.mean()).astype("float32")


maps = activation_maps(images)
print("mean length of a region's features:", np.linalg.norm(maps, axis=-1).mean().round())

# %% [markdown]
# ## Model
#
# `GridRegions` returns every cell as a region. The recurrent cell and the output share one
# `AreaAttention`, which scores words and regions together. The default variant, `full`, feeds the
# attended region back to the recurrent cell. This example uses the variant `word_region_state`,
# which feeds nothing back. The recurrent cell then knows nothing about the image, and each word
# depends on the image only through the region attended at that word.

# %%
word_ids = keras.Input((None,), dtype="int32", name="words")
activations = keras.Input((GRID, GRID, FEATURES), name="map")
regions = GridRegions()(activations)
embedded = keras.layers.Embedding(len(WORDS), 32)(word_ids)
attention = AreaAttention(
    vocabulary_size=len(WORDS),
    embedding_dim=32,
    variant="word_region_state",
    never_predicted=(0, 1),
)
cell = AttentionGRUCell(units=64, region_dim=FEATURES, attention=attention)
states = AttentionRNN(cell, return_sequences=True)(embedded, regions)
word_log_probs, region_probs = attention(states, regions)
captioner = keras.Model([word_ids, activations], [word_log_probs, region_probs])

# %% [markdown]
# ## Training
#
# Log-probabilities are valid logits, so Keras's own loss can be used. `ignore_class=0` leaves
# padding out of the loss. Padding is listed in `never_predicted` and has log-probability -1e9.

# %%
trained = keras.Model(captioner.inputs, word_log_probs)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
trained.compile(keras.optimizers.Adam(0.01), loss)
inputs, targets = [captions[:-4, :-1], maps[:-4]], captions[:-4, 1:]
history = trained.fit(inputs, targets, batch_size=64, epochs=EPOCHS, verbose=0).history["loss"]
print(f"loss per word: {history[0]:.2f} after the first epoch, {history[-1]:.2f} after the last")

# %% [markdown]
# ## Save and load

# %%
captioner.save("caption_toy.keras")
captioner = keras.saving.load_model("caption_toy.keras")

# %% [markdown]
# ## Caption unseen images
#
# Greedy search feeds the most likely word to the model until the most likely word is `<stop>`. The
# state that predicts a word attends to the region that the word describes: p(region | state).


# %%
def caption(activation_map):
    """Return the words of a caption and the attention to the grid at each word, `(words, 5, 5)`."""
    ids, attended = [IDS["<start>"]], []
    while ids[-1] != IDS["<stop>"] and len(ids) < 9:
        padded = np.array([ids + [0] * (9 - len(ids))])  # one shape: only one trace
        log_probs, probs = captioner.predict([padded, activation_map[None]], verbose=0)
        attended.append(probs[0, len(ids) - 1].reshape(GRID, GRID))
        ids.append(int(log_probs[0, len(ids) - 1].argmax()))
    return [WORDS[index] for index in ids[1:]], np.array(attended)


figure, rows = plt.subplots(4, 9, figsize=(11, 5.5))
unseen = zip(rows, images[-4:], maps[-4:], captions[-4:], strict=True)
for row, image, activation_map, reference in unseen:
    words, attended = caption(activation_map)
    print("caption:  ", *words, "\nreference:", *(WORDS[i] for i in reference[1:] if i))
    for axes in row:
        axes.axis("off")
    row[0].imshow(0.3 + 0.7 * image)
    row[0].set_title("image")
    for axes, word, weights in zip(row[1:], words, attended, strict=False):
        bright = 0.2 + 0.8 * np.kron(weights / weights.max(), np.ones((CELL, CELL)))
        axes.imshow((0.3 + 0.7 * image) * bright[..., None])
        axes.set_title(word)
figure.tight_layout()
figure.savefig("caption_toy.png", dpi=80)
