"""`python -m keras_aoa.reproduce table1`: the paper's tables and figures from runs trained here."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from keras_aoa.settings.arguments import parse_settings, preset, take_config
from keras_aoa.settings.presets import PAPER
from keras_aoa.utils.command_line import parse_known, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest

TUNING_EPOCHS = 2
SET_BY_ROWS = ("regions", "variant", "scheduled_sampling", "seed", "start_from")


@dataclass(frozen=True)
class Arguments:
    """Train the runs of one of the paper's tables or figures where they are missing; print it.

    All settings of train.py are those of its runs; --config is study by default.
    """

    what: Annotated[
        Literal["table1", "table2", "table3", "table4", "figure4", "figure5", "all"],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="TABLE"),
    ]
    """table1: parts of the model. table2: the areas of attention, before and after fine-tuning.
    table3: attention correctness. table4: ensembles, scheduled sampling, soft attention. figure4:
    scores over the number of regions. figure5: a report of what each word looks at. all: these."""
    rows: str = ""
    """Rows of a table; all by default."""
    seeds: int = 3
    """Runs of a row, with seeds 0, 1 …"""
    tuning_epochs: int | None = None
    """Epochs in which the CNN is trained too, after the others; 0 leaves that half out. None: the
    preset's joint_epochs, or 2 where it has none."""
    tuning_rate: float = 0.0
    """Adam's rate for all but the CNN in these epochs; 0 is learning_rate. The CNN's is
    backbone_learning_rate."""
    warm_start: bool | None = None
    """Transformers start from the grid's run of their seed. None: where the preset is the paper's,
    coco and flickr30k."""
    jobs: int = 1
    """Trainings at a time."""


def main(arguments):
    """Train, and print."""
    settings, rest = parse_known(Arguments, "keras_aoa.reproduce", arguments)
    name, rest = take_config(rest, default="study")
    given = preset(name)
    base = parse_settings("keras_aoa.reproduce", rest, given)
    for own in SET_BY_ROWS:
        if getattr(base, own) != getattr(given, own):
            raise UserError(f"{own}: the table's rows set it; leave it out.")
    if settings.tuning_epochs is None:
        settings = replace(settings, tuning_epochs=base.joint_epochs or TUNING_EPOCHS)
    if settings.warm_start is None:
        settings = replace(settings, warm_start=name in PAPER)
    for number, least in (("seeds", 1), ("tuning_epochs", 0), ("tuning_rate", 0), ("jobs", 1)):
        if not getattr(settings, number) >= least:
            raise UserError(
                f"{number}: expected at least {least}, received {getattr(settings, number)}."
            )
    from keras_aoa.reproduction.rows import TABLES

    rows = tuple(row for row in settings.rows.split(",") if row)
    if rows and settings.what not in TABLES:
        raise UserError(f"rows: does not apply to {settings.what}; leave it out.")
    for row in rows:
        known = TABLES[settings.what].rows
        if row not in known:
            raise UserError(f"rows: unknown row {row!r}. {closest(row, known)}")
    from keras_aoa.reproduction.everything import PARTS, reproduce
    from keras_aoa.reproduction.tables import TableSettings

    wanted = TableSettings(
        rows,
        settings.seeds,
        settings.tuning_epochs,
        settings.tuning_rate,
        settings.jobs,
        settings.warm_start,
    )
    for part in PARTS if settings.what == "all" else (settings.what,):
        print(f"## {part}\n\n{reproduce(part, base, wanted)}", flush=True)


if __name__ == "__main__":
    run(main, interrupted="The same command goes on: finished runs are kept.")
