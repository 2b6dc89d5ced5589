"""The paper's table 2: the baseline and the areas of attention, before and after fine-tuning."""

import json
import pathlib
from dataclasses import asdict, dataclass, replace

import numpy as np

from keras_aoa.errors import UserError
from keras_aoa.files import write_text
from keras_aoa.reproduction.runs import Runs, call, is_trained, settings_file
from keras_aoa.training.configuration import Configuration


@dataclass(frozen=True)
class Row:
    """A row of the table: its name, settings, and the paper's CIDEr on COCO, frozen and tuned."""

    title: str
    settings: dict
    paper: tuple[float | None, float | None]


ROWS = {
    "baseline": Row("baseline", {"variant": "baseline", "regions": "grid"}, (78.9, 87.1)),
    "mean": Row("equal weights", {"regions": "mean"}, (None, None)),
    "grid": Row("activation grid", {"regions": "grid"}, (87.4, 92.6)),
    "proposals": Row("object proposals", {"regions": "proposals"}, (89.0, 93.7)),
    "transformer": Row("spatial transformers", {"regions": "transformer"}, (91.1, 93.8)),
}
STAGES = ("CNN as it is", "CNN tuned")
MEASURES = (("Bleu_4",), ("METEOR",), ("CIDEr",), ("grounding", "attention"))


@dataclass(frozen=True)
class Table2Settings:
    """Which runs: rows of `ROWS`, seeds 0, 1 …, epochs of fine-tuning (0 for none), at a time.

    `tuning_rate` is the decoder's while the CNN is tuned; 0 keeps the base's.
    """

    rows: tuple[str, ...] = tuple(ROWS)
    seeds: int = 3
    tuning_epochs: int = 2
    tuning_rate: float = 0.0
    jobs: int = 1


def table2(base: Configuration, settings: Table2Settings) -> str:
    """Train what is missing and write `table2.md` and `table2.json` to the base's output.

    Args:
        base: What all runs share; its name begins theirs.
        settings: `Table2Settings`.

    Returns:
        The table, Markdown.

    Raises:
        UserError: a base without epochs for the first half; a training that failed.
    """
    if not base.rnn_epochs:
        raise UserError(
            f"rnn_epochs: the table's first half leaves the CNN as it is; {base.name} has no epoch "
            "of that, set it to 1 or more."
        )
    chains = {
        (row, seed): chain(base, row, seed, settings)
        for row in settings.rows
        for seed in range(settings.seeds)
    }
    total = sum(map(len, chains.values()))
    prepare(base, settings)
    scores = Runs(total, settings.jobs).scores(list(chains.values()))
    results = [
        {
            "row": row,
            "stage": stage,
            "scores": [
                {"/".join(path): measured(scores[runs[stage].name], path) for path in MEASURES}
                for runs in (chains[row, seed] for seed in range(settings.seeds))
            ],
        }
        for stage in range(2 if settings.tuning_epochs else 1)
        for row in settings.rows
    ]
    text = markdown(results)
    output = pathlib.Path(base.output)
    content = {"settings": asdict(settings), "base": asdict(base), "results": results}
    write_text(output / "table2.json", json.dumps(content, indent=2) + "\n")
    write_text(output / "table2.md", text)
    return text


def prepare(base, settings):
    """Make once what several trainings would make at the same time."""
    from keras_aoa.models.backbones import PRETRAINED_SCENES

    first = [chain(base, row, 0, settings)[0] for row in settings.rows]
    if all(is_trained(configuration) for configuration in first):
        return
    base = replace(base, name=f"{base.name}-preparation")
    file = str(settings_file(base))
    if base.backbone == PRETRAINED_SCENES:
        call("pretrain", ["--config", file], base)
    if "proposals" in settings.rows:
        call("propose", ["--config", file], base)


def chain(base, row, seed, settings):
    """The configurations of a row and seed: the CNN as it is, then tuned from there."""
    name = f"{base.name}-{row}-{seed}"
    frozen = replace(base, name=name, seed=seed, joint_epochs=0, **ROWS[row].settings)
    if not settings.tuning_epochs:
        return [frozen]
    tuned = replace(
        frozen,
        name=f"{name}-tuned",
        start_from=str(frozen.folder),
        rnn_epochs=0,
        joint_epochs=settings.tuning_epochs,
        learning_rate=settings.tuning_rate or base.learning_rate,
        feature_cache="none",
    )
    return [frozen, tuned]


def measured(scores, path):
    """A measure of `scores.json`, x 100; None where it was not measured."""
    for name in path:
        scores = (scores or {}).get(name)
    return None if scores is None else 100 * scores


def markdown(results):
    """The table: means over seeds, with the standard deviation where there are several."""
    lines = [
        "| | BLEU-4 | METEOR | CIDEr | attention in the object's box | the paper's CIDEr, COCO |",
        "|---|---|---|---|---|---|",
    ]
    for stage, title in enumerate(STAGES):
        rows = [result for result in results if result["stage"] == stage]
        if rows:
            lines.append(f"| **{title}** | | | | | |")
        for result in rows:
            row = ROWS[result["row"]]
            cells = [
                spread([each["/".join(path)] for each in result["scores"]]) for path in MEASURES
            ]
            if result["row"] == "baseline":
                cells[-1] = ""
            paper = row.paper[stage]
            lines.append(f"| {row.title} | {' | '.join(cells)} | {paper or ''} |")
    return "\n".join(lines) + "\n"


def spread(values):
    """Mean and standard deviation as text."""
    if any(value is None for value in values):
        return ""
    mean = f"{np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.1f}"
