"""`keras-aoa evaluate` and `python evaluate.py`: score a run or a file of captions."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from keras_aoa.cli import start
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.command_line import parse, program
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.keras_settings import use_keras_defaults

COUNTS = ("stride", "proposals")
OUTPUTS = ("correctness", "faithfulness", "report")  # instead of scores


def numbers(arguments):
    """Parse a list of whole numbers such as `1,2,5`."""
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
    """Score a run on a split of its data, or score a file of captions against human captions."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = ""
    """Folder of a run, or a captioner's name such as flickr8k; comma-separated runs form an
    ensemble."""
    stride: Numbers = None
    """Distance between neighboring regions, in cells of the activation map. Several values produce
    a table and a curve of scores by number of regions. None uses the run's test_stride."""
    proposals: Annotated[Numbers, tyro.conf.arg(aliases=["--regions"])] = None
    """Number of highest-scoring object proposals per image. Several values produce a table and a
    curve of scores by number of regions. None uses the run's test_proposals."""
    split: str = ""
    """Split to caption and score. Default: the run's test split."""
    data: str = ""
    """Data set to use instead of the run's data set."""
    images: str = ""
    """Folder of the images of --data, if it is not the folder of the captions."""
    pictures: int = 12
    """Number of images for which to draw the attended regions."""
    report: bool = False
    """Write the page report.html instead of scores. The page highlights the attended regions of the
    word under the mouse pointer."""
    beside: Annotated[str, tyro.conf.arg(name="with", metavar="RUN[,RUN…]")] = ""
    """Other runs to show beside this run in the report."""
    report_images: int = 24
    """Maximum number of images in the report: a third with the best CIDEr, a third with the worst,
    and a third from the middle."""
    tokenizer: Literal["auto", "ptb", "python"] = "auto"
    """Tokenizer for the scores. The tokenizer 'ptb' needs Java, but 'python' does not. 'auto' uses
    'ptb' if possible, else 'python'."""
    results: str = ""
    """File of captions in COCO's results format, to score instead of a run."""
    references: str = ""
    """With --results: file of human captions for comparison, in COCO's captions format."""
    captioned_only: bool = False
    """With --results: ignore human captions of images that have no caption in the results."""
    correctness: bool = False
    """Instead of scores, measure the run's attention correctness."""
    faithfulness: bool = False
    """Instead of scores, measure how much each word's probability depends on the region with the
    most attention."""
    output: str = ""
    """With --results: file for the scores. With a run: folder for all results, by default the run's
    folder."""


def main(arguments):
    """Score the run or the file of captions that the arguments name."""
    settings = parse(Arguments, "evaluate.py", arguments)
    called = program("evaluate.py")
    if bool(settings.run) == bool(settings.results):
        raise UserError(
            f"{called}: expected the folder of a run, or --results with --references; "
            f"received {'both' if settings.run else 'neither'}."
        )
    if settings.pictures < 0:
        raise UserError(f"pictures: expected at least 0, received {settings.pictures}.")
    outputs = [name for name in OUTPUTS if getattr(settings, name)]
    if outputs and settings.results:
        raise UserError(f"{called}: --{outputs[0]} needs the folder of a run, received --results.")
    if len(outputs) > 1:
        raise UserError(f"{called}: expected --{outputs[0]} or --{outputs[1]}, received both.")
    if settings.beside and not settings.report:
        raise UserError(
            f"with: expected --report beside --with {settings.beside}, received none; add --report."
        )
    if settings.results:
        evaluate_files(settings)
    else:
        evaluate_run(settings)


def evaluate_files(settings):
    """Score a file of captions and print the scores."""
    from keras_aoa.evaluation.results import format_scores, score_files

    if not settings.references:
        raise UserError(
            f"{program('evaluate.py')}: --results needs --references, a file of COCO captions."
        )
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
    """Caption a split with a run, and write scores, a report or attention correctness."""
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
    if settings.faithfulness:
        from keras_aoa.evaluation.faithfulness import evaluate_faithfulness

        if several:
            raise UserError(f"{several[0]}: expected one number, received several.")
        evaluate_faithfulness(opened, evaluation_settings)
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
        with process.until_all_finish():
            evaluate(opened, evaluation_settings, process=process)
        return
    from keras_aoa.evaluation.region_counts import compare_region_counts

    compare_region_counts(opened, evaluation_settings, several[0], counts[several[0]])


if __name__ == "__main__":
    start("evaluate")
