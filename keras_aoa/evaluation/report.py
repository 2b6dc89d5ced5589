"""Writes a report: images with the captions and attended regions of one or more runs.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, figure 5.
"""

import pathlib
from dataclasses import dataclass, replace
from typing import Any

from keras_aoa.data.examples import CaptionData
from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.evaluation.java import start_meteor
from keras_aoa.evaluation.metrics import score
from keras_aoa.evaluation.split import EvaluationSettings, SplitCaptioner
from keras_aoa.runs.ensemble import open_run
from keras_aoa.runs.run import Run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import write_text
from keras_aoa.visualization.areas import Word, noticeable_areas
from keras_aoa.visualization.panel import window_of
from keras_aoa.visualization.report_page import render

FILE = "report.html"
RANKED_BY = "CIDEr"


@dataclass(frozen=True)
class ReportCaption:
    """A run's caption of an image.

    Attributes:
        words: Words of the caption.
        log_prob: Natural logarithm of the caption's probability.
        window: Part of the image that the network input covers, `(4,)`.
        score: The caption's CIDEr.
    """

    words: tuple[Word, ...]
    log_prob: float
    window: Any
    score: float


@dataclass(frozen=True)
class ReportImage:
    """An image of the report.

    Attributes:
        image_id: Id of the image.
        file: Name of the image file.
        pixels: The upright image, `(h, w, 3)`, uint8.
        references: Human captions.
        captions: One caption per run.
    """

    image_id: int | str
    file: str
    pixels: Any
    references: tuple[str, ...]
    captions: tuple[ReportCaption, ...]


