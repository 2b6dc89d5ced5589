"""`python evaluate.py` and `python -m keras_aoa.evaluate`: score a run, or anyone's captions."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from keras_aoa.command_line import parse, run
from keras_aoa.errors import UserError
from keras_aoa.search_settings import SearchSettings


@dataclass(frozen=True)
class Arguments(SearchSettings):
    """Score a run on a split of its data, or a file of captions against a file of references."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = ""
    """Folder of a run."""
    split: str = ""
    """Split to caption and score; the run's test split by default."""
    data: str = ""
    """Another data set in place of the run's."""
    images: str = ""
    """Its folder of images, where it is not beside the captions."""
    pictures: int = 12
    """Number of pictures of where the model looked."""
    tokenizer: Literal["auto", "ptb", "python"] = "auto"
    """ptb (needs Java), python, or auto: the first that works."""
    results: str = ""
    """Captions to score, in COCO's results format, in place of a run."""
    references: str = ""
    """Their references, in COCO's captions format."""
    captioned_only: bool = False
    """Leave out references of images without a caption in the results."""
    output: str = ""
    """File for their scores; for a run, a folder for all that is written, its own by default."""


def main(arguments):
    """Score what the arguments name."""
    settings = parse(Arguments, "evaluate.py", arguments)
    if bool(settings.run) == bool(settings.results):
        raise UserError(
            "evaluate.py: expected the folder of a run, or --results with --references; "
            f"received {'both' if settings.run else 'neither'}."
        )
    if settings.pictures < 0:
        raise UserError(f"pictures: expected at least 0, received {settings.pictures}.")
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
        settings.results,
        settings.references,
        settings.output or None,
        settings.tokenizer,
        settings.captioned_only,
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
            **settings.changes,
            split=settings.split,
            data=settings.data,
            images=settings.images,
            tokenizer=settings.tokenizer,
            pictures=settings.pictures,
            output=settings.output,
        ),
    )


if __name__ == "__main__":
    run(main)
