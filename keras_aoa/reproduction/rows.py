"""Rows of the paper's tables: titles, settings of the runs, and the paper's CIDEr."""

from dataclasses import dataclass

STAGES = ("Frozen CNN", "Fine-tuned CNN")
ENSEMBLE = "ensemble"  # a row that combines the runs of another row


@dataclass(frozen=True)
class Row:
    """A row of a table.

    `paper` is the paper's CIDEr on COCO, first with a frozen CNN, then with a fine-tuned CNN. If
    `continues_grid` is true, each run starts from the grid run with the same seed and the same
    stage, and has only the stages in `settings`.
    """

    title: str
    settings: dict
    paper: tuple[float | None, float | None] = (None, None)
    continues_grid: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    `rows` contains each `Row` by its name. `stages` is the number of training stages. `members` is
    the name of the row that the ensemble combines. If `costs` is true, the table also contains what
    the runs cost.

    Rows with the same name in several tables share their runs, because the row's name is a part of
    the run's name.
    """

    rows: dict
    stages: int = 2
    members: str = ""
    costs: bool = False


def variant(name):
    """Return the settings of a row of table 1, which is a variant of the model."""
    return {"variant": name, "regions": "grid"}


BASELINE = Row("baseline", variant("baseline"), (78.9, 87.1))
GRID = Row("activation grid", {"regions": "grid"}, (87.4, 92.6))
PROPOSALS = Row("object proposals", {"regions": "proposals"}, (89.0, 93.7))
TRANSFORMER = Row("spatial transformers", {"regions": "transformer"}, (91.1, 93.8))
SOFT = Row("soft attention of Xu et al. 2015", variant("soft"))
BASELINE_SETTINGS = variant("baseline")
# Each system as far as it is known from its paper; see `docs/systems.md`.
OTHER_SYSTEMS = {
    "vinyals": Row(
        "Vinyals et al. 2015, image vector first", BASELINE_SETTINGS | {"image_first": True}
    ),
    "donahue": Row(
        "Donahue et al. 2015, image vector at every step",
        BASELINE_SETTINGS | {"image_each_step": True},
        (89.6, None),
    ),
    "soft": SOFT,
    "soft_gated": Row(
        "soft attention with gate and doubly stochastic term",
        variant("soft") | {"attention_gate": True, "attention_coverage": 1.0},
    ),
    "hard": Row("hard attention of Xu et al. 2015", variant("hard") | {"attention_gate": True}),
    "jin": Row(
        "Jin et al. 2015, selective search and scene vector",
        {
            "variant": "soft",
            "regions": "proposals",
            "proposal_method": "selective_search",
            "edge_model": "",
            "concepts": "topics",
            "concept_count": 80,
        },
        (83.8, None),
    ),
    "wu": Row(
        "Wu et al. 2016, attributes first",
        BASELINE_SETTINGS | {"concepts": "attributes", "image_first": True},
        (94.0, None),
    ),
    "you": Row(
        "You et al. 2016, attention to attributes",
        variant("semantic") | {"concepts": "attributes", "image_first": True},
    ),
    "yang": Row(
        "Yang et al. 2016, review steps",
        variant("review") | {"review_words": 10.0},
        (88.6, None),
    ),
}
SUPERVISED = Row(
    "activation grid, attention supervised by boxes (Liu et al. 2017)",
    {"regions": "grid", "attention_supervision": 0.5},
)
SUPERVISED_SOFT = Row(
    "soft attention of Xu et al. 2015, supervised by boxes (Liu et al. 2017)",
    variant("soft") | {"attention_supervision": 0.5},
)

TABLES = {
    "table1": Table(
        {
            "baseline": BASELINE,
            "word_region": Row("words and regions", variant("word_region"), (83.6, None)),
            "word_region_state": Row(
                "words, regions and states", variant("word_region_state"), (85.5, None)
            ),
            "conditional": Row("conditional feedback", variant("conditional"), (86.8, None)),
            "grid": Row("full model", {"regions": "grid"}, (87.4, None)),
        },
        stages=1,
    ),
    "table2": Table(
        {
            "baseline": BASELINE,
            "mean": Row("equal weights", {"regions": "mean"}),
            "grid": GRID,
            "proposals": PROPOSALS,
            "transformer": TRANSFORMER,
        }
    ),
    "table4": Table(
        {
            **OTHER_SYSTEMS,
            "soft_supervised": SUPERVISED_SOFT,
            "grid": GRID,
            "supervised": SUPERVISED,
            "transformer": TRANSFORMER,
            "sampled": Row(
                "spatial transformers, scheduled sampling",
                {"regions": "transformer", "scheduled_sampling": 0.25},
            ),
            "rewarded": Row(
                "activation grid, then self-critical training (stage 3)",
                {"reward_epochs": 3, "reward_learning_rate": 1e-4, "decay": "cosine"},
                continues_grid=True,
            ),
            ENSEMBLE: Row("spatial transformers, ensemble of 3", {}, (None, 98.1)),
        },
        members="transformer",
        costs=True,
    ),
}
