"""Text that `train.py` prints at its end: what the scores mean, and commands to try next."""

import os
import shlex
import sys

from keras_aoa.data.build import scored_split
from keras_aoa.utils.progress import print_progress

MEANINGS = {
    "CIDEr": "agreement with the reference captions; rare phrases count most",
    "share_of_human_CIDEr": "CIDEr in percent of the CIDEr of a held-out human caption",
    "phrases_correct": 'percent of phrases such as "a red boat" that fit an object in the image',
    "attention_on_object": "percent of the attention on an object while the caption names it",
}
VARIETY = {
    "distinct_1": "different words per 100 generated words",
    "distinct_2": "different pairs of neighboring words per 100 generated words",
    "vocabulary_used": "number of different words",
    "mean_length": "words per caption",
    "novel_captions": "percent of captions that are not among the training captions",
}
CONFIDENCE = {
    "CIDEr_most_confident": "CIDEr of the third of the captions with the most confidence",
    "CIDEr_least_confident": "CIDEr of the third with the least confidence",
}


def is_evaluated(run, data):
    """Return whether the run's scores are newer than all of its weights.

    Args:
        run: `Run`.
        data: `CaptionData`.
    """
    split, _ = scored_split(run.configuration, data)
    files = [run.folder / f"scores_{split}.json", run.last_file, run.best_file]
    if not all(file.exists() for file in files):
        return False
    scored, *weights = (file.stat().st_mtime_ns for file in files)
    return scored >= max(weights)


def print_finished(run):
    """Print that a run needs no more training."""
    print_progress(
        f"{run.folder}: this run is finished; its scores are in {run.folder / 'scores.json'}. "
        "Choose another --name to train another run."
    )


def print_meanings(content):
    """Print what the most important scores mean.

    Args:
        content: Content of `scores.json`.
    """
    groups = (content.get(name, {}) for name in ("grounding", "diversity", "confidence"))
    present = {**content, **{name: own[name] for own in groups for name in own}}
    for title, meanings in (
        ("What the scores mean (higher is better)", MEANINGS),
        ("How varied the captions are", VARIETY),
        ("Whether the captioner knows when it is right", CONFIDENCE),
    ):
        lines = [
            f"  {name:<21} {text}"
            for name, text in meanings.items()
            if present.get(name) is not None
        ]
        if lines:
            print_progress("\n".join((f"\n{title}:", *lines)))


def print_commands(run, data):
    """Print commands that use the run, with paths that exist on this machine."""
    split, _ = scored_split(run.configuration, data)
    photo = data.splits[split][0].path
    output = run.folder.parent.parent
    commands = {
        "caption an image, and draw the attention for each word": (
            "caption", run.folder, photo, "--pictures", output / "attention"
        ),
        "write a page that highlights each word's attended regions": (
            "evaluate", run.folder, "--report"
        ),
        "export for TensorFlow Serving": (
            "export", run.folder, output / "exported"
        ),
    }  # fmt: skip
    print_progress("\nTry next:")
    for purpose, (module, *arguments) in commands.items():
        words = [short(sys.executable), "-m", f"keras_aoa.{module}", *map(short, arguments)]
        print_progress(f"  # {purpose}\n  {shlex.join(words)}")


def short(path):
    """Return a relative path for a path inside the working folder, else the path itself."""
    relative = os.path.relpath(path) if os.path.isabs(path) else str(path)
    return str(path) if relative.startswith(os.pardir) else relative
