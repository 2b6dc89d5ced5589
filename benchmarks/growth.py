"""Measures how time and memory of the decoder's training step grow with each size.

The sizes are 10 images with 5 captions, 49 regions, 6325 words and 17 steps. One size changes at a
time. The value "of linear" compares the measured time with linear growth: it divides the time by
the time that linear growth from the smallest size would give. The exponent of growth between two
neighboring sizes is more informative, because fixed costs are a large part of the smallest time. An
exponent above 1 means that time grows faster than linearly.
"""

import math
from dataclasses import dataclass, replace

from benchmarks.decoder import Size, measured
from benchmarks.measure import print_row
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest

AXES = {
    "words": (1000, 3000, 10000, 30000, 50000),
    "regions": (49, 196, 500, 1000),
    "captions": (1, 5, 10, 20),
    "steps": (5, 10, 20, 40),
}


@dataclass(frozen=True)
class Arguments:
    """Time training steps of increasing size, each size in a new process."""

    axes: tuple[str, ...] = tuple(AXES)
    """Names of the sizes to change, one at a time."""
    turns: int = 3
    """Number of timed steps. The results are medians."""
    plot: str = ""
    """Image file for a plot of time and memory, with linear growth for comparison."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.growth", arguments)
    for axis in settings.axes:
        if axis not in AXES:
            raise UserError(f"axes: unknown axis {axis!r}. {closest(axis, AXES)}")
    curves = {axis: list(grow(axis, settings)) for axis in settings.axes}
    curves = {axis: rows for axis, rows in curves.items() if rows}
    if settings.plot and curves:
        draw(curves, settings.plot)


def grow(axis, settings):
    """Measure each value of an axis and print its row. Yield only rows without a failure."""
    first = last = None
    for value in AXES[axis]:
        row = measured(replace(Size(), **{axis: value}), turns=settings.turns)
        if "failed" in row:
            print_row(row, f"{axis} {value}: {row['failed']}", settings.json)
            continue
        first = first or row
        line = first["seconds"] * value / first[axis]
        row |= {"axis": axis, "share_of_line": row["seconds"] / line}
        text = (
            f"{axis:8} {value:6}: {1000 * row['seconds']:7.0f} ms, "
            f"{row['share_of_line']:.2f} of linear, {row['peak_gigabytes']:.2f} GB"
        )
        if last is not None:
            row["exponent"] = exponent(last, row, axis)
            text += f", exponent {row['exponent']:.2f}"
        print_row(row, text, settings.json)
        last = row
        yield row


def exponent(before, after, axis):
    """Return the exponent of the growth of time between two rows. Linear growth has exponent 1."""
    return math.log(after["seconds"] / before["seconds"]) / math.log(after[axis] / before[axis])


def draw(curves, path):
    """Plot seconds and memory for each axis, with linear growth for comparison."""
    from matplotlib.figure import Figure

    figure = Figure((3.2 * len(curves), 5.5), layout="constrained")
    quantities = {"seconds": "seconds per step", "peak_gigabytes": "peak memory, GB"}
    panels = figure.subplots(2, len(curves), squeeze=False, sharex="col")
    for (axis, rows), column in zip(curves.items(), panels.T, strict=True):
        values = [row[axis] for row in rows]
        for (name, label), panel in zip(quantities.items(), column, strict=True):
            measured_values = [row[name] for row in rows]
            line = [measured_values[0] * value / values[0] for value in values]
            panel.plot(values, line, "--", color="0.6", label="linear")
            panel.plot(values, measured_values, "o-", label="measured")
            panel.set(ylim=(0, 1.15 * max(measured_values)), xlim=(0, None), ylabel=label)
            panel.locator_params(axis="x", nbins=4)
        column[-1].set_xlabel(axis)
    panels[0, 0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run(main)
