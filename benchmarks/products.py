"""Measures the matrix products of the decoder's training step alone: a floor for the step's time.

Most of a step consists of matrix products. Within a time step, the products have few rows, because
the next time step needs their result. This benchmark times each product alone, with the shapes of
`benchmarks.decoder`, and adds up the times. The sum does not contain exponentials, dropout or Adam.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.decoder import WIDTH, Size
from benchmarks.measure import in_new_process, matrix_rate, median_seconds, print_row
from keras_aoa.utils.command_line import parse, run

MODULE = "benchmarks.products"
CALLS = 10  # of each product in a graph, so that the start of the graph hardly counts


@dataclass(frozen=True)
class Arguments:
    """Time the matrix products of a training step alone."""

    images: int = 10
    """Batch size in images."""
    captions: int = 5
    """Captions per image."""
    regions: int = 49
    """Regions per image."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    """Dtypes of matrix products to measure."""
    turns: int = 9
    """Number of timed turns. The results are medians."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, MODULE, arguments)
    for dtype in settings.dtypes:
        row = in_new_process(
            MODULE,
            "measure",
            dtype=dtype,
            turns=settings.turns,
            images=settings.images,
            captions=settings.captions,
            regions=settings.regions,
        )
        print_row(row | {"dtype": dtype}, text(row, dtype), settings.json)


def text(row, dtype):
    """Format the results of a dtype as lines."""
    if "failed" in row:
        return f"{dtype} failed: {row['failed']}"
    lines = [
        f"{dtype}: the products of a step take {1000 * row['seconds']:.0f} ms, "
        f"{100 * row['share_of_matrix_rate']:.0f} % of {row['matrix_gigaflops']:.0f} GFLOP/s"
    ]
    for part in row["products"]:
        lines.append(
            f"  {1000 * part['seconds'] * part['count']:6.1f} ms: {part['count']:3} x "
            f"{part['name']:52} {part['gigaflops']:4.0f} GFLOP/s"
        )
    return "\n".join(lines)


def products(size):
    """List the products of a step: name, count, and the shapes `(…, rows, inner, columns)`.

    Backward products within a time step multiply by the transpose of a forward product's matrix.
    The weights' gradients are products over all time steps.
    """
    rows, steps = size.images * size.captions, size.steps
    pairs = size.images * size.regions
    units = WIDTH
    at_each_step = [
        ("state by recurrent kernel, and back", 2, (rows, units, 3 * units)),
        ("region vector by region kernel, and back", 2, (rows, units, 3 * units)),
        ("state by word and region transform, and back", 4, (rows, units, units)),
        ("query by words", 1, (rows, units, size.words)),
        ("words' gradient by words", 1, (rows, size.words, units)),
        ("word weights by exponentials", 1, (size.images, size.captions, size.words, size.regions)),
        (
            "region weights by exponentials",
            1,
            (size.images, size.captions, size.regions, size.words),
        ),
        ("query by regions, and back", 2, (size.images, size.captions, units, size.regions)),
        (
            "region weights by regions, and back",
            2,
            (size.images, size.captions, size.regions, units),
        ),
    ]
    once = [
        ("words by word kernel, and gradients", 3, (rows * steps, units, 3 * units)),
        ("gradients of the GRU's kernels", 2, (units, rows * steps, 3 * units)),
        ("gradients of the transforms", 2, (units, rows * steps, units)),
        ("gradient of the words", 1, (units, rows * steps, size.words)),
        (
            "gradient of the exponentials",
            1,
            (size.images, size.regions, size.captions * steps, size.words),
        ),
        ("region keys by words, and gradients", 3, (pairs, units, size.words)),
        ("regions by key transform, and gradients", 3, (pairs, units, units)),
    ]
    return [(name, count * steps, shape) for name, count, shape in at_each_step] + once


def measure(dtype, turns, **size):
    """Return the time of each product, and their sum."""
    size = Size(**size)
    rate = matrix_rate(dtype)
    parts = [timed(*product, dtype, turns) for product in products(size)]
    rate = max(rate, matrix_rate(dtype))
    seconds = sum(part["seconds"] * part["count"] for part in parts)
    flops = sum(part["flops"] * part["count"] for part in parts)
    return {
        "seconds": seconds,
        "matrix_gigaflops": rate / 1e9,
        "share_of_matrix_rate": flops / seconds / rate,
        "products": parts,
    }


def timed(name, count, shape, dtype, turns):
    """Time one product of the shape `(…, rows, inner, columns)`."""
    import tensorflow as tf

    *images, rows, inner, columns = shape
    left, right = (
        tf.cast(tf.random.normal((*images, *matrix)), dtype)
        for matrix in ((rows, inner), (inner, columns))
    )

    @tf.function(autograph=False)
    def several(left, right):
        total = tf.zeros((), left.dtype)
        for _ in range(CALLS):
            # Each product depends on the one before, so that they neither overlap nor merge.
            total = tf.matmul(left + total, right)[..., 0, 0]
            total = tf.reduce_sum(total) * 0
        return total

    seconds = median_seconds(lambda: several(left, right).numpy(), turns) / CALLS
    flops = 2 * int(np.prod(shape))
    return {
        "name": f"{name} {'x'.join(map(str, shape))}",
        "count": count,
        "seconds": seconds,
        "flops": flops,
        "gigaflops": flops / seconds / 1e9,
    }


if __name__ == "__main__":
    run(main)
