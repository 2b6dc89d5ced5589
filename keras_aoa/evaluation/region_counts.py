"""Scores against the number of regions at test time, from one trained run: the paper's figure 4."""

import json
import time
from dataclasses import replace

import numpy as np

from keras_aoa.evaluation.evaluate import (
    caption_split,
    grounding_content,
    measured_on,
    open_split,
    output_folder,
    references_of,
)
from keras_aoa.evaluation.metrics import score, start_meteor
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.utils.files import atomic_write, check_writable, write_text

COLUMNS = ("Bleu_4", "METEOR", "CIDEr")


def compare_region_counts(run, settings, name, values, data=None):
    """Caption and score a split with other numbers of regions; prints and draws the scores.

    Writes `regions_SPLIT.json` and `regions_SPLIT.png`.

    Args:
        run: `Run`.
        settings: `EvaluationSettings`.
        name: `stride` or `regions`, the setting that changes.
        values: Its values.
        data: The data set, if it is read already.

    Returns:
        A list of rows, each a dictionary: the value, `count` (regions of an image, the mean),
        scores and seconds an image.

    Raises:
        UserError: as `evaluate`.
    """
    folder = output_folder(run, settings)
    check_writable(folder)
    split, examples = open_split(run, settings, data)
    captioner = run.load_captioner()
    generators = [
        CaptionGenerator.from_configuration(
            captioner, run.vocabulary, run.configuration, replace(settings, **{name: value})
        )
        for value in values
    ]
    images = run.load_images(split, examples, run.configuration.cache_gigabytes)
    meteor = start_meteor()
    rows = []
    for value, generator in zip(values, generators, strict=True):
        started = time.perf_counter()
        found = caption_split(generator, images, f"{name} {value}")
        seconds = (time.perf_counter() - started) / len(found)
        references, captions = references_of(found, examples)
        scores = score(references, captions, settings.tokenizer, meteor).metrics
        row = {name: value, "count": float(np.mean([each.mask.sum() for each in found.values()]))}
        row |= {metric: scores[metric] for metric in COLUMNS if metric in scores}
        row |= grounding_content(found, examples, images)
        rows.append({**row, "seconds": seconds})
        print(_line(rows[-1], name, first=len(rows) == 1), flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    search = {key: value for key, value in generators[0].settings.items() if key != name}
    content = {**measured_on(run, settings, split, search), "setting": name, "rows": rows}
    write_text(folder / f"regions_{split}.json", json.dumps(content, indent=2) + "\n")
    curves = {run.configuration.regions: rows}
    draw(folder / f"regions_{split}.png", curves, run.results_folder.name)
    print(f"{len(images.readable)} images of {split}; table and curve: {folder}/regions_{split}.*")
    return rows


def draw(path, curves, title=""):
    """CIDEr over the number of regions, on a logarithmic axis.

    Args:
        path: PNG file.
        curves: Rows of `compare_region_counts` by what the curve is called.
        title: Of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    counts = set()
    for name, rows in curves.items():
        points = sorted((row["count"], 100 * row["CIDEr"]) for row in rows)
        counts |= {round(count) for count, _ in points}
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xscale("log")
    axes.set_xticks(sorted(counts))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.tick_params(axis="x", labelrotation=60, labelsize=8)
    axes.set(xlabel="regions of an image", ylabel="CIDEr", title=title)
    axes.grid(alpha=0.3)
    axes.legend(title="regions", frameon=False)
    with atomic_write(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def _line(row, name, first):
    """A row as text, under its headings if it is the first."""
    grounding = row.get("grounding", {})
    cells = {
        name: f"{row[name]}",
        "regions an image": f"{row['count']:.1f}",
        **{metric: f"{100 * row[metric]:.1f}" for metric in COLUMNS if metric in row},
        **({"attention": f"{100 * grounding['attention']:.1f}"} if _has(grounding) else {}),
        "ms an image": f"{1000 * row['seconds']:.0f}",
    }
    lines = [list(cells), list(cells.values())] if first else [list(cells.values())]
    widths = [max(len(heading), 7) for heading in cells]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _has(grounding):
    return grounding.get("attention") is not None
