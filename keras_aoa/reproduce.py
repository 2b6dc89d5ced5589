"""`keras-aoa reproduce table1`: train the runs of the paper's tables and figures."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from keras_aoa.cli import start
from keras_aoa.settings.arguments import parse_settings, preset, take_config
from keras_aoa.settings.presets import PAPER
from keras_aoa.utils.command_line import parse_known
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.keras_settings import use_keras_defaults
from keras_aoa.utils.text import closest

TUNING_EPOCHS = 2
SET_BY_ROWS = ("regions", "variant", "scheduled_sampling", "seed", "start_from")


@dataclass(frozen=True)
class Arguments:
    """Train the missing runs of a table or figure of the paper, then print the table or figure.

    The command also accepts all settings of train.py, and applies them to the runs that it trains.
    The default of --config is `study`.
    """

    what: Annotated[
        Literal["table1", "table2", "table3", "table4", "figure4", "figure5", "all"],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="TABLE"),
    ]
    """table1: parts of the model. table2: kinds of regions, before and after fine-tuning. table3:
    attention correctness. table4: ensembles, scheduled sampling and soft attention. figure4: scores
    by number of regions. figure5: report of the attended regions. all: every table and figure."""
    rows: str = ""
    """Comma-separated rows of a table; by default all rows."""
    seeds: int = 3
    """Number of runs per row. The runs of a row have the seeds 0, 1 …"""
    tuning_epochs: int | None = None
    """Number of fine-tuning epochs, which follow the other epochs and also train the CNN. 0 skips
    fine-tuning. None uses the preset's joint_epochs, or 2 if joint_epochs is 0."""
    tuning_rate: float = 0.0
    """Adam's learning rate in fine-tuning. 0 uses learning_rate. The CNN uses
    backbone_learning_rate instead."""
    warm_start: bool | None = None
    """Start each run of spatial transformers from the weights of the grid run with the same seed.
    None means True for the presets coco and flickr30k, which follow the paper, and False
    otherwise."""
    jobs: int = 1
    """Number of runs that train at the same time."""
    finished_only: bool = False
    """Train nothing. Print the rows whose runs are finished, and mark the other rows as not run."""


def main(arguments):
    """Train the missing runs and print the table or figure."""
    settings, rest = parse_known(Arguments, "keras_aoa.reproduce", arguments)
    name, rest = take_config(rest, default="study")
    given = preset(name)
    base = parse_settings("keras_aoa.reproduce", rest, given)
    for setting in SET_BY_ROWS:
        if getattr(base, setting) != getattr(given, setting):
            raise UserError(
                f"{setting}: is set by the table's rows, received {getattr(base, setting)!r}; "
                "omit it."
            )
    if settings.tuning_epochs is None:
        settings = replace(settings, tuning_epochs=base.joint_epochs or TUNING_EPOCHS)
    if settings.warm_start is None:
        settings = replace(settings, warm_start=name in PAPER)
    for name, least in (("seeds", 1), ("tuning_epochs", 0), ("tuning_rate", 0), ("jobs", 1)):
        if not getattr(settings, name) >= least:
            raise UserError(
                f"{name}: expected at least {least}, received {getattr(settings, name)}."
            )
    from keras_aoa.reproduction.rows import TABLES

    rows = tuple(row for row in settings.rows.split(",") if row)
    if rows and settings.what not in TABLES:
        raise UserError(
            f"rows: does not apply to {settings.what}, received {settings.rows!r}; omit it."
        )
    for row in rows:
        known = TABLES[settings.what].rows
        if row not in known:
            raise UserError(f"rows: unknown row {row!r}. {closest(row, known)}")
    use_keras_defaults()
    from keras_aoa.reproduction.everything import PARTS, reproduce
    from keras_aoa.reproduction.tables import TableSettings, check_table

    table_settings = TableSettings(
        rows,
        settings.seeds,
        settings.tuning_epochs,
        settings.tuning_rate,
        settings.jobs,
        settings.warm_start,
        settings.finished_only,
    )
    parts = PARTS if settings.what == "all" else (settings.what,)
    for part in parts:  # first, because the last part may come after days of training
        if part in TABLES:
            check_table(part, base, table_settings)
    for part in parts:
        try:
            text = reproduce(part, base, table_settings)
        except KeyboardInterrupt:
            # Trainings take hours, so the finished ones are shown.
            if part.startswith("table"):
                finished = reproduce(part, base, replace(table_settings, finished_only=True))
                print(f"## {part}, finished rows\n\n{finished}", flush=True)
            raise
        print(f"## {part}\n\n{text}", flush=True)


if __name__ == "__main__":
    start("reproduce")
