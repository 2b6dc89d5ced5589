"""`python -m keras_aoa.reproduce table2`: the paper's tables from runs trained here."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from keras_aoa.command_line import parse, parse_known, run
from keras_aoa.errors import UserError
from keras_aoa.suggestions import closest
from keras_aoa.train import preset, take_config
from keras_aoa.training.configuration import Configuration

SET_BY_ROWS = ("regions", "seed", "start_from")


@dataclass(frozen=True)
class Arguments:
    """Train the runs of one of the paper's tables where they are missing, and print the table.

    All settings of train.py are those of its runs; --config is study by default.
    """

    table: Annotated[Literal["table2"], tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
    """table2: the baseline and the areas of attention, before and after fine-tuning."""
    rows: str = "baseline,mean,grid,proposals,transformer"
    """Rows of the table."""
    seeds: int = 3
    """Runs of a row, with seeds 0, 1 …"""
    tuning_epochs: int = 2
    """Epochs in which the CNN is trained too, after the others; 0 leaves that half out."""
    tuning_rate: float = 0.0
    """Adam's rate for all but the CNN in these epochs; 0 is learning_rate. The CNN's is
    backbone_learning_rate."""
    jobs: int = 1
    """Trainings at a time."""


def main(arguments):
    """Train, and print."""
    settings, rest = parse_known(Arguments, "keras_aoa.reproduce", arguments)
    name, rest = take_config(rest, default="study")
    given = preset(name)
    base = parse(Configuration, "keras_aoa.reproduce", rest, given)
    for own in SET_BY_ROWS:
        if getattr(base, own) != getattr(given, own):
            raise UserError(f"{own}: the table's rows set it; leave it out.")
    from keras_aoa.reproduction.table2 import ROWS, Table2Settings, table2

    rows = tuple(settings.rows.split(","))
    for row in rows:
        if row not in ROWS:
            raise UserError(f"rows: unknown row {row!r}. {closest(row, ROWS)}")
    for number, least in (("seeds", 1), ("tuning_epochs", 0), ("jobs", 1)):
        if getattr(settings, number) < least:
            raise UserError(
                f"{number}: expected at least {least}, received {getattr(settings, number)}."
            )
    wanted = Table2Settings(
        rows, settings.seeds, settings.tuning_epochs, settings.tuning_rate, settings.jobs
    )
    print(table2(base, wanted))


if __name__ == "__main__":
    run(main, interrupted="The same command goes on: finished runs are kept.")
