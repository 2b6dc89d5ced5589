"""Reproduces the paper's table 3: attention inside the boxes of the objects that words name."""

import json
import pathlib

from keras_aoa.evaluation.correctness import CONVENTIONS, KINDS
from keras_aoa.evaluation.correctness_measures import MEASURES
from keras_aoa.reproduction.rows import (
    GRID,
    PROPOSALS,
    SOFT,
    SUPERVISED,
    SUPERVISED_SOFT,
    TRANSFORMER,
)
from keras_aoa.reproduction.runs import measures_of
from keras_aoa.reproduction.tables import NOT_RUN, chains_of, spread, trained
from keras_aoa.utils.files import write_text

ROWS = {
    "soft": SOFT,
    "soft_supervised": SUPERVISED_SOFT,
    "grid": GRID,
    "supervised": SUPERVISED,
    "proposals": PROPOSALS,
    "transformer": TRANSFORMER,
}
# The paper's results on Flickr30k, for ground-truth captions and for generated captions. The values
# of "soft" and "soft_supervised" were measured by Liu et al. with the model of Xu et al.
PAPER = {
    "soft": (38.4, 52.0),
    "soft_supervised": (43.3, 57.9),
    "transformer": (40.2, 61.1),
}


def table3(base, settings):
    """Measure the attention correctness of runs, and write `table3.md` and `table3.json`.

    Args:
        base: Base `Configuration` of all runs.
        settings: `TableSettings`. The setting `rows` is ignored.

    Returns:
        The table in Markdown.
    """
    chains = chains_of(base, ROWS, settings)
    scores = trained(base, chains, settings)
    measures = {row: [] for row in ROWS}
    for (row, _), runs in chains.items():
        if runs[-1].name in scores:
            measures[row].append(correctness_of(runs[-1]))
    text = markdown(measures)
    output = pathlib.Path(base.output)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "table3.json", json.dumps(measures, indent=2) + "\n")
    write_text(output / "table3.md", text)
    return text


def correctness_of(run):
    """Return the content of a run's `correctness.json`.

    If the file is missing or outdated, the run is measured first.
    """
    return measures_of(
        run.folder / "correctness.json",
        [run],
        [str(run.folder), "--correctness"],
        lambda measures: measures.get("conventions") == CONVENTIONS,
    )


def markdown(measures):
    """Return the table in Markdown.

    The rows of models come first, followed by equal weights and a center prior.
    """
    lines = [
        "| captions | attention | `region` | best of phrase | `pixel` | `pointing` | "
        "`localization` | the paper's, Flickr30k |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for index, kind in enumerate(KINDS):
        for row, runs in measures.items():
            paper = PAPER.get(row, ("", ""))[index]
            lines.append(line(kind, ROWS[row].title, runs, "model", paper))
        for column, title in (("uniform", "equal weights"), ("center_prior", "center prior")):
            lines.append(line(kind, f"{title}, grid", measures["grid"], column, ""))
    return "\n".join(lines) + "\n"


def line(kind, title, runs, column, paper):
    """Return a row of the table, with means over seeds.

    A prior's value is equal for all words of a phrase, and therefore equal to the phrase's best
    value.
    """
    first, *others = MEASURES
    phrase = "model_phrase" if column == "model" else column
    keys = [(column, first), (phrase, first), *((column, name) for name in others)]
    cells = [spread([times_100(run[kind][key][name]) for run in runs]) for key, name in keys]
    if not runs:
        cells[0] = NOT_RUN
    return f"| {kind.replace('_', ' ')} | {title} | {' | '.join(cells)} | {paper} |"


def times_100(value):
    """Convert a fraction to percent, and return None for None."""
    return None if value is None else 100 * value
