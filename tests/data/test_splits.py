"""Tests of splits by name, the paper's splits of COCO, and held-out images."""

import dataclasses
import random

import pytest

from keras_aoa.data.build import read_data
from keras_aoa.data.examples import CaptionData, Example
from keras_aoa.data.readers import hold_out, split_by_name
from keras_aoa.data.readers.splits import paper_splits
from keras_aoa.utils.errors import UserError


def images(count: int) -> list[Example]:
    return [Example(f"{index}.jpg", f"{index}.jpg", ("a",)) for index in range(count)]


def test_split_by_name_has_the_documented_shares():
    sizes = {split: len(part) for split, part in split_by_name(images(5000), "x").items()}
    assert sum(sizes.values()) == 5000
    assert abs(sizes["train"] - 4000) < 120 and abs(sizes["val"] - 500) < 90


def test_adding_images_in_any_order_does_not_change_the_splits_of_others():
    def split_of(examples):
        splits = split_by_name(examples, "x")
        return {e.image_id: split for split, part in splits.items() for e in part}

    few, many = images(100), images(300)
    random.Random(0).shuffle(many)
    assert split_of(few).items() <= split_of(many).items()


@pytest.mark.parametrize("count", range(3, 12))
def test_small_data_sets_have_an_image_in_each_split(count):
    for seed in range(20):
        splits = split_by_name(images(count), "x", seed)
        assert all(splits[split] for split in ("train", "val", "test"))
        assert sum(map(len, splits.values())) == count


def test_seed_changes_the_split():
    assert split_by_name(images(50), "x", 0) != split_by_name(images(50), "x", 1)


def test_hold_out_moves_only_images_of_train():
    data = CaptionData("x", {"train": tuple(images(30)), "val": tuple(images(2))})
    held = hold_out(data, 7, seed=3)
    assert len(held.splits["select"]) == 7 and held.splits["val"] == data.splits["val"]
    both = held.splits["train"] + held.splits["select"]
    assert sorted(both, key=images(30).index) == images(30)
    for split in ("train", "select"):
        order = [images(30).index(example) for example in held.splits[split]]
        assert order == sorted(order)
    backwards = CaptionData("x", {"train": tuple(images(30)[::-1])})
    assert set(hold_out(backwards, 7, seed=3).splits["select"]) == set(held.splits["select"])
    assert set(hold_out(data, 7, seed=4).splits["select"]) != set(held.splits["select"])
    assert "select" not in data.splits


def test_the_select_seed_alone_chooses_the_held_out_images(squares, squares_settings, tmp_path):
    settings = dataclasses.replace(squares_settings, data=str(squares), select_images=3)

    def held_out(**seeds):
        return read_data(dataclasses.replace(settings, **seeds), tmp_path).splits["select"]

    seeds = range(5)
    assert len({held_out(seed=seed) for seed in seeds}) > 1
    assert {held_out(seed=seed, select_seed=2) for seed in seeds} == {held_out(seed=2)}


@pytest.mark.parametrize("count", [-1, 0, 30, 31])
def test_holding_out_no_or_all_images_is_rejected(count):
    data = CaptionData("x", {"train": tuple(images(30))})
    with pytest.raises(UserError, match=f"between 1 and 29 .* received {count} for x"):
        hold_out(data, count)
    with pytest.raises(UserError, match=r"no split 'select', .* with the splits train, select"):
        hold_out(hold_out(data, 3), 3)


def test_paper_splits_of_coco_are_disjoint_and_independent_of_image_order():
    train, val = tuple(images(7)), tuple(images(500))
    splits = paper_splits({"train": train, "val": val}, count=100)
    assert splits["train"] == train
    assert [len(splits[name]) for name in ("val", "test")] == [100, 100]
    ids = {name: {each.image_id for each in splits[name]} for name in ("val", "test")}
    assert not ids["val"] & ids["test"]
    assert ids["val"] | ids["test"] < {each.image_id for each in val}
    again = paper_splits({"val": tuple(random.Random(1).sample(val, len(val)))}, count=100)
    assert {each.image_id for each in again["test"]} == ids["test"]
    other = paper_splits({"val": val}, count=100, seed=1)
    assert {each.image_id for each in other["test"]} != ids["test"]


def test_an_incomplete_coco_keeps_its_own_splits():
    splits = {"train": tuple(images(3)), "val": tuple(images(199))}
    assert paper_splits(splits, count=100) == splits
    assert paper_splits({"train": splits["train"]}) == {"train": splits["train"]}
