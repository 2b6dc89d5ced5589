"""Splits decided by the images' names: the same on every machine, in any order of files."""

import hashlib
import logging
from collections.abc import Iterable

from keras_aoa.data.examples import CaptionData, Example
from keras_aoa.utils.errors import UserError

logger = logging.getLogger(__name__)

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def draw(image_id: int | str, seed: int) -> float:
    """A number in 0..1 that depends on the image's id and the seed alone."""
    digest = hashlib.sha256(f"{seed}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def split_by_name(
    examples: Iterable[Example], source: object, seed: int = 0
) -> dict[str, tuple[Example, ...]]:
    """About 80 % train, 10 % val and 10 % test, at least one image in each.

    Each image's split follows from its own id, so more images never move one. Only while a split
    would be empty does the image whose draw is nearest to it take the place.

    Raises:
        UserError: fewer than three images.
    """
    examples = tuple(examples)
    if len(examples) < 3:
        raise UserError(
            f"{source}: expected at least 3 images to make train, val and test, "
            f"received {len(examples)}; add images or state each one's split."
        )
    draws = {example.image_id: draw(example.image_id, seed) for example in examples}
    val_from, test_from = SHARES["train"], SHARES["train"] + SHARES["val"]
    split_of = {
        key: "train" if value < val_from else "val" if value < test_from else "test"
        for key, value in draws.items()
    }
    for wanted in ("test", "val", "train"):
        if wanted not in split_of.values():
            counts = list(split_of.values())
            spare = [key for key in draws if counts.count(split_of[key]) > 1]
            edge = {"train": 0.0, "val": val_from, "test": 1.0}[wanted]
            split_of[min(spare, key=lambda key: abs(draws[key] - edge))] = wanted
    splits = {
        split: tuple(example for example in examples if split_of[example.image_id] == split)
        for split in SHARES
    }
    sizes = ", ".join(f"{len(part)} {split}" for split, part in splits.items())
    logger.info("%s states no splits; by names and seed %d: %s.", source, seed, sizes)
    return splits


def paper_splits(
    splits: dict[str, tuple[Example, ...]], count: int = 5000, seed: int = 0
) -> dict[str, tuple[Example, ...]]:
    """COCO's train2014 and, of its val2014, `count` images each as val and test.

    The paper (section 4.1) has 5,000 and 5,000 development images; which they were is lost, so
    that they are drawn here by id and seed. Nothing changes where val has not so many images.
    """
    images = splits.get("val", ())
    if len(images) < 2 * count:
        return splits
    ranked = sorted(images, key=lambda example: draw(example.image_id, seed))
    place = {example.image_id: rank for rank, example in enumerate(ranked)}
    ends = {"val": (0, count), "test": (count, 2 * count)}
    return splits | {
        split: tuple(each for each in images if start <= place[each.image_id] < end)
        for split, (start, end) in ends.items()
    }


def hold_out(data: CaptionData, count: int, seed: int = 0) -> CaptionData:
    """`data` with `count` images moved from train to a new split `select`.

    Checkpoints are chosen on them, so that val and test stay unseen. Which images they are depends
    on their ids and the seed alone; both splits keep the order of train.

    Raises:
        UserError: no train split, a split `select` already, or not 0 < `count` < images in train.
    """
    train = data.splits.get("train", ())
    if "select" in data.splits or not 0 < count < len(train):
        raise UserError(
            f"hold_out: expected a count between 1 and {len(train) - 1} and no split 'select', "
            f"received {count} of {data.name} with splits {', '.join(data.splits) or 'none'}."
        )
    ranked = sorted(train, key=lambda example: draw(example.image_id, seed))
    chosen = {example.image_id for example in ranked[:count]}
    return CaptionData(
        data.name,
        {
            **data.splits,
            "train": tuple(example for example in train if example.image_id not in chosen),
            "select": tuple(example for example in train if example.image_id in chosen),
        },
    )
