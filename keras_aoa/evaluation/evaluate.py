"""Scores a run on a split: writes captions, metrics, grounding and pictures."""

import time
from collections.abc import Sequence
from typing import Any

from keras_aoa.data.examples import CaptionData
from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.distribution.process import Process
from keras_aoa.evaluation.confidence import cider_by_confidence
from keras_aoa.evaluation.java import start_meteor
from keras_aoa.evaluation.metrics import score
from keras_aoa.evaluation.results import format_scores, score_content, write_results
from keras_aoa.evaluation.split import EvaluationSettings, SplitCaptioner
from keras_aoa.runs.run import Run
from keras_aoa.visualization.pictures import attention_picture, contact_sheet, curves_picture

PICTURES = "pictures"
TIMING = "timing.json"  # of the last evaluation; reading and compiling included
COUNTED = ("phrases", "vocabulary_used", "mean_length")  # printed unchanged, not times 100


def evaluate(
    run: Run,
    settings: EvaluationSettings,
    data: CaptionData | None = None,
    history: Sequence[dict[str, float]] = (),
    process: Process | None = None,
) -> dict[str, Any] | None:
    """Caption a split with a run's best weights and score the captions.

    Writes `captions_SPLIT.json`, `scores_SPLIT.json` and pictures. The scores are also written to
    `scores.json`, which every evaluation overwrites. Prints one metric per line.

    Args:
        run: `Run`.
        settings: `EvaluationSettings`.
        data: `CaptionData`, or None to load the data.
        history: Metrics of each training epoch, which are drawn as curves.
        process: `Process`, needed only if several processes share the work.

    Returns:
        The content of `scores.json`. All processes except the chief return None.

    Raises:
        UserError: the split does not exist, the run has no trained weights, or the data cannot be
            read.
    """
    task = SplitCaptioner(run, settings, data, process)
    generator, images = task.generator(), task.images
    meteor = start_meteor() if task.process.chief else None
    started = time.monotonic()
    captions = task.captions(generator)
    seconds = time.monotonic() - started
    if not task.process.chief:
        return None
    references, texts = task.references(captions)
    task.folder.mkdir(parents=True, exist_ok=True)
    write_results(task.folder / f"captions_{task.split}.json", texts)
    scores = score(references, texts, settings.tokenizer, meteor)
    content = {
        **score_content(scores),
        **task.metadata(generator.settings),
        **scores.agreement,
        **task.grounding(captions),
        **task.diversity(texts),
        "confidence": cider_by_confidence(
            [caption.confidence for caption in captions.values()],
            [scores.per_image[task.examples[index].image_id]["CIDEr"] for index in captions],
        ),
    }
    task.write(content, f"scores_{task.split}.json", "scores.json")
    # Not in `scores.json`, because a repeated evaluation writes the same scores.
    task.write({"seconds_per_caption": seconds / len(captions)}, TIMING)
    draw(task.folder / PICTURES, captions, images, settings.pictures, history)
    print_scores(task, scores, content)
    return content


def draw(folder, captions, images, count, history):
    """Draw the attention of the first `count` captions, a contact sheet, and training curves."""
    (folder / images.name).mkdir(parents=True, exist_ok=True)
    shown = list(captions)[:count]
    pixels = {index: read_image(images.examples[index].path) for index in shown}
    for index in shown:
        name = f"{images.examples[index].image_id}".replace("/", "_")
        path = folder / images.name / f"{name}.png"
        attention_picture(pixels[index], captions[index], path)
    if shown:
        sheet = [
            (pixels[index], captions[index].text, images.examples[index].captions)
            for index in shown
        ]
        contact_sheet(sheet, folder / f"{images.name}.png")
    if history:
        curves_picture(list(history), folder / "curves.png")


def print_scores(task, scores, content):
    """Print the folder of the results, and the metrics, times 100 except those in `COUNTED`."""
    print(format_scores(scores))
    for name in ("CIDEr_leave_one_out", "human_CIDEr_leave_one_out", "share_of_human_CIDEr"):
        if content.get(name) is not None:
            print(f"{name} {100 * content[name]:.1f}")
    groups = (content.get(name, {}) for name in ("grounding", "diversity", "confidence"))
    for name, value in [item for group in groups for item in group.items()]:
        if value is not None:
            number = value if name in COUNTED else 100 * value
            print(f"{name} {number:.{0 if isinstance(number, int) else 1}f}")
    for line in (*scores.notes, *scores.missing.values()):
        print(line)
    print(
        f"{scores.images} images of {task.split}, tokenizer {scores.tokenizer}; captions, "
        f"scores and pictures are in {task.folder}."
    )