@dataclass(frozen=True)
class Summary:
    """Summary of a run: label, kind of regions, training data, search settings, scores, notes."""

    label: str
    regions: str
    trained_on: str
    search: dict[str, Any]
    scores: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Content of a report.

    `sections` maps "best", "middle" and "worst" to images. The images are ranked by the scores of
    the first run.
    """

    data: str
    split: str
    images: int
    tokenizer: str
    runs: tuple[Summary, ...]
    sections: dict[str, tuple[ReportImage, ...]]


def write_report(
    run: Run,
    settings: EvaluationSettings,
    others: str = "",
    count: int = 24,
    data: CaptionData | None = None,
) -> pathlib.Path:
    """Caption a split with one or more runs, and write `report.html`.

    Args:
        run: `Run` whose data and scores determine the images.
        settings: `EvaluationSettings`. If only some runs use object proposals, `proposals` applies
            to these runs and `stride` applies to all other runs.
        others: Comma-separated folders of other runs.
        count: Maximum number of images. One third are the best images, one third the middle images,
            and one third the worst images.
        data: `CaptionData`, or None to load the data.

    Returns:
        Path of the page.

    Raises:
        UserError: a folder contains no run, a run occurs twice, or `count` is below 1. `evaluate`
            can raise further errors.
    """
    if count < 1:
        raise UserError(f"report-images: expected at least 1, received {count}.")
    tasks = split_captioners([run, *open_others(run, others)], settings, data)
    report, folder = collect(tasks, count), tasks[0].folder
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FILE, render(report))
    for summary in report.runs:
        print(f"{summary.label}: {RANKED_BY} {100 * summary.scores[RANKED_BY]:.1f}")
    shown = sum(map(len, report.sections.values()))
    print(f"{shown} of {report.images} images of {report.split}; report: {folder / FILE}")
    return folder / FILE


def open_others(run, others):
    """Open the runs in comma-separated folders, which are compared with `run`."""
    runs = [open_run(name.strip()) for name in others.split(",") if name.strip()]
    folders = [each.results_folder.resolve() for each in (run, *runs)]
    twice = [str(folder) for folder in folders if folders.count(folder) > 1]
    if twice:
        raise UserError(f"report: expected different runs, received {twice[0]} more than once.")
    return runs


def split_captioners(runs, settings, data=None):
    """Return a `SplitCaptioner` for each run.

    All runs caption the split and the data of the first run.
    """
    own, *others = settings_of(runs, settings)
    tasks = [SplitCaptioner(runs[0], own, data)]
    for run, own in zip(runs[1:], others, strict=True):
        own = replace(own, split=tasks[0].split, output=str(tasks[0].folder))
        tasks.append(SplitCaptioner(run, own, tasks[0].data))
    return tasks


def collect(tasks, count):
    """Caption a split with all runs, score the captions, and return a `Report`.

    Args:
        tasks: A `SplitCaptioner` for each run. The scores of the first run determine the images.
        count: Maximum number of images.
    """
    first = tasks[0]
    generators = [task.generator() for task in tasks]
    names = labels([task.run for task in tasks])
    meteor = start_meteor()
    chosen, captions, summaries = {}, [], []
    for task, generator, label in zip(tasks, generators, names, strict=True):
        generated = task.captions(generator, label)
        scores = score(*task.references(generated), first.settings.tokenizer, meteor)
        ranks = {
            index: scores.per_image[task.examples[index].image_id][RANKED_BY] for index in generated
        }
        chosen = chosen or choose(sorted(ranks, key=lambda index: (-ranks[index], index)), count)
        captions.append({
            index: report_caption(generated[index], ranks[index])
            for section in chosen.values()
            for index in section
        })  # fmt: skip
        summaries.append(summarize(task, generator, label, scores, task.grounding(generated)))
    sections = {
        name: tuple(
            report_image(first.examples[index], [own[index] for own in captions])
            for index in indices
        )
        for name, indices in chosen.items()
    }
    data = name_of(first.settings.data or first.run.configuration.data)
    return Report(data, first.split, len(generated), scores.tokenizer, tuple(summaries), sections)


def summarize(task, generator, label, scores, grounding):
    """Return the `Summary` of a run."""
    grounding = grounding.get("grounding", {})
    measures = ("phrases_correct", "attention_on_object")
    return Summary(
        label,
        task.run.configuration.regions,
        name_of(task.run.configuration.data),
        generator.settings,
        {**scores.metrics, **{name: grounding.get(name) for name in measures}},
        (*scores.notes, *scores.missing.values()),
    )


def settings_of(runs, settings):
    """Return each run's settings.

    If only some runs use object proposals, these runs keep the setting `proposals` and lose
    `stride`. All other runs keep `stride` and lose `proposals`.
    """
    kinds = [run.configuration.regions == "proposals" for run in runs]
    if len(set(kinds)) == 1:
        return [settings] * len(runs)
    return [replace(settings, **{"stride" if kind else "proposals": None}) for kind in kinds]


def name_of(data):
    """Return a data set's name without the folders of its path.

    The report may be shared and should not show the folders of the data set.
    """
    return pathlib.Path(data).name or data


def labels(runs):
    """Label each run by the last parts of its folder's path.

    The labels have as few parts as possible, but enough to be unique.
    """
    paths = [run.results_folder.resolve() for run in runs]
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def choose(ranked, count):
    """Choose the images to show.

    Args:
        ranked: Indices of all images, from best to worst.
        count: Maximum number of images to choose.

    Returns:
        Lists of indices, `{"best": ..., "middle": ..., "worst": ...}`. The list "worst" begins
        with the worst image. If `count` is not a multiple of 3, "best" gets the first extra image
        and "worst" gets the second extra image.
    """
    count = min(count, len(ranked))
    best, middle, worst = (count + 2) // 3, count // 3, (count + 1) // 3
    start = best + (len(ranked) - count) // 2
    return {
        "best": ranked[:best],
        "middle": ranked[start : start + middle],
        "worst": ranked[len(ranked) - worst :][::-1],
    }


def report_caption(caption, own_score):
    """Convert a `Caption` to a `ReportCaption`, which contains only noticeable areas."""
    words = noticeable_areas(caption, "report")
    return ReportCaption(words, caption.log_prob, window_of(caption), own_score)


def report_image(example, captions):
    """Combine an example and its captions into a `ReportImage`."""
    file, pixels = pathlib.Path(example.path).name, read_image(example.path)
    return ReportImage(example.image_id, file, pixels, example.captions, tuple(captions))
