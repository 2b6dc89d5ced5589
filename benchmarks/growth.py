"""Time and memory of the decoder's training step against each size, beside the straight line.

10 images of 5 captions, 49 regions, 6325 words, 17 steps; one of them changes at a time. "Of the
line" is the time over what it would be if it grew in proportion from the axis's first value.
"""

from dataclasses import dataclass, replace

from benchmarks.decoder import Size, measured
from benchmarks.measure import show
from keras_aoa.command_line import parse, run
from keras_aoa.errors import UserError
from keras_aoa.suggestions import closest

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
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print."""
    settings = parse(Arguments, "benchmarks.growth", arguments)
    for axis in settings.axes:
        if axis not in AXES:
            raise UserError(f"axes: unknown axis {axis!r}. {closest(axis, AXES)}")
    for axis in settings.axes:
        first = None
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
            show(row, text, settings.json)


if __name__ == "__main__":
    run(main)
