"""`python evaluate.py` and `python -m keras_aoa.evaluate`: score a run or a file of captions."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.keras_settings import use_keras_defaults

COUNTS = ("stride", "proposals")


def numbers(arguments):
    """Parse whole numbers from `1,2,5`."""
    return tuple(int(part) for part in arguments[0].split(","))


Numbers = Annotated[
    tuple[int, ...] | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT[,INT…]",
        instance_from_str=numbers,
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda value: ["None" if value is None else ",".join(map(str, value))],
    ),
]


@dataclass(frozen=True)
class Arguments(SearchSettings):
    """Score a run on a split of its data, or a file of captions against a file of references."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = ""
    """Folder of a run; comma-separated runs form an ensemble."""
    stride: Numbers = None
    """Steps between regions on the activation map, in cells. Several values give a table and a
    curve of scores over the number of regions. None: the run's test_stride."""
    proposals: Annotated[Numbers, tyro.conf.arg(aliases=["--regions"])] = None
    """Maximum number of object proposals per image; the best are kept. Several values as in
    --stride. None: the run's test_proposals."""
    split: str = ""
    """Split to caption and score. Default: the run's test split."""
    data: str = ""
    """Data set to use instead of the run's."""
    images: str = ""
    """Folder of that data set's images, if it is not beside the captions."""
    pictures: int = 12
    """Number of pictures of attended regions."""
    report: bool = False
    """Write a page, report.html, instead of scores; its words highlight their regions."""
    beside: Annotated[str, tyro.conf.arg(name="with", metavar="RUN[,RUN…]")] = ""
    """Other runs to show beside the run in the report."""
    report_images: int = 24
    """Maximum number of images in the report: the best, middle and worst third by CIDEr."""
    tokenizer: Literal["auto", "ptb", "python"] = "auto"
    """'ptb' (needs Java), 'python', or 'auto', the first of the two that works."""
    results: str = ""
    """Captions to score, in COCO's results format, instead of a run."""
    references: str = ""
    """Human captions that --results is scored against, in COCO's captions format."""
    captioned_only: bool = False
    """Ignore references of images that have no caption in the results."""
    correctness: bool = False
    """Measure the run's attention correctness instead of scores."""
    output: str = ""
    """With --results: file for the scores. For a run: folder of all results; by default the run's
    folder."""


def main(arguments):
    """Score the run or the file that the arguments name."""
    settings = parse(Arguments, "evaluate.py", arguments)
    if bool(settings.run) == bool(settings.results):
        raise UserError(
            "evaluate.py: expected the folder of a run, or --results with --references; "
            f"received {'both' if settings.run else 'neither'}."
        )
    if settings.correctness and settings.results:
        raise UserError("evaluate.py: --correctness needs the folder of a run, not --results.")
    if settings.pictures < 0:
        raise UserError(f"pictures: expected at least 0, received {settings.pictures}.")
    if settings.report and settings.results:
        raise UserError("evaluate.py: --report needs the folder of a run, received --results.")
    if settings.correctness and settings.report:
        raise UserError("evaluate.py: expected --correctness or --report, received both.")
    if settings.beside and not settings.report:
        raise UserError(f"with: expected --report, received {settings.beside} without it.")
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
    from keras_aoa.runs.ensemble import open_run

    opened = open_run(settings.run)
    use_keras_defaults()
    from keras_aoa.evaluation.evaluate import evaluate
    from keras_aoa.evaluation.split import EvaluationSettings

    counts = {name: settings.changes[name] for name in COUNTS if name in settings.changes}
    several = [name for name, values in counts.items() if len(values) > 1]
    changes = {**settings.changes, **{name: values[0] for name, values in counts.items()}}
    evaluation_settings = EvaluationSettings(
        **changes,
        split=settings.split,
        data=settings.data,
        images=settings.images,
        tokenizer=settings.tokenizer,
        pictures=settings.pictures,
        output=settings.output,
    )
    if settings.correctness:
        from keras_aoa.evaluation.correctness import evaluate_correctness

        evaluate_correctness(opened, evaluation_settings, several)
        return
    if settings.report:
        from keras_aoa.evaluation.report import write_report

        if several:
            raise UserError(f"{several[0]}: expected one number for a report, received several.")
        write_report(opened, evaluation_settings, settings.beside, settings.report_images)
        return
    if not several:
        from keras_aoa.distribution.process import Process, make_strategy

        process = Process(make_strategy())
        with process.report_lost_workers():
            evaluate(opened, evaluation_settings, process=process)
        return
    from keras_aoa.evaluation.region_counts import compare_region_counts

    compare_region_counts(opened, evaluation_settings, several[0], counts[several[0]])


if __name__ == "__main__":
    run(main)
