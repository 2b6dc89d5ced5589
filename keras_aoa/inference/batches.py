"""Captions images in batches while a background thread reads and decodes the next batches."""

import collections
import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.headers import MAX_PIXELS
from keras_aoa.data.images.preprocessing import decode_content, from_original
from keras_aoa.data.images.views import read_batch
from keras_aoa.data.proposals import edge_boxes
from keras_aoa.data.proposals.cache import one_core_per_thread, propose
from keras_aoa.inference.caption import Caption
from keras_aoa.inference.pixels import as_decodable_entry, why_invalid

_PREFETCH = 2  # batches that are read and decoded in advance


class CaptionedImage(NamedTuple):
    """The captions of an image, best first, or the error if the image cannot be read.

    `ranks` are the ranks of the captions, beginning with 1, among all captions that were asked for.
    Captions with too little confidence are left out; `best_confidence` is the largest confidence of
    all captions. `several` tells whether more than one caption was asked for.
    """

    name: str
    captions: tuple[Caption, ...] = ()
    error: str = ""
    ranks: tuple[int, ...] = ()
    best_confidence: float = 0.0
    several: bool = False


class BatchCaptioner:
    """Captions images in batches.

    The captions do not depend on the batch size. An image's caption does not depend on the other
    images in the batch.

    Args:
        captioner: `ImageCaptioner`.
        batch_size: Number of images in a batch.

    Raises:
        UserError: the edge model for object proposals cannot be read.
    """

    def __init__(self, captioner, batch_size=32):
        self._captioner = captioner
        self._generator = captioner.generator
        self._batch_size = batch_size
        self._search = captioner.proposal_settings
        self._views = captioner.views
        self._shapes = shapes = dict(self._views.shapes)
        if self._search:
            shapes["proposals"] = (self._generator.settings["proposals"], 4)
            if self._search.edge_model:
                # Several threads need the model; load it only once, before they start.
                edge_boxes.load_forest(self._search.edge_model)

        def read(image_bytes):
            with tf.device("CPU:0"):
                return read_batch(image_bytes, self._view, shapes, MAX_PIXELS)

        signature = [tf.TensorSpec((None,), tf.string)]
        self._read = tf.function(read, input_signature=signature, autograph=False)

    def __call__(self, entries, count=1, least_confidence=0.0):
        """Yield a `CaptionedImage` for each entry, in order.

        Args:
            entries: Iterable of `Entry`, which is read in a background thread.
            count: Maximum number of captions per image. None: the beam.
            least_confidence: Minimum confidence of the captions in the output.
        """
        with contextlib.closing(_prefetch(self._batches(entries))) as batches:
            for images, inputs in batches:
                found = iter(self._hypotheses(inputs, count))
                for image in images:
                    if not image.error:
                        captions = next(found)
                        kept = [
                            (rank, caption)
                            for rank, caption in enumerate(captions, 1)
                            if caption.confidence >= least_confidence
                        ]
                        image = image._replace(
                            captions=tuple(caption for _, caption in kept),
                            ranks=tuple(rank for rank, _ in kept),
                            best_confidence=max(caption.confidence for caption in captions),
                            several=count != 1,
                        )
                    yield image

    def _batches(self, entries):
        """Yield batches: a `CaptionedImage` without captions for each entry, and network inputs.

        The network inputs contain only the images that can be read.
        """
        entries = iter(entries)
        with one_core_per_thread() if self._search else contextlib.nullcontext():
            while batch := list(
                map(as_decodable_entry, itertools.islice(entries, self._batch_size))
            ):
                contents = [entry.content or b"" for entry in batch]
                read = self._read if len(batch) > 1 else self._read_one
                inputs, valid = read(contents)
                valid = valid.numpy()
                if not valid.all():
                    indices = np.flatnonzero(valid)
                    inputs = {name: tf.gather(part, indices) for name, part in inputs.items()}
                # The search of a batch leaves processors idle, which compute the next features.
                if valid.any():
                    inputs = self._captioner.with_features(inputs)
                # Without the files' contents, so that a waiting batch contains only pixels.
                images = [
                    CaptionedImage(entry.name, error="" if readable else why_invalid(entry))
                    for entry, readable in zip(batch, valid, strict=True)
                ]
                yield images, inputs

    def _read_one(self, contents):
        """Do the same as `_read` for a single image, without its graph.

        The graph contains all image formats, and takes about a second to build.
        """
        with tf.device("CPU:0"):
            try:
                views = self._view(decode_content(contents[0]))
            except tf.errors.OpError:
                blank = {name: tf.zeros((1, *shape)) for name, shape in self._shapes.items()}
                return blank, tf.constant([False])
            return {name: view[None] for name, view in views.items()}, tf.constant([True])

    def _view(self, pixels):
        views = self._views(pixels)
        if self._search:
            max_proposals = self._generator.settings["proposals"]

            def padded_proposals(pixels):
                boxes = propose(pixels, self._search)[:max_proposals]
                return np.pad(boxes, [[0, max_proposals - len(boxes)], [0, 0]])

            boxes = tf.numpy_function(padded_proposals, [pixels], tf.float32, stateful=False)
            views["proposals"] = tf.ensure_shape(boxes, (max_proposals, 4))
        return views

    def _hypotheses(self, inputs, count):
        """Return the captions of each image of a batch."""
        if not len(inputs["window"]):
            return []
        if self._search:
            windows, boxes = inputs["window"].numpy(), inputs["proposals"].numpy()
            used = (boxes[..., 2:] > boxes[..., :2]).all(axis=-1).any(axis=0).sum()
            proposals = from_original(boxes[:, :used], windows[:, None])
            inputs = {**inputs, "proposals": proposals}
        return self._generator.hypotheses(inputs, count)


def _prefetch(items):
    """Run a generator ahead in a background thread, and yield its items."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        try:
            waiting = collections.deque(pool.submit(next, items, end) for _ in range(_PREFETCH))
            while (item := waiting.popleft().result()) is not end:
                waiting.append(pool.submit(next, items, end))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
            items.close()
