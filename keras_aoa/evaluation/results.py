"""Reads and writes captions, references and scores in COCO's file formats."""

import json
import pathlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from keras_aoa.data.readers.files import entries, read_json
from keras_aoa.evaluation.metrics import Id, Scores, check_ids, score
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_output, write_text
from keras_aoa.utils.text import clip, first_three

# Keys in files of version 0.1, and their current names. A nested dictionary
# contains the keys inside the entry of its key.
OLD_KEYS = {
    "CIDEr_one_reference_fewer": "CIDEr_leave_one_out",
    "CIDEr_of_a_reference": "human_CIDEr_leave_one_out",
    "centre_prior": "center_prior",
    "localisation": "localization",
    "grounding": {
        "objects": "phrases_correct",
        "nouns": "nouns_correct",
        "attention": "attention_on_object",
        "uniform": "uniform_attention_on_object",
    },
    "search": {"regions": "proposals"},
    "rows": {"regions": "proposals"},
}

FIELDS: dict[str, Any] = {"image_id": (int, str), "caption": str}


def read_results(path: str | pathlib.Path) -> dict[Id, str]:
    """Read captions by image id from COCO's results format, `[{"image_id", "caption"}, ...]`.

    Raises:
        UserError: the file does not exist, has another format, or contains an image id twice.
    """
    path = pathlib.Path(path)
    document = read_json(path)
    if not isinstance(document, list):
        raise UserError(
            f"{path}: expected COCO's results, a list of objects with image_id and caption, "
            f"received {clip(document)}."
        )
    results = entries({"entry": document}, "entry", FIELDS, path)
    twice = [image for image, n in Counter(e["image_id"] for e in results).items() if n > 1]
    if twice:
        raise UserError(
            f"{path}: expected one caption per image, received {len(twice)} image ids more than "
            f"once: {first_three(twice)}; keep one caption of each image."
        )
    return {entry["image_id"]: entry["caption"] for entry in results}


def read_references(path: str | pathlib.Path) -> dict[Id, list[str]]:
    """Read all captions of each image from `{"annotations": [{"image_id", "caption"}, ...]}`.

    Raises:
        UserError: the file does not exist, has another format, or contains no caption.
    """
    path = pathlib.Path(path)
    references: dict[Id, list[str]] = {}
    for entry in entries(read_json(path), "annotations", FIELDS, path):
        references.setdefault(entry["image_id"], []).append(entry["caption"])
    if not references:
        raise UserError(f"{path}: expected captions in 'annotations', received none.")
    return references


def with_current_keys(content: Any, keys: Mapping[str, Any] = OLD_KEYS) -> Any:
    """Return the content of a scores file, with current keys instead of old keys."""
    if isinstance(content, list):
        return [with_current_keys(part, keys) for part in content]
    if not isinstance(content, dict):
        return content
    renamed = {}
    for key, value in content.items():
        new = keys.get(key, key)
        inner = {**keys, **new} if isinstance(new, dict) else keys
        renamed[key if isinstance(new, dict) else new] = with_current_keys(value, inner)
    return renamed


def write_results(path: str | pathlib.Path, captions: Mapping[Id, str]) -> None:
    """Write captions by image id in COCO's results format, with one caption on each line."""
    lines = [json.dumps({"image_id": image, "caption": captions[image]}) for image in captions]
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def score_content(scores: Scores) -> dict[str, Any]:
    """Return the content of a scores file, with metrics on coco-caption's scale (0.38, not 38)."""
    content = {**scores.metrics, "tokenizer": scores.tokenizer, "images": scores.images}
    if scores.missing:
        content["missing"] = scores.missing
    if scores.notes:
        content["notes"] = scores.notes
    return content


def write_scores(path: str | pathlib.Path, scores: Scores) -> None:
    """Write the output of `score_content` as json."""
    write_text(path, json.dumps(score_content(scores), indent=2) + "\n")


def format_scores(scores: Scores) -> str:
    """Format the metrics for printing: one per line, times 100."""
    return "\n".join(f"{name} {100 * value:.1f}" for name, value in scores.metrics.items())


def score_files(
    results: str | pathlib.Path,
    references: str | pathlib.Path,
    output: str | pathlib.Path | None = None,
    tokenizer: str = "auto",
    captioned_only: bool = False,
) -> Scores:
    """Score a file of captions against a file of references, and write the scores to `output`.

    If `captioned_only` is true, images with references but without a caption are ignored, as in
    COCO's evaluation code.

    Raises:
        UserError: `read_results`, `read_references`, `check_output` or `score` fails.
    """
    if output is not None:
        check_output(output)
    captions, truths = read_results(results), read_references(references)
    if captioned_only:
        truths = {image: texts for image, texts in truths.items() if image in captions}
    check_ids(truths, captions, pathlib.Path(references).name, pathlib.Path(results).name)
    scores = score(truths, captions, tokenizer)
    if output is not None:
        pathlib.Path(output).parent.mkdir(parents=True, exist_ok=True)
        write_scores(output, scores)
    return scores
