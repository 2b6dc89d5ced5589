"""Reproduces figures 4 (scores over the number of regions) and 5 (attention at each word)."""

import json
import pathlib
from dataclasses import replace

import numpy as np

from keras_aoa.evaluation.region_counts import draw
from keras_aoa.reproduction.rows import TABLES
from keras_aoa.reproduction.runs import call, measures_of, newer_file
from keras_aoa.reproduction.tables import chains_of, spread, trained
from keras_aoa.settings.search import MAX_PROPOSALS
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import write_text

AREAS = ("grid", "proposals", "transformer")
STRIDES, PROPOSALS = (1, 2, 3, 4, 6, 12), (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
# Photographs have more grid cells and boxes than scenes. Their curves have one more point.
LAST_STRIDE = 16


def trained_areas(base, settings):
    """Train the missing runs, and return the runs with the three kinds of areas.

    Args:
        base: Base `Configuration` of all runs.
        settings: `TableSettings`.

    Returns:
        `{(area, seed): (run, split)}`. `run` is the `Configuration` of a run. The run's CNN is
        fine-tuned unless `tuning_epochs` is 0. `split` is the split on which the run was scored.
    """
    rows = {area: TABLES["table2"].rows[area] for area in AREAS}
    chains = chains_of(base, rows, settings)
    scores = trained(base, chains, settings)
    missing = [runs[-1].name for runs in chains.values() if runs[-1].name not in scores]
    if missing:
        raise UserError(
            f"finished_only: expected finished runs for the figure, but {', '.join(missing)} are "
            "not finished; omit --finished-only to train them."
        )
    return {key: (runs[-1], scores[runs[-1].name]["split"]) for key, runs in chains.items()}


def figure4(base, settings):
    """Score runs with different numbers of regions.

    Writes `figure4.md`, `figure4.json` and `figure4.png`.

    Args:
        base: Base `Configuration` of all runs.
        settings: `TableSettings`.

    Returns:
        The table in Markdown.
    """
    results = {}
    for (area, seed), (run, split) in trained_areas(base, settings).items():
        results.setdefault(area, {})[seed] = rows_of(run, split)
    lines, curves = ["| regions | number per image | CIDEr |", "|---|---|---|"], {}
    for area, by_seed in results.items():
        curves[area] = []
        for rows in zip(*by_seed.values(), strict=True):
            count = float(np.mean([row["count"] for row in rows]))
            scores = [row["CIDEr"] for row in rows]
            curves[area].append({"count": count, "CIDEr": float(np.mean(scores))})
            cell = spread([100 * score for score in scores])
            lines.append(f"| {TABLES['table2'].rows[area].title} | {count:.0f} | {cell} |")
    text, output = "\n".join(lines) + "\n", pathlib.Path(base.output)
    write_text(output / "figure4.json", json.dumps(results, indent=2) + "\n")
    write_text(output / "figure4.md", text)
    draw(output / "figure4.png", curves)
    return text


def rows_of(run, split):
    """Return a run's test scores for each number of regions.

    If scores are missing, the run is evaluated first.
    """
    name, values, last = ("stride", STRIDES, LAST_STRIDE)
    if run.regions == "proposals":
        name, values, last = ("proposals", PROPOSALS, MAX_PROPOSALS)
    if run.data != "scenes":
        values = (*values, last)
    measures = measures_of(
        run.folder / f"regions_{split}.json",
        [run],
        [str(run.folder), f"--{name}", ",".join(map(str, values))],
        lambda measures: tuple(row.get(name) for row in measures["rows"]) == values,
    )
    return measures["rows"]


def figure5(base, settings):
    """Write a report that compares the three kinds of areas.

    The report shows the runs with seed 0. If the report is up to date, it is not written again.

    Args:
        base: Base `Configuration` of all runs.
        settings: `TableSettings`.

    Returns:
        The path of the report, followed by a newline.
    """
    runs = trained_areas(base, replace(settings, seeds=1))
    runs = [runs[area, 0][0] for area in AREAS]
    first, *others = (str(run.folder) for run in runs)
    page = pathlib.Path(base.output) / "figure5" / "report.html"
    options = ["--with", ",".join(others), "--output", str(page.parent)]
    if not all(newer_file(page, run) for run in runs):
        call("evaluate", [first, "--report", *options], replace(base, name="figure5"))
    return f"{page}\n"
