"""Supervision of attention: the columns, the loss by its definition, and its gradient."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tiny
from enumeration import ReferenceCaptioner

from keras_aoa.data.examples import Example, NamedObject, Phrase
from keras_aoa.evaluation import grounding
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.attention_supervision import (
    add_phrases,
    share_inside,
    supervision_loss,
)
from keras_aoa.training.extra_losses import EXTRA_LOSSES, extra_losses
from keras_aoa.utils.errors import UserError

BOX, OTHER, THIRD = (0.1, 0.2, 0.6, 0.7), (0.5, 0.0, 1.0, 0.4), (0.0, 0.5, 0.3, 1.0)
RANDOM = np.random.default_rng(0)


def columns_of(examples, rows=3, time=6):
    """The columns that `add_phrases` adds."""
    added = {}

    def add_column(name, values, of_captions=False):
        added[name] = values
        assert of_captions == (name == "phrases")

    add_phrases(SimpleNamespace(caption_shape=(rows, time), add_column=add_column), examples)
    return added


# --- columns --------------------------------------------------------------------------------------


def test_words_of_annotated_phrases_get_the_numbers_of_their_boxes():
    captions = ("a red dog runs", "...", "the dog and the big cat sit down")
    phrases = (
        Phrase(0, 0, 3, BOX), Phrase(0, 0, 3, OTHER), Phrase(2, 3, 6, THIRD), Phrase(2, 0, 2, BOX),
    )  # fmt: skip
    columns = columns_of([Example("0", "", ("no boxes",)), Example("1", "", captions, phrases)])
    assert not columns["phrases"][0].any() and not columns["phrase_boxes"][0].any()
    # The caption without words has no row. The last caption is cut after 6 words.
    assert columns["phrases"][1].tolist() == [[1, 1, 1, 0, 0, 0], [2, 2, 0, 3, 3, 3], [0] * 6]
    boxes = columns["phrase_boxes"][1]
    np.testing.assert_array_equal(boxes[0], np.float32([BOX, OTHER]))
    np.testing.assert_array_equal(boxes[1], np.float32([BOX, [0] * 4]))
    np.testing.assert_array_equal(boxes[2], np.float32([THIRD, [0] * 4]))


def test_words_are_compared_with_objects_where_no_phrases_are_annotated():
    dog = NamedObject(frozenset(["dog"]), frozenset(["red", "big"]), BOX)
    cat = NamedObject(frozenset(["cat"]), frozenset(["red"]), OTHER)
    example = Example("0", "", ("a big dog and a big cat", "red cat"), objects=(dog, cat))
    columns = columns_of([example])
    # There is no big cat.
    assert columns["phrases"][0, :2].tolist() == [[0, 1, 1, 0, 0, 0], [2, 2, 0, 0, 0, 0]]
    np.testing.assert_array_equal(columns["phrase_boxes"][0, :, 0], np.float32([BOX, OTHER]))


def test_the_largest_boxes_of_a_phrase_are_kept():
    boxes = [(0.0, 0.0, 0.1 * side, 0.5) for side in (1, 9, 3, 5, 2, 8, 4, 7, 6)]
    phrases = tuple(Phrase(0, 0, 1, box) for box in boxes)
    kept = columns_of([Example("0", "", ("dogs",), phrases)])["phrase_boxes"][0, 0]
    np.testing.assert_allclose(kept[:, 2], 0.1 * np.arange(9, 1, -1), rtol=1e-6)


def test_data_without_boxes_are_refused():
    with pytest.raises(UserError, match=r"attention_supervision: expected boxes .* of the 1 train"):
        columns_of([Example("0", "", ("a dog",))])


@pytest.mark.parametrize(
    "change",
    [
        {"variant": "baseline"},
        {"variant": "semantic", "concepts": "attributes"},
        {"regions": "mean"},
    ],
)
def test_uniform_attention_cannot_be_supervised(change):
    with pytest.raises(UserError, match="attention_supervision: needs attention to regions"):
        Configuration(attention_supervision=1.0, **change)


# --- loss -----------------------------------------------------------------------------------------


def test_shares_of_grid_cells_are_exact_for_boxes_on_the_points_borders():
    x, y = np.meshgrid(np.arange(3), np.arange(3))
    corners = [[0, 0], [1, 0], [1, 1], [0, 1]]
    corners = (np.stack([x, y], axis=2).reshape(9, 1, 2) + corners) / 3
    ends = np.sort([RANDOM.choice(13, 2, replace=False) for _ in range(12)], axis=1) / 12
    boxes = np.stack([ends[::2, 0], ends[1::2, 0], ends[::2, 1], ends[1::2, 1]], axis=1)
    boxes = boxes.reshape(3, 2, 4)
    shares = share_inside(corners[None], tf.constant(boxes[None], tf.float32))[0]
    expected = [grounding.share_inside(corners, own) for own in boxes]
    np.testing.assert_allclose(shares, expected, atol=1e-6)


def test_shares_in_a_graph_equal_shares_without_a_graph():
    corners = RANDOM.random((2, 3, 4, 2), "float32")
    boxes = tf.constant([[[BOX, OTHER]], [[THIRD, BOX]]], tf.float32)
    found = tf.function(share_inside)(corners, boxes)
    np.testing.assert_array_equal(found, share_inside(corners, boxes))


def test_points_of_a_rotated_region_lie_inside_it():
    diamond = np.array([[0.5, 0.0], [1.0, 0.5], [0.5, 1.0], [0.0, 0.5]])
    left, corner = (0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 0.24, 0.24)
    shares = share_inside(diamond[None, None], tf.constant([[[left], [corner]]]))
    np.testing.assert_allclose(shares[0, :, 0], [0.375, 0.0])  # 4 of the points are on the edge


CAPTIONS = np.array([[[1, 4, 6, 5, 2], [1, 7, 2, 0, 0]], [[1, 5, 2, 0, 0], [0] * 5]], "int32")
BATCH = {
    "images": tiny.make_images(2).astype("float64"),
    "captions": CAPTIONS,
    # The last word of the second caption is padding; phrase 3 lies outside the input.
    "phrases": np.array([[[1, 1, 0, 2], [0, 2, 1, 0]], [[2, 3, 0, 0], [1, 1, 1, 1]]], "int32"),
    "phrase_boxes": np.float32([
        [[BOX, OTHER], [THIRD, [0] * 4], [[5, 5, 6, 6], [0] * 4]],
        [[OTHER, [0] * 4], [BOX, THIRD], [[-3, 0, -2, 1], [0] * 4]],
    ]),
    "window": np.float32([[0.1, 0.0, 0.9, 1.0], [0.0, -0.2, 1.0, 1.1]]),
    "flipped": np.array([False, True]),
}  # fmt: skip


def expected_loss(references, corners, masks):
    """The sum of -target log p(r) over the words whose phrase covers a region."""
    total = 0.0
    for n, c in np.ndindex(2, 2):
        words = CAPTIONS[n, c][1:]
        x0, y0, x1, y1 = BATCH["window"][n].astype(float)
        for step, number in enumerate(BATCH["phrases"][n, c]):
            if not words[step] or not number:
                continue
            boxes = BATCH["phrase_boxes"][n, number - 1].astype(float)
            shares = np.zeros(len(corners[n]))
            for r, (first, _, last, _) in enumerate(corners[n]):
                for u, v in np.ndindex(4, 4):
                    px, py = first + (last - first) * (np.array([u, v]) + 0.5) / 4
                    px = 1 - px if BATCH["flipped"][n] else px
                    px, py = x0 + px * (x1 - x0), y0 + py * (y1 - y0)
                    inside = [b[0] < px < b[2] and b[1] < py < b[3] for b in boxes]
                    shares[r] += any(inside) and masks[n, r]
            if shares.any():
                probs = references[n].predict(words[:step])[1]
                used = shares > 0
                total -= shares[used] / shares.sum() @ np.log(probs[used])
    return total


@pytest.mark.parametrize("variant", ["full", "conditional", "soft"])
def test_loss_and_gradient_follow_the_definition(variant, in_float64):
    captioner = tiny.make_captioner(variant)
    variables = captioner.cell.trainable_variables
    with tf.GradientTape() as tape:
        encoded = captioner.encode(BATCH)
        decoded = captioner.decode(encoded, BATCH)
        loss = supervision_loss(captioner, BATCH, encoded, decoded)
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    references = [ReferenceCaptioner(captioner, image) for image in BATCH["images"]]
    corners, masks = encoded.boxes.numpy(), np.ones((2, tiny.REGIONS), bool)
    assert float(loss) == pytest.approx(expected_loss(references, corners, masks), rel=1e-10)
    step, random = 1e-6, np.random.default_rng(1)
    for variable, gradient in zip(variables, gradients, strict=True):
        direction = random.normal(size=variable.shape)
        starts = [reference.weights[variable.name].copy() for reference in references]
        losses = []
        for sign in (1, -1):
            for reference, start in zip(references, starts, strict=True):
                reference.weights[variable.name][...] = start + sign * step * direction
            losses.append(expected_loss(references, corners, masks))
        for reference, start in zip(references, starts, strict=True):
            reference.weights[variable.name][...] = start
        found = 0.0
        if gradient is not None:
            found = np.sum(direction * tf.convert_to_tensor(gradient).numpy())
        expected = (losses[0] - losses[1]) / (2 * step)
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7), variable.name


def test_padding_regions_are_no_target(in_float64):
    captioner = tiny.make_captioner("soft")
    encoded = captioner.encode(BATCH)
    masks = np.array([[True, False, True, True], [False, True, True, False]])
    memory = encoded.memory._replace(region_mask=tf.constant(masks))
    encoded = encoded._replace(memory=memory, mask=masks)
    decoded = captioner.decode(encoded, BATCH)
    probs = captioner.attention.region_probs(decoded.outputs, memory).numpy().reshape(2, 2, 4, 4)
    assert not probs[0, :, :, 1].any()
    references = []
    for own, captions in zip(probs, CAPTIONS, strict=True):
        known = {tuple(captions[c][1 : step + 1]): own[c, step] for c, step in np.ndindex(2, 4)}
        predict = SimpleNamespace(predict=lambda words, known=known: (None, known[tuple(words)]))
        references.append(predict)
    expected = expected_loss(references, encoded.boxes.numpy(), masks)
    loss = supervision_loss(captioner, BATCH, encoded, decoded)
    assert float(loss) == pytest.approx(expected, rel=1e-10)


def test_extra_losses_are_weighted(monkeypatch):
    for name in [*EXTRA_LOSSES]:
        monkeypatch.delitem(EXTRA_LOSSES, name)
    monkeypatch.setitem(EXTRA_LOSSES, "average", lambda *arguments: len(arguments))
    settings = dataclasses.replace(Configuration(), average=0.5)
    assert extra_losses(settings, None, None, None, None) == 2.0
    assert extra_losses(Configuration(), None, None, None, None) == 0.0
