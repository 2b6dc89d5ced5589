"""Reproduces tables 1 (model variants), 2 (areas) and 4 (ensembles and others) of the paper."""

import json
import pathlib
from dataclasses import asdict, dataclass, replace

import numpy as np

from keras_aoa.reproduction.costs import COSTS, costs_of
from keras_aoa.reproduction.rows import ENSEMBLE, GRID, STAGES, TABLES
from keras_aoa.reproduction.runs import (
    Runs,
    call,
    is_trained,
    measures_of,
    scores_of,
    settings_file,
)
from keras_aoa.settings.configuration import Configuration
from keras_aoa.settings.groups import UNIFORM_VARIANTS
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import write_text

MEASURES = (("Bleu_4",), ("METEOR",), ("CIDEr",), ("grounding", "attention_on_object"))
MEMBERS = 3
NOT_RUN = "not run"


@dataclass(frozen=True)
class TableSettings:
    """Selects the runs of a table.

    If `rows` is empty, all rows are selected. `seeds` is the number of runs for each row, with the
    seeds 0, 1, …. `tuning_epochs` is the number of fine-tuning epochs. 0 disables fine-tuning.
    `tuning_rate` is the decoder's learning rate during fine-tuning. 0 keeps the learning rate of
    the base configuration. `jobs` is the number of parallel trainings. If `warm_start` is true,
    runs with transformers start from the grid run with the same seed, as in the paper (section
    3.3). If `finished_only` is true, nothing is trained, and rows without finished runs are marked.
    """

    rows: tuple[str, ...] = ()
    seeds: int = 3
    tuning_epochs: int = 2
    tuning_rate: float = 0.0
    jobs: int = 1
    warm_start: bool = False
    finished_only: bool = False


def make_table(name: str, base: Configuration, settings: TableSettings) -> str:
    """Train the missing runs and write `NAME.md` and `NAME.json` to the base's output folder.

    Args:
        name: A key of `TABLES`.
        base: Base `Configuration` of all runs. The name of each run begins with the base's name.
        settings: `TableSettings`.

    Returns:
        The table in Markdown.

    Raises:
        UserError: `rnn_epochs` of the base is 0, the members of the ensemble would have different
            vocabularies, or a training failed.
    """
    check_table(name, base, settings)
    table = TABLES[name]
    rows = settings.rows or tuple(table.rows)
    stages = min(table.stages, 2 if settings.tuning_epochs else 1)
    if stages == 1:
        settings = replace(settings, tuning_epochs=0)
    own_rows = {row: table.rows[row] for row in rows if row != ENSEMBLE}
    chains = chains_of(base, own_rows, settings)
    members = []
    if ENSEMBLE in rows:
        row = table.members
        for seed in range(MEMBERS):
            chains.setdefault((row, seed), chain(base, table.rows[row], row, seed, settings))
            members.append(chains[row, seed])
    scores = trained(base, chains, settings)
    results = []
    for stage in range(stages):
        for row in rows:
            if row == ENSEMBLE:
                own = [runs[-stages:][stage] for runs in members]
                complete = not different_images(base) and all(run.name in scores for run in own)
                row_scores = [ensemble_scores(own)] if complete else []
            else:
                own = [chains[row, seed][-stages:][stage] for seed in range(settings.seeds)]
                own = [run for run in own if run.name in scores]
                row_scores = [scores[run.name] for run in own]
            measures = [
                {"/".join(path): measured(each, path) for path in MEASURES} for each in row_scores
            ]
            if table.costs and row != ENSEMBLE:
                measures = [each | costs_of(run) for each, run in zip(measures, own, strict=True)]
            wanted = 1 if row == ENSEMBLE else settings.seeds
            results.append({"row": row, "stage": stage, "wanted": wanted, "scores": measures})
    text = markdown(table, results)
    output = pathlib.Path(base.output)
    output.mkdir(parents=True, exist_ok=True)
    content = {"settings": asdict(settings), "base": asdict(base), "results": results}
    write_text(output / f"{name}.json", json.dumps(content, indent=2) + "\n")
    write_text(output / f"{name}.md", text)
    return text


def check_table(name, base, settings):
    """Raise the `UserError` of `make_table` for settings with which it cannot train its runs."""
    if not base.rnn_epochs:
        raise UserError(
            f"rnn_epochs: expected at least 1, because the table's first half trains with a frozen "
            f"CNN, received 0 in {base.name}; set rnn_epochs to 1 or more."
        )
    rows = settings.rows or TABLES[name].rows
    if ENSEMBLE in rows and different_images(base) and not settings.finished_only:
        raise UserError(
            "rows: the members of the ensemble need the same vocabulary, but with select_images "
            f"{base.select_images} each seed holds out other images; add --select-seed 0, or "
            "leave the ensemble out of --rows."
        )


def different_images(base):
    """Return whether runs with different seeds hold out different images."""
    return bool(base.select_images) and base.select_seed < 0


