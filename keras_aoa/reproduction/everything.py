"""All reproducible tables and figures of the paper, by name."""

from keras_aoa.reproduction.correctness_table import table3
from keras_aoa.reproduction.figures import figure4, figure5
from keras_aoa.reproduction.rows import TABLES
from keras_aoa.reproduction.tables import make_table

PARTS = ("table1", "table2", "table3", "table4", "figure4", "figure5")


def reproduce(part, base, settings):
    """Train the missing runs, then write a table or figure of the paper.

    Args:
        part: One of `PARTS`.
        base: Base `Configuration` of all runs.
        settings: `TableSettings`.

    Returns:
        The table in Markdown, or the path of the report for `figure5`.

    Raises:
        UserError: a setting is invalid, or a training fails.
    """
    if part in TABLES:
        return make_table(part, base, settings)
    return {"table3": table3, "figure4": figure4, "figure5": figure5}[part](base, settings)
