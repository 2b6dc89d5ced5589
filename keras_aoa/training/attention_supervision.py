"""Supervises attention with the boxes of the objects that the training captions name.

Source: Liu et al., "Attention Correctness in Neural Image Captioning", AAAI 2017, arXiv:1605.09553.
Letters in shapes: n image, c caption, t time step, r region, p phrase, b box.
"""

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.preprocessing import from_original
from keras_aoa.data.text.mentions import mentions_in_caption, naming_words
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.utils.errors import UserError

MOST_BOXES = 8  # per phrase; if a phrase names more objects, the largest boxes are used
SIDE = 4  # the share of a region inside boxes is measured at SIDE x SIDE points
SMALLEST = 1e-9  # probability, so that its logarithm and gradient stay finite


def add_phrases(batches, examples):
    """Add the columns `phrases (n, c, t)` and `phrase_boxes (n, p, b, 4)` to all batches.

    `phrases` contains the number of each word's phrase, counted from 1, or 0 for no phrase.
    `phrase_boxes` contains the boxes of phrase 1, 2 …, relative (0..1) to the upright original
    image. Boxes without area are padding.

    Args:
        batches: `CaptionBatches`.
        examples: The examples of the batches.

    Raises:
        UserError: no caption names an object that has a box.
    """
    rows, time = batches.caption_shape
    phrases = np.zeros((len(examples), rows, time), np.int32)
    boxes = [[] for _ in examples]
    names = naming_words(examples)
    for index, example in enumerate(examples):
        numbers = {}
        texts = [(number, words) for number, words in enumerate(map(tokenize, example.captions))]
        for row, (number, words) in enumerate(text for text in texts if text[1]):
            for mention in mentions_in_caption(example, number, words, *names):
                if mention.boxes and mention.index < time:
                    phrase = numbers.setdefault(mention.boxes, len(numbers) + 1)
                    first = mention.index - mention.length + 1
                    phrases[index, row, first : mention.index + 1] = phrase
        boxes[index] = [sorted(each, key=area, reverse=True)[:MOST_BOXES] for each in numbers]
    most = max(map(len, boxes))
    if not most:
        raise no_boxes(examples)
    longest = max(len(each) for own in boxes for each in own)
    table = np.zeros((len(examples), most, longest, 4), np.float32)
    for own, row in zip(boxes, table, strict=True):
        for each, places in zip(own, row, strict=False):
            places[: len(each)] = each
    batches.add_column("phrases", phrases, of_captions=True)
    batches.add_column("phrase_boxes", table)


def check_boxes(examples):
    """Check that a caption of the examples names an object that has a box.

    Raises:
        UserError: no caption names such an object.
    """
    names = naming_words(examples)
    for example in examples:
        for number, caption in enumerate(example.captions):
            mentions = mentions_in_caption(example, number, tokenize(caption), *names)
            if any(mention.boxes for mention in mentions):
                return
    raise no_boxes(examples)


def no_boxes(examples):
    """Return the `UserError` of training captions that name no object with a box."""
    return UserError(
        f"attention_supervision: expected boxes of named objects, but the captions of the "
        f"{len(examples)} training images name no object with a box; use scenes, COCO with its "
        "instances_*.json, or Flickr30k Entities, or set attention_supervision to 0."
    )


def area(box):
    """Return the area of a box `(x0, y0, x1, y1)`."""
    return (box[2] - box[0]) * (box[3] - box[1])


def supervision_loss(captioner, batch, encoded, decoded):
    """Return the cross-entropy between attention and boxes, as a sum over words, in nats.

    The target of a word is the share of each region that its phrase's boxes cover, normalized over
    the regions. Words are ignored if their phrase has no box, or if its boxes cover no region.

    Args:
        captioner: `Captioner`.
        batch: Batch with the columns of `add_phrases`.
        encoded: `EncodedImages`.
        decoded: `DecodedCaptions`.
    """
    probs = captioner.attention.region_probs(decoded.outputs, encoded.memory)
    boxes = from_original(batch["phrase_boxes"], batch["window"][:, None, None])
    x0, y0, x1, y1 = tf.unstack(boxes, axis=-1)
    flipped = batch["flipped"][:, None, None]
    mirrored = tf.stack([1 - x1, y0, 1 - x0, y1], axis=-1)
    boxes = tf.where(flipped[..., None], mirrored, boxes)
    shares = tf.cast(share_inside(encoded.boxes, boxes), probs.dtype)
    if encoded.mask is not None:
        shares = tf.where(encoded.mask[:, None], shares, 0.0)
    targets = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=2, keepdims=True))
    # Phrase 0 has no target, so its words do not count.
    targets = tf.pad(targets, [[0, 0], [1, 0], [0, 0]])
    is_word = tf.cast(batch["captions"][:, :, 1:] != PAD, tf.int32)
    numbers = tf.reshape(batch["phrases"] * is_word, (tf.shape(probs)[0], -1))
    targets = tf.gather(targets, numbers, batch_dims=1)
    return -tf.reduce_sum(targets * tf.math.log(tf.maximum(probs, SMALLEST)))


def share_inside(corners, boxes):
    """Return the share of each region that lies inside the union of a phrase's boxes.

    The share is measured at points that are spread evenly over the region.

    Args:
        corners: Corners of the regions, clockwise, `(n, r, 4, 2)`.
        boxes: Boxes `(n, p, b, 4)`, in the coordinates of the corners.

    Returns:
        Shares `(n, p, r)`.
    """
    places = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    right, down = (part.ravel() for part in np.meshgrid(places, places))
    weights = [(1 - right) * (1 - down), right * (1 - down), right * down, (1 - right) * down]
    points = tf.einsum("nrkx,kq->nrqx", tf.cast(corners, tf.float32), np.stack(weights))
    points = points[:, None, None]
    boxes = boxes[:, :, :, None, None]
    inside = tf.logical_and(points > boxes[..., :2], points < boxes[..., 2:])
    inside = tf.reduce_any(tf.reduce_all(inside, axis=-1), axis=2)
    return tf.reduce_mean(tf.cast(inside, tf.float32), axis=-1)
