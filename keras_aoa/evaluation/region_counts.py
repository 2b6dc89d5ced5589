"""Scores a run with different numbers of regions, as in the paper's figure 4."""

import time

import numpy as np

from keras_aoa.evaluation.java import start_meteor
from keras_aoa.evaluation.metrics import score
from keras_aoa.evaluation.split import SplitCaptioner
from keras_aoa.utils.files import atomic_write

COLUMNS = ("Bleu_4", "METEOR", "CIDEr")


def compare_region_counts(run, settings, name, values, data=None):
    """Caption and score a split with several numbers of regions.

    Prints the scores and writes `regions_SPLIT.json` and `regions_SPLIT.png`.

    Args:
        run: `Run`.
        settings: `EvaluationSettings`.
        name: Setting to vary: `stride` or `proposals`.
        values: Values of the setting to compare.
        data: `CaptionData`, or None to load the data.

    Returns:
        A list with a dictionary for each value of the setting. A dictionary contains the value,
        `count` (the mean number of regions in an image), the scores, and `seconds` per image.

    Raises:
        UserError: `evaluate` fails.
    """
    task = SplitCaptioner(run, settings, data)
    generators = [task.generator(**{name: value}) for value in values]
    images, meteor = task.images, start_meteor()
    rows = []
    for value, generator in zip(values, generators, strict=True):
        started = time.perf_counter()
        captions = task.captions(generator, f"{name} {value}")
        seconds = (time.perf_counter() - started) / len(captions)
        scores = score(*task.references(captions), settings.tokenizer, meteor).metrics
        count = np.mean([caption.mask.sum() for caption in captions.values()])
        row = {name: value, "count": float(count)}
        row |= {metric: scores[metric] for metric in COLUMNS if metric in scores}
        row |= task.grounding(captions)
        rows.append({**row, "seconds": seconds})
        print(_line(rows[-1], name, first=len(rows) == 1), flush=True)
    search = {key: value for key, value in generators[0].settings.items() if key != name}
    content = {**task.metadata(search), "setting": name, "rows": rows}
    task.write(content, f"regions_{task.split}.json")
    curves = {run.configuration.regions: rows}
    draw(task.folder / f"regions_{task.split}.png", curves, run.results_folder.name)
    print(
        f"{len(images.readable)} images of {task.split}; table and curve: "
        f"{task.folder}/regions_{task.split}.*"
    )
    return rows


def draw(path, curves, title=""):
    """Draw CIDEr over the number of regions, with a logarithmic x axis.

    Args:
        path: PNG file to write.
        curves: Dictionary from the label of a curve to rows, as returned by
            `compare_region_counts`.
        title: Title of the picture.
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
    axes.set(xlabel="regions per image", ylabel="CIDEr", title=title)
    axes.grid(alpha=0.3)
    axes.legend(title="regions", frameon=False)
    with atomic_write(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def _line(row, name, first):
    """Format a row of the table; headings precede the first row."""
    attention = row.get("grounding", {}).get("attention_on_object")
    cells = {
        name: f"{row[name]}",
        "regions per image": f"{row['count']:.1f}",
        **{metric: f"{100 * row[metric]:.1f}" for metric in COLUMNS if metric in row},
        **({} if attention is None else {"attention on object": f"{100 * attention:.1f}"}),
        "ms per image": f"{1000 * row['seconds']:.0f}",
    }
    lines = [list(cells), list(cells.values())] if first else [list(cells.values())]
    widths = [max(len(heading), 7) for heading in cells]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
