"""A report: a page of images with the captions of one or several runs, and where they looked.

Source: Pedersoli et al., "Areas of Attention for Image Captioning", ICCV 2017,
arXiv:1612.01033, figure 5.
"""

import pathlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_aoa.data.images.preprocessing import read_image, to_original
from keras_aoa.evaluation.evaluate import (
    caption_split,
    grounding_content,
    open_split,
    output_folder,
    references_of,
)
from keras_aoa.evaluation.metrics import score, start_meteor
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.runs.run import Run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable, write_text
from keras_aoa.visualization.panel import regions_of
from keras_aoa.visualization.report_page import render

FILE = "report.html"
RANKED_BY = "CIDEr"
NOTICEABLE = 0.05  # of a word's largest weight: what is less cannot be seen
MOST_AREAS = 200  # of a word; bounds the page's size
EVEN = 1.2  # equal shares: where no weight reaches so much, no area stands out


@dataclass(frozen=True)
class Word:
    """A word of a caption, and the noticeable areas it was chosen with, strongest first.

    `weights (k,)`, `corners (k, 4, 2)` in 0..1 of the upright original, may lie outside.
    `regions`: how many there were to choose from. `is_even`: none of them stands out.
    """

    text: str
    weights: Any
    corners: Any
    regions: int
    is_even: bool


@dataclass(frozen=True)
class Captioned:
    """An image's caption by a run: its words, what the network saw, `(4,)`, its own CIDEr."""

    words: tuple[Word, ...]
    log_prob: float
    window: Any
    score: float


@dataclass(frozen=True)
class Shown:
    """An image: id, file, upright pixels `(h, w, 3)` uint8, references, a `Captioned` each run."""

    image_id: int | str
    file: str
    pixels: Any
    references: tuple[str, ...]
    captions: tuple[Captioned, ...]


