"""Training step of the full model's decoder on features: forward, backward, Adam.

Vocabulary of 6325 words, widths 512, 17 steps. Beside it the same step with the joint distribution
written as in equation 4, and the machine's own rate of matrix products. The FLOPs counted are those
that the leanest form needs: three times the forward pass.
"""

import json
from dataclasses import dataclass

from benchmarks.measure import in_new_process, matrix_rate, median_seconds
from keras_aoa.command_line import parse, run

WORDS, WIDTH, STEPS = 6325, 512, 17
MODULE = "benchmarks.decoder"


@dataclass(frozen=True)
class Arguments:
    """Time training steps of the decoder, each size and form in a process of its own."""

    images: tuple[int, ...] = (10, 50)
    """Images of a batch."""
    captions: int = 5
    """Captions of an image."""
    regions: tuple[int, ...] = (49, 196)
    """Regions of an image; square numbers."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    """Of the products."""
    naive: bool = True
    """Also the joint written as in equation 4, in float32, where it fits into memory."""
    turns: int = 5
    """Steps timed; the figures are medians."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print."""
    settings = parse(Arguments, MODULE, arguments)
    for images in settings.images:
        for regions in settings.regions:
            forms = [(dtype, "factorised") for dtype in settings.dtypes]
            if settings.naive and naive_gigabytes(images * settings.captions, regions) < 16:
                forms.append(("float32", "naive"))
            for dtype, form in forms:
                found = in_new_process(
                    MODULE, "measure", images=images, captions=settings.captions,
                    regions=regions, dtype=dtype, form=form, turns=settings.turns,
                )  # fmt: skip
                row = {"images": images, "captions": settings.captions, "regions": regions}
                row |= {"dtype": dtype, "form": form, **found}
                print(json.dumps(row) if settings.json else line(row), flush=True)


def line(row):
    """A row as text."""
    what = (
        f"{row['images']:3} x {row['captions']} captions, {row['regions']:3} regions, "
        f"{row['dtype']:8} {row['form']:10}"
    )
    if "failed" in row:
        return f"{what} failed: {row['failed']}"
    return (
        f"{what} {1000 * row['seconds']:7.0f} ms, {row['captions_a_second']:6.1f} captions/s, "
        f"{100 * row['share_of_matrix_rate']:5.1f} % of {row['matrix_gigaflops']:.0f} GFLOP/s, "
        f"{row['peak_gigabytes']:.1f} GB"
    )


def lean_flops(images, captions, regions):
    """FLOPs of a training step that no form can do without (design: three forward passes)."""
    rows = images * captions * STEPS
    forward = 2 * rows * (WORDS * WIDTH + WIDTH * WIDTH)
    forward += 2 * rows * WORDS * regions
    forward += 2 * rows * 3 * WIDTH * 3 * WIDTH
    forward += 2 * images * regions * (WORDS * WIDTH + 2 * WIDTH * WIDTH)
    forward += 2 * rows * 2 * regions * WIDTH
    return 3 * forward


def naive_gigabytes(rows, regions):
    """About what equation 4 keeps for the backward pass: two joint tensors a step."""
    return 2 * 4 * rows * WORDS * regions * STEPS / 1e9


def measure(images, captions, regions, dtype, form, turns):
    """Seconds of a step and what follows from them."""
    import tensorflow as tf

    trainer = make_trainer(dtype, form)
    side = round(regions**0.5)
    batch = {
        "captions": tf.concat(
            [
                tf.ones((images, captions, 1), tf.int32),
                tf.random.uniform((images, captions, STEPS), 4, WORDS, tf.int32, seed=0),
            ],
            axis=2,
        ),
        "features": {
            "map": tf.random.normal((images, side, side, WIDTH), seed=1),
            "vector": tf.random.normal((images, WIDTH), seed=2),
        },
    }
    rate = matrix_rate(dtype)
    seconds = median_seconds(lambda: trainer.step(batch, joint=False).numpy(), turns)
    rate = max(rate, matrix_rate(dtype))
    flops = lean_flops(images, captions, regions)
    return {
        "seconds": seconds,
        "captions_a_second": images * captions / seconds,
        "matrix_gigaflops": rate / 1e9,
        "share_of_matrix_rate": flops / seconds / rate,
    }


def make_trainer(dtype, form):
    """A `Trainer` of a captioner on features, its joint factorised or naive."""
    import keras

    from keras_aoa.layers import GridRegions
    from keras_aoa.models.captioner import Captioner, make_cell
    from keras_aoa.training.configuration import Configuration
    from keras_aoa.training.trainer import Trainer

    keras.config.set_dtype_policy(dtype if dtype == "float32" else f"mixed_{dtype}")
    pixels = keras.Input((None, None, WIDTH))
    vector = keras.layers.GlobalAveragePooling2D()(pixels)
    backbone = keras.Model(pixels, {"map": pixels, "vector": vector})
    cell = make_cell(WIDTH, WIDTH, WORDS, WIDTH)
    captioner = Captioner(backbone, GridRegions(), cell, dropout=0.5, feature_length=4.0)
    captioner.build()
    if form == "naive":
        from benchmarks.naive import write_joint

        write_joint(captioner)
    return Trainer(captioner, Configuration(average=0.0), steps_per_epoch=1000)


if __name__ == "__main__":
    run(main)
