"""`python evaluate.py` and `python -m keras_aoa.evaluate`: score a run, or anyone's captions."""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from keras_aoa.command_line import parse, run
from keras_aoa.errors import UserError


@dataclass(frozen=True)
class Arguments:
    """Score a run on a split of its data, or a file of captions against a file of references."""

    run: Annotated[str, tyro.conf.Positional] = ""
    """Folder of a run."""
    split: str = ""
    """Split to caption and score; the run's test split by default."""
    beam: int = 0
    """Hypotheses kept for an image in search; 0 is the run's own setting."""
    length_penalty: float = -1.0
    """Captions are ranked by log-probability over length to this power; -1: the run's own."""
    stride: int = 0
    """Steps between regions on the activation map, in cells; 0 is the run's own setting."""
    data: str = ""
    """Another data set in place of the run's."""
    images: str = ""
    """Its folder of images, where it is not beside the captions."""
    pictures: int = 12
    """Number of pictures of where the model looked."""
    tokenizer: str = "auto"
    """ptb (needs Java), python, or auto: the first that works."""
    results: str = ""
    """Captions to score, in COCO's results format, in place of a run."""
    references: str = ""
    """Their references, in COCO's captions format."""
    output: str = ""
    """File for their scores."""


def main(arguments):
    """Score what the arguments name."""
    settings = parse(Arguments, "evaluate.py", arguments)
    if bool(settings.run) == bool(settings.results):
        raise UserError(
            "evaluate.py: expected the folder of a run, or --results with --references; "
            f"received {'both' if settings.run else 'neither'}."
        )
    if settings.tokenizer not in ("auto", "ptb", "python"):
        raise UserError(
            f"tokenizer: expected auto, ptb or python, received {settings.tokenizer!r}."
        )
    if settings.results:
        evaluate_files(settings)
    else:
        evaluate_run(settings)


def evaluate_files(settings):
    """Score a file of captions."""
    from keras_aoa.evaluation.results import format_scores, score_files

    if not settings.references:
        raise UserError("evaluate.py: --results needs --references, a file of COCO captions.")
    scores = score_files(
        settings.results, settings.references, settings.output or None, settings.tokenizer
    )
    print(format_scores(scores))
    for line in (*scores.notes, *scores.missing.values()):
        print(line)
    print(f"{scores.images} images, tokenizer {scores.tokenizer}.")


def evaluate_run(settings):
    """Caption and score a split with a run."""
    from keras_aoa.run import Run

    found = Run(settings.run)
    from keras_aoa.evaluation.evaluate import EvaluationSettings, evaluate

    evaluate(
        found,
        EvaluationSettings(
            split=settings.split or found.configuration.test_split,
            beam=settings.beam or None,
            length_penalty=settings.length_penalty if settings.length_penalty >= 0 else None,
            stride=settings.stride or None,
            data=settings.data,
            images=settings.images,
            tokenizer=settings.tokenizer,
            pictures=settings.pictures,
        ),
    )


if __name__ == "__main__":
    run(main, sys.argv[1:])
