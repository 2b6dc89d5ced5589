"""Time and memory of the decoder's training step against each size, beside the straight line.

10 images of 5 captions, 49 regions, 6325 words, 17 steps; one of them changes at a time. "Of the
line" is the time over what it would be if it grew in proportion from the axis's first value; as
much of that first value is fixed cost, the power between neighbors tells more: above 1 is worse
than in proportion.
"""

import math
from dataclasses import dataclass, replace

from benchmarks.decoder import Size, measured
from benchmarks.measure import show
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
    """Time training steps of growing size, each in a process of its own."""

    axes: tuple[str, ...] = tuple(AXES)
    """Which sizes to change."""
    turns: int = 3
    """Steps timed; the figures are medians."""
    plot: str = ""
    """Draw time and memory beside the straight lines to this file."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print."""
    settings = parse(Arguments, "benchmarks.growth", arguments)
    for axis in settings.axes:
        if axis not in AXES:
            raise UserError(f"axes: unknown axis {axis!r}. {closest(axis, AXES)}")
    curves = {axis: list(grow(axis, settings)) for axis in settings.axes}
    curves = {axis: rows for axis, rows in curves.items() if rows}
    if settings.plot and curves:
        draw(curves, settings.plot)


def grow(axis, settings):
    """Measure and print an axis; yields the rows that did not fail."""
    first = last = None
    for value in AXES[axis]:
        row = measured(replace(Size(), **{axis: value}), turns=settings.turns)
        if "failed" in row:
            show(row, f"{axis} {value}: {row['failed']}", settings.json)
            continue
        first = first or row
        line = first["seconds"] * value / first[axis]
        row |= {"axis": axis, "share_of_line": row["seconds"] / line}
        text = (
            f"{axis:8} {value:6}: {1000 * row['seconds']:7.0f} ms, "
            f"{row['share_of_line']:.2f} of the line, {row['peak_gigabytes']:.2f} GB"
        )
        if last is not None:
            row["exponent"] = exponent(last, row, axis)
            text += f", grows by the power {row['exponent']:.2f}"
        show(row, text, settings.json)
        last = row
        yield row


def exponent(before, after, axis):
    """The power of the size by which time grew between two rows; 1 is in proportion."""
    return math.log(after["seconds"] / before["seconds"]) / math.log(after[axis] / before[axis])


def draw(curves, path):
    """Plot every axis: measured seconds and memory, and the line in proportion to the first."""
    from matplotlib.figure import Figure

    figure = Figure((3.2 * len(curves), 5.5), layout="constrained")
    quantities = {"seconds": "seconds a step", "peak_gigabytes": "peak memory, GB"}
    panels = figure.subplots(2, len(curves), squeeze=False, sharex="col")
    for (axis, rows), column in zip(curves.items(), panels.T, strict=True):
        values = [row[axis] for row in rows]
        for (name, label), panel in zip(quantities.items(), column, strict=True):
            measured_values = [row[name] for row in rows]
            line = [measured_values[0] * value / values[0] for value in values]
            panel.plot(values, line, "--", color="0.6", label="in proportion")
            panel.plot(values, measured_values, "o-", label="measured")
            panel.set(ylim=(0, 1.15 * max(measured_values)), xlim=(0, None), ylabel=label)
            panel.locator_params(axis="x", nbins=4)
        column[-1].set_xlabel(axis)
    panels[0, 0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run(main)
