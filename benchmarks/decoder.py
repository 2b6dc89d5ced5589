"""Measures the time of a training step: forward pass, backward pass and Adam.

The full model trains on image features. The vocabulary has 6325 words, states and embeddings have
size 512, and captions have 17 time steps. For comparison, the benchmark measures equation 4 without
factorization, and the machine's rate of matrix products. The reported FLOPs of a step are three
times the FLOPs of the forward pass, which is the minimum for any implementation. KERAS_BACKEND=jax
runs the benchmark on JAX.
"""

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.measure import in_new_process, matrix_rate, median_seconds, print_row
from keras_aoa.data.text.vocabulary import START
from keras_aoa.utils.command_line import parse, run

WIDTH = 512
MODULE = "benchmarks.decoder"


@dataclass(frozen=True)
class Size:
    """Numbers of images, captions per image, regions per image, vocabulary words and steps."""

    images: int = 10
    captions: int = 5
    regions: int = 49
    words: int = 6325
    steps: int = 17


@dataclass(frozen=True)
class Arguments:
    """Time training steps of the decoder, each size and implementation in a new process."""

    images: tuple[int, ...] = (10, 50)
    """Batch sizes to measure, in images."""
    captions: int = 5
    """Captions per image."""
    regions: tuple[int, ...] = (49, 196)
    """Numbers of regions per image to measure."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    """Dtypes of matrix products to measure."""
    naive: bool = True
    """Also time equation 4 without factorization, in float32. Sizes that need 16 GB or more are
    left out."""
    turns: int = 5
    """Number of timed steps. The results are medians."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, MODULE, arguments)
    for images in settings.images:
        for regions in settings.regions:
            size = Size(images, settings.captions, regions)
            forms = [(dtype, "factorized") for dtype in settings.dtypes]
            if settings.naive and naive_gigabytes(size) < 16:
                forms.append(("float32", "naive"))
            for dtype, form in forms:
                row = measured(size, dtype, form, settings.turns)
                print_row(row, line(row), settings.json)


def measured(size, dtype="float32", form="factorized", turns=5):
    """Measure a size in a new process, and return a row of results."""
    arguments = {**asdict(size), "dtype": dtype, "form": form}
    return arguments | in_new_process(MODULE, "measure", **arguments, turns=turns)


def line(row):
    """Format a row as text."""
    name = (
        f"{row['images']:3} x {row['captions']} captions, {row['regions']:3} regions, "
        f"{row['dtype']:8} {row['form']:10}"
    )
    if "failed" in row:
        return f"{name} failed: {row['failed']}"
    return (
        f"{name} {1000 * row['seconds']:7.0f} ms, {row['captions_a_second']:6.1f} captions/s, "
        f"{100 * row['share_of_matrix_rate']:5.1f} % of {row['matrix_gigaflops']:.0f} GFLOP/s, "
        f"{row['peak_gigabytes']:.1f} GB"
    )


def lean_flops(size):
    """Return the minimum FLOPs of a training step: three times the FLOPs of the forward pass."""
    rows = size.images * size.captions * size.steps
    forward = 2 * rows * (size.words * WIDTH + WIDTH * WIDTH)
    forward += 2 * rows * size.words * size.regions
    forward += 2 * rows * 3 * WIDTH * 3 * WIDTH
    forward += 2 * size.images * size.regions * (size.words * WIDTH + 2 * WIDTH * WIDTH)
    forward += 2 * rows * 2 * size.regions * WIDTH
    return 3 * forward


def naive_gigabytes(size):
    """Estimate the memory of equation 4 without factorization: two joint tensors per time step."""
    rows = size.images * size.captions * size.steps
    return 2 * 4 * rows * size.words * size.regions / 1e9


def measure(dtype, form, turns, **size):
    """Return the measured seconds per step, and rates computed from these seconds."""
    size = Size(**size)
    step, batch = make_step(size.words, dtype, form), random_batch(size)
    rate = matrix_rate(dtype)
    seconds = median_seconds(lambda: step(batch), turns)
    # The higher rate of before and after, because other load lowers the rate, and a low rate would
    # increase the share.
    rate = max(rate, matrix_rate(dtype))
    return {
        "seconds": seconds,
        "captions_a_second": size.images * size.captions / seconds,
        "matrix_gigaflops": rate / 1e9,
        "share_of_matrix_rate": lean_flops(size) / seconds / rate,
    }


def random_batch(size):
    """Create random image features, and captions of random words.

    All captions have the maximum length.
    """
    from keras import ops

    random = np.random.default_rng(0)
    captions = random.integers(4, size.words, (size.images, size.captions, size.steps + 1))
    captions[:, :, 0] = START
    features = {
        "map": random.standard_normal((size.images, 1, size.regions, WIDTH), "float32"),
        "vector": random.standard_normal((size.images, WIDTH), "float32"),
    }
    return {
        "captions": ops.convert_to_tensor(captions, "int32"),
        "features": {name: ops.convert_to_tensor(value) for name, value in features.items()},
    }


def make_step(words, dtype="float32", form="factorized"):
    """Return a function that trains on a batch and waits for the result.

    Args:
        words: Size of the vocabulary.
        dtype: Dtype of matrix products.
        form: Implementation of equation 4: `factorized` or `naive`.
    """
    import keras

    from keras_aoa.settings.configuration import Configuration

    captioner = make_captioner(words, dtype)
    if form == "naive":
        from benchmarks.naive import write_joint

        write_joint(captioner)
    settings = Configuration(average=0.0)
    if keras.backend.backend() == "jax":
        from benchmarks.jax_step import make_jax_step

        return make_jax_step(captioner, settings.clip_norm, settings.learning_rate)
    from keras_aoa.training.trainer import Trainer

    trainer = Trainer(captioner, settings, steps_per_epoch=1000)
    return lambda batch: trainer.step(batch, stage=1)


def make_captioner(words, dtype="float32"):
    """Build the full model with image features as its input."""
    import keras

    from keras_aoa.layers import GridRegions
    from keras_aoa.models.build import make_cell
    from keras_aoa.models.captioner import Captioner

    pixels = keras.Input((None, None, WIDTH))
    vector = keras.layers.GlobalAveragePooling2D()(pixels)
    backbone = keras.Model(pixels, {"map": pixels, "vector": vector})
    policy = dtype if dtype == "float32" else f"mixed_{dtype}"
    cell = make_cell(WIDTH, WIDTH, words, WIDTH, dtype=policy)
    captioner = Captioner(backbone, GridRegions(), cell, dropout=0.5, feature_length=4.0)
    captioner.build()
    return captioner


if __name__ == "__main__":
    run(main)
