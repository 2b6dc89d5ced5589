"""The paper's table 3: how much of a word's attention lies on the thing that it names."""

import json
import pathlib

from keras_aoa.evaluation.correctness import MEASURES
from keras_aoa.evaluation.correctness_run import CONVENTIONS, KINDS
from keras_aoa.reproduction.rows import GRID, SOFT, TRANSFORMER
from keras_aoa.reproduction.runs import measures_of
from keras_aoa.reproduction.tables import chains_of, spread, trained
from keras_aoa.utils.files import write_text

ROWS = {"soft": SOFT, "grid": GRID, "transformer": TRANSFORMER}
# Of the paper's table, Flickr30k: Liu et al.'s measure of Xu et al.'s attention, and its own.
PAPER = {"soft": (38.4, 52.0), "transformer": (40.2, 61.1)}


def table3(base, settings):
    """Measure attention correctness of runs; writes `table3.md` and `table3.json`.

    Args:
        base: What all runs share.
        settings: `TableSettings`; its rows count for the other tables.

    Returns:
        The table, Markdown.
    """
    chains = chains_of(base, ROWS, settings)
    trained(base, chains, settings)
    found = {row: [] for row in ROWS}
    for (row, _), runs in chains.items():
        found[row].append(correctness_of(runs[-1]))
    text = markdown(found)
    output = pathlib.Path(base.output)
    write_text(output / "table3.json", json.dumps(found, indent=2) + "\n")
    write_text(output / "table3.md", text)
    return text


def correctness_of(run):
    """A run's `correctness.json`, measured where it is missing or out of date."""
    return measures_of(
        run.folder / "correctness.json",
        [run],
        [str(run.folder), "--correctness"],
        lambda found: found.get("conventions") == CONVENTIONS,
    )


def markdown(found):
    """The table: each run's attention, then what a uniform one and a center prior would give."""
    lines = [
        "| captions | attention | mass in the box | best word of the phrase | "
        "as the authors count | maximum inside | box found | the paper's, Flickr30k |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place, kind in enumerate(KINDS):
        for row, runs in found.items():
            paper = PAPER.get(row, ("", ""))[place]
            lines.append(line(kind, ROWS[row].title, runs, "model", paper))
        for column, title in (("uniform", "equal weights"), ("center_prior", "center prior")):
            lines.append(line(kind, f"{title}, grid", found["grid"], column, ""))
    return "\n".join(lines) + "\n"


def line(kind, title, runs, column, paper):
    """A row: means over seeds. Priors are the same for all words of a phrase."""
    first, *others = MEASURES
    phrase = "model_phrase" if column == "model" else column
    wanted = [(column, first), (phrase, first), *((column, name) for name in others)]
    cells = [spread([times_100(run[kind][at][name]) for run in runs]) for at, name in wanted]
    return f"| {kind.replace('_', ' ')} | {title} | {' | '.join(cells)} | {paper} |"


def times_100(value):
    """A share in percent; None stays."""
    return None if value is None else 100 * value
