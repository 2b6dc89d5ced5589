"""Files of captions, references and scores, in COCO's formats."""

import json
import pathlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from keras_aoa.data.readers.files import entries, read_json
from keras_aoa.evaluation.metrics import Id, Scores, check_ids, score
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import write_text
from keras_aoa.utils.text import clip, first_three

FIELDS: dict[str, Any] = {"image_id": (int, str), "caption": str}


def read_results(path: str | pathlib.Path) -> dict[Id, str]:
    """Captions by image id from COCO's results format, `[{"image_id", "caption"}, ...]`.

    Raises:
        UserError: no such file, another shape, an image id twice.
    """
    path = pathlib.Path(path)
    document = read_json(path)
    if not isinstance(document, list):
        raise UserError(
            f"{path}: expected COCO's results, a list of objects with image_id and caption, "
            f"received {clip(document)}."
        )
    found = entries({"entry": document}, "entry", FIELDS, path)
    twice = [image for image, n in Counter(e["image_id"] for e in found).items() if n > 1]
    if twice:
        raise UserError(
            f"{path}: expected one caption an image, received {len(twice)} image ids more than "
            f"once: {first_three(twice)}; keep one of each."
        )
    return {entry["image_id"]: entry["caption"] for entry in found}


def read_references(path: str | pathlib.Path) -> dict[Id, list[str]]:
    """Each image's captions from COCO's format, `{"annotations": [{"image_id", "caption"}, ...]}`.

    Raises:
        UserError: no such file, another shape, no caption in it.
    """
    path = pathlib.Path(path)
    references: dict[Id, list[str]] = {}
    for entry in entries(read_json(path), "annotations", FIELDS, path):
        references.setdefault(entry["image_id"], []).append(entry["caption"])
    if not references:
        raise UserError(f"{path}: expected captions in 'annotations', received none.")
    return references


def write_results(path: str | pathlib.Path, captions: Mapping[Id, str]) -> None:
    """Write captions by image id in COCO's results format, one a line."""
    lines = [json.dumps({"image_id": image, "caption": captions[image]}) for image in captions]
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def score_content(scores: Scores) -> dict[str, Any]:
    """What a file of scores holds: metrics on coco-caption's scale, tokenizer, what is missing."""
    content = {**scores.metrics, "tokenizer": scores.tokenizer, "images": scores.images}
    if scores.missing:
        content["missing"] = scores.missing
    if scores.notes:
        content["notes"] = scores.notes
    return content


def write_scores(path: str | pathlib.Path, scores: Scores) -> None:
    """Write `score_content` as json."""
    write_text(path, json.dumps(score_content(scores), indent=2) + "\n")


def format_scores(scores: Scores) -> str:
    """The metrics for people: one a line, x 100."""
    return "\n".join(f"{name} {100 * value:.1f}" for name, value in scores.metrics.items())


def score_files(
    results: str | pathlib.Path,
    references: str | pathlib.Path,
    output: str | pathlib.Path | None = None,
    tokenizer: str = "auto",
    captioned_only: bool = False,
) -> Scores:
    """Score anyone's captions: `score` of two files, written to `output` if given.

    With `captioned_only` references of images without a caption are left out, as COCO's own code
    does for a part of a split.

    Raises:
        UserError: as `read_results`, `read_references` and `score`.
    """
    captions, truths = read_results(results), read_references(references)
    if captioned_only:
        truths = {image: texts for image, texts in truths.items() if image in captions}
    check_ids(truths, captions, pathlib.Path(references).name, pathlib.Path(results).name)
    scores = score(truths, captions, tokenizer)
    if output is not None:
        write_scores(output, scores)
    return scores
