"""Splits images by their ids, so that the splits are the same everywhere."""

import hashlib
import logging
from collections.abc import Iterable

from keras_aoa.data.examples import CaptionData, Example
from keras_aoa.utils.errors import UserError

logger = logging.getLogger(__name__)

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def draw(image_id: int | str, seed: int) -> float:
    """Return a number in 0..1 that depends only on the image's id and the seed."""
    digest = hashlib.sha256(f"{seed}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def split_by_name(
    examples: Iterable[Example], source: object, seed: int = 0
) -> dict[str, tuple[Example, ...]]:
    """Split examples into about 80 % train, 10 % val and 10 % test, each with at least one image.

    An image's split depends only on its id and the seed, so added images do not change the splits
    of other images. If a split would be empty, it receives the image whose `draw` is nearest to the
    split's range.

    Raises:
        UserError: There are fewer than three images.
    """
    examples = tuple(examples)
    if len(examples) < 3:
        raise UserError(
            f"{source}: expected at least 3 images for train, val and test, "
            f"received {len(examples)}; add images or assign each image to a split."
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
    logger.info("%s has no splits; split by name with seed %d: %s.", source, seed, sizes)
    return splits


def paper_splits(
    splits: dict[str, tuple[Example, ...]], count: int = 5000, seed: int = 0
) -> dict[str, tuple[Example, ...]]:
    """Divide COCO's val2014 into `count` val and `count` test images; train is unchanged.

    The paper (section 4.1) uses 5,000 images in each split but does not list the images. This
    function chooses the images by their ids and the seed. If val has fewer than `2 * count` images,
    the splits are unchanged.
    """
    images = splits.get("val", ())
    if len(images) < 2 * count:
        return splits
    ranked = sorted(images, key=lambda example: draw(example.image_id, seed))
    ranks = {example.image_id: rank for rank, example in enumerate(ranked)}
    ends = {"val": (0, count), "test": (count, 2 * count)}
    return splits | {
        split: tuple(each for each in images if start <= ranks[each.image_id] < end)
        for split, (start, end) in ends.items()
    }


def hold_out(data: CaptionData, count: int, seed: int = 0) -> CaptionData:
    """Move `count` images from train to a new split `select`.

    Checkpoints are selected on the split `select`, so that val and test stay unseen. The choice of
    images depends only on their ids and the seed. The order of the images does not change.

    Raises:
        UserError: There is no split `train`, the split `select` already exists, or `count` is not
            between 1 and the number of train images minus 1.
    """
    train = data.splits.get("train", ())
    if not train:
        raise UserError(
            f"select_images: expected a split 'train' to hold out {count} images, found "
            f"{', '.join(data.splits) or 'none'} in {data.name}; add training images."
        )
    if "select" in data.splits or not 0 < count < len(train):
        raise UserError(
            f"hold_out: expected a count between 1 and {len(train) - 1} and no split 'select', "
            f"received {count} for {data.name} with the splits {', '.join(data.splits)}."
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