def ensemble_scores(configurations):
    """Return the scores of an ensemble.

    If the scores are missing or outdated, the ensemble is evaluated first.
    """
    from keras_aoa.runs.ensemble import open_run

    folders = ",".join(str(configuration.folder) for configuration in configurations)
    file = open_run(folders).results_folder / "scores.json"
    return measures_of(file, configurations, [folders])


def chains_of(base, rows, settings):
    """Return the chain of runs for each row and seed, `{(row, seed): chain}`."""
    return {
        (name, seed): chain(base, row, name, seed, settings)
        for name, row in rows.items()
        for seed in range(settings.seeds)
    }


def trained(base, chains, settings):
    """Return the scores of finished runs by name.

    Missing runs are trained first, unless `finished_only` in `settings` is true.
    """
    if settings.finished_only:
        runs = {run.name: run for runs in chains.values() for run in runs if is_trained(run)}
        scores = {name: scores_of(run) for name, run in runs.items()}
        return {name: own for name, own in scores.items() if own}
    prepare(base, chains)
    return Runs(list(chains.values()), settings.jobs).scores()


def prepare(base, chains):
    """Create the files that several trainings would otherwise create at the same time."""
    from keras_aoa.models.backbones import PRETRAINED_SCENES

    every = [configuration for runs in chains.values() for configuration in runs]
    if all(is_trained(configuration) for configuration in every):
        return
    base = replace(base, name=f"{base.name}-preparation")
    file = str(settings_file(base))
    if base.backbone == PRETRAINED_SCENES:
        call("pretrain", ["--config", file], base)
    methods = {(run.proposal_method, run.edge_model) for run in every if run.regions == "proposals"}
    for method, model in sorted(methods):
        arguments = ["--config", file, "--proposal-method", method, "--edge-model", model]
        call("propose", arguments, base)


def chain(base, row, name, seed, settings):
    """Return a row's configurations for a seed, in the order of training.

    A run with a frozen CNN is followed by a fine-tuned run, unless `tuning_epochs` is 0. If the run
    with a frozen CNN starts from the grid run, the list begins with the grid run. If the row
    continues the grid's runs, the list begins with the grid's runs.
    """
    if row.continues_grid:
        before = chain(base, GRID, "grid", seed, settings)
        own = [
            replace(
                run,
                name=run.name.replace(f"{base.name}-grid", f"{base.name}-{name}"),
                start_from=str(run.folder),
                rnn_epochs=0,
                joint_epochs=0,
                warmup_steps=0,
                feature_cache=base.feature_cache,
                cached_views=base.cached_views,
                **row.settings,
            )
            for run in before
        ]
        return [*before, *own]
    name = f"{base.name}-{name}-{seed}"
    frozen = replace(base, name=name, seed=seed, joint_epochs=0, **row.settings)
    before = []
    if settings.warm_start and frozen.regions == "transformer":
        before = chain(base, GRID, "grid", seed, replace(settings, tuning_epochs=0))
        frozen = replace(frozen, start_from=str(before[-1].folder))
    if not settings.tuning_epochs:
        return [*before, frozen]
    tuned = replace(
        frozen,
        name=f"{name}-tuned",
        start_from=str(frozen.folder),
        rnn_epochs=0,
        joint_epochs=settings.tuning_epochs,
        learning_rate=settings.tuning_rate or base.learning_rate,
        feature_cache="none",
        cached_views=1,
    )
    return [*before, frozen, tuned]


def measured(scores, path):
    """Return the measure at `path` in `scores`, times 100, or None for a missing measure."""
    for name in path:
        scores = (scores or {}).get(name)
    return None if scores is None else 100 * scores


def markdown(table, results):
    """Return the table in Markdown. The table contains means over seeds.

    If there are several seeds, the table also contains standard deviations.
    """
    costs = COSTS if table.costs else {}
    headings = ["BLEU-4", "METEOR", "CIDEr", "attention on the object", "the paper's CIDEr, COCO"]
    lines = [f"| | {' | '.join([*headings, *costs.values()])} |"]
    lines.append("|---" * (1 + len(headings) + len(costs)) + "|")
    for stage, title in enumerate(STAGES):
        rows = [result for result in results if result["stage"] == stage]
        if rows and table.stages > 1:
            lines.append(f"| **{title}** |" + " |" * (len(headings) + len(costs)))
        for result in rows:
            row = table.rows[result["row"]]
            cells = [
                spread([each["/".join(path)] for each in result["scores"]]) for path in MEASURES
            ]
            if not result["scores"]:
                cells = [NOT_RUN, *([""] * (len(MEASURES) - 1))]
            if row.settings.get("variant") in UNIFORM_VARIANTS:
                cells[-1] = ""
            name, count = row.title, len(result["scores"])
            if 0 < count < result["wanted"]:
                name += f" ({count} of {result['wanted']} seeds)"
            cells.append(str(row.paper[stage] or ""))
            for cost in costs:
                values = [each.get(cost) for each in result["scores"]]
                known = bool(values) and None not in values
                cells.append(f"{np.mean(values):.3g}" if known else "")
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values):
    """Format the mean and the standard deviation of values.

    The text is empty if a value is missing or if there are no values.
    """
    if not values or any(value is None for value in values):
        return ""
    mean = f"{np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.1f}"