@dataclass(frozen=True)
class Summary:
    """A run: label, kind of regions, what it was trained on, search, scores by name, notes."""

    label: str
    regions: str
    trained_on: str
    search: dict[str, Any]
    scores: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All that a page shows; `sections` are the best, middle and worst images by the first run."""

    data: str
    split: str
    images: int
    tokenizer: str
    runs: tuple[Summary, ...]
    sections: dict[str, tuple[Shown, ...]]


def write_report(run, settings, others="", count=24, data=None):
    """Caption a split with a run, and with others beside it, and write `report.html`.

    Args:
        run: `Run`, whose data and scores choose the images.
        settings: `EvaluationSettings`; `stride` and `regions` are for the runs that have them.
        others: Folders of other runs, with commas between them.
        count: Most images shown: a third best, a third middle, a third worst.
        data: The data set, if it is read already.

    Returns:
        The page's path.

    Raises:
        UserError: as `evaluate`; no run in one of the folders; the same run twice; no images.
    """
    if count < 1:
        raise UserError(f"report-images: expected at least 1, received {count}.")
    folder = output_folder(run, settings)
    check_writable(folder)
    found = collect([run, *open_others(run, others)], settings, count, data)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FILE, render(found))
    for summary in found.runs:
        print(f"{summary.label}: {RANKED_BY} {100 * summary.scores[RANKED_BY]:.1f}")
    shown = sum(map(len, found.sections.values()))
    print(f"{shown} of {found.images} images of {found.split}; the page is {folder / FILE}")
    return folder / FILE


def open_others(run, others):
    """The runs to show beside `run`, from folders with commas between them."""
    runs = [Run(name.strip()) for name in others.split(",") if name.strip()]
    folders = [each.results_folder.resolve() for each in (run, *runs)]
    twice = [str(folder) for folder in folders if folders.count(folder) > 1]
    if twice:
        raise UserError(f"report: expected different runs, received {twice[0]} more than once.")
    return runs


def collect(runs, settings, count, data=None):
    """Caption and score a split with all runs: a `Report`.

    Args:
        runs: The first chooses the data, and the images that are shown.
        settings, count, data: As of `write_report`.
    """
    split, examples = open_split(runs[0], settings, data)
    generators = [
        CaptionGenerator.from_configuration(
            run.load_captioner(), run.vocabulary, run.configuration, own
        )
        for run, own in zip(runs, settings_of(runs, settings), strict=True)
    ]
    meteor = start_meteor()
    chosen, captions, summaries = {}, [], []
    for run, generator, label in zip(runs, generators, labels(runs), strict=True):
        images = run.load_images(split, examples)
        found = caption_split(generator, images, label)
        scores = score(*references_of(found, examples), settings.tokenizer, meteor)
        own = {place: scores.per_image[examples[place].image_id][RANKED_BY] for place in found}
        chosen = chosen or choose(sorted(own, key=lambda place: (-own[place], place)), count)
        captions.append({
            place: captioned(found[place], images.windows[place], own[place])
            for section in chosen.values()
            for place in section
        })  # fmt: skip
        grounding = grounding_content(found, examples, images).get("grounding", {})
        summaries.append(
            Summary(
                label,
                run.configuration.regions,
                name_of(run.configuration.data),
                generator.settings,
                {
                    **scores.metrics,
                    **{name: grounding.get(name) for name in ("objects", "attention")},
                },
                (*scores.notes, *scores.missing.values()),
            )
        )
    sections = {
        name: tuple(show(examples[place], [own[place] for own in captions]) for place in places)
        for name, places in chosen.items()
    }
    described = name_of(settings.data or runs[0].configuration.data)
    return Report(described, split, len(found), scores.tokenizer, tuple(summaries), sections)


def settings_of(runs, settings):
    """`settings` for each run: a number of regions is left to the runs whose regions it counts."""
    kinds = [run.configuration.regions == "proposals" for run in runs]
    if len(set(kinds)) == 1:
        return [settings] * len(runs)
    return [replace(settings, **{"stride" if kind else "regions": None}) for kind in kinds]


def name_of(data):
    """A data set's name without its folders, which are nobody's business who gets the page."""
    return pathlib.Path(data).name or data


def labels(runs):
    """What each run is called: its folder's name, with as much of the path as tells it apart."""
    paths = [run.results_folder.resolve() for run in runs]
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def choose(ranked, count):
    """Places of the images to show, of `ranked`, best first: `{"best", "middle", "worst"}`.

    The worst come worst first; where `count` is no multiple of 3, the best and then the worst
    have one more.
    """
    count = min(count, len(ranked))
    best, middle, worst = (count + 2) // 3, count // 3, (count + 1) // 3
    start = best + (len(ranked) - count) // 2
    return {
        "best": ranked[:best],
        "middle": ranked[start : start + middle],
        "worst": ranked[len(ranked) - worst :][::-1],
    }


def captioned(generated, window, own_score):
    """What is kept of a caption: its noticeable areas, a `Captioned`."""
    attention, boxes = regions_of(generated, "report")
    corners = to_original(boxes, window)
    words = tuple(
        noticeable(text, weights, corners)
        for text, weights in zip(generated.words, attention, strict=True)
    )
    return Captioned(words, generated.log_prob, window, own_score)


def noticeable(text, weights, corners):
    """A `Word` of its weights over all regions, `(r,)`, and their corners, `(r, 4, 2)`."""
    order = np.argsort(-weights, kind="stable")[:MOST_AREAS]
    order = order[weights[order] >= NOTICEABLE * weights.max()]
    is_even = len(weights) > 1 and weights.max() * len(weights) < EVEN
    return Word(text, weights[order], corners[order], len(weights), bool(is_even))


def show(example, captions):
    """An image with its captions: a `Shown`."""
    file, pixels = pathlib.Path(example.path).name, read_image(example.path)
    return Shown(example.image_id, file, pixels, example.captions, tuple(captions))
