"""Captions a shard while a background thread reads and decodes the next batches."""

import collections
import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from keras_aoa.collection.lines import caption_line, error_line
from keras_aoa.collection.shards import Contents
from keras_aoa.data.images.headers import MAX_PIXELS
from keras_aoa.data.images.preprocessing import from_original
from keras_aoa.data.images.views import read_batch
from keras_aoa.data.proposals import edge_boxes
from keras_aoa.data.proposals.cache import one_core_per_thread, propose
from keras_aoa.inference.image_captioner import NO_PICTURE

_PREFETCH = 2  # batches that are read and decoded in advance


class ShardCaptioner:
    """Captions the images of a shard in batches.

    The captions do not depend on the batch size. The caption of an image is the same as if
    `captioner` captioned the image alone.

    Args:
        captioner: `ImageCaptioner`.
        batch_size: Number of images in a batch.

    Raises:
        UserError: the edge model for object proposals cannot be read.
    """

    def __init__(self, captioner, batch_size):
        self._generator = captioner.generator
        self._batch_size = batch_size
        self._search = captioner.proposal_settings
        self._views = captioner.views
        shapes = dict(self._views.shapes)
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

    def caption(self, shard, folder, on_progress=lambda count: None):
        """Write a shard's captions: one line per image, in the shard's order.

        Args:
            shard: `Shard`.
            folder: `OutputFolder`.
            on_progress: Function that is called after each batch with the batch's number of images.

        Returns:
            Dictionary of counts. `images` counts all images, and `unreadable` counts the images
            that cannot be read. `left_out` counts the files whose names show that they are not
            images.

        Raises:
            ShardError: the shard cannot be read. Nothing is written.
            UserError: as raised by `OutputFolder.writing`.
        """
        counts = {"images": 0, "unreadable": 0, "left_out": 0}
        contents = Contents(shard)
        with (
            folder.writing(shard, counts) as file,
            contextlib.closing(_prefetch(self._batches(contents))) as batches,
        ):
            for entries, inputs in batches:
                lines = self._lines(entries, inputs)
                file.writelines(f"{line}\n" for line in lines)
                counts["images"] += len(entries)
                counts["unreadable"] += len(entries) - len(inputs["indices"])
                on_progress(len(entries))
            counts["left_out"] = contents.left_out
        return counts

    def _batches(self, contents):
        """Yield batches. A batch is `(name, error)` for each entry, and the network inputs.

        The network inputs contain only the readable images. Their key `indices` contains the
        positions of the readable images in the batch.
        """
        entries = iter(contents)
        with one_core_per_thread() if self._search else contextlib.nullcontext():
            while batch := list(itertools.islice(entries, self._batch_size)):
                inputs, valid = self._read([entry.content or b"" for entry in batch])
                indices = np.flatnonzero(valid)
                if len(indices) < len(batch):
                    inputs = {name: tf.gather(part, indices) for name, part in inputs.items()}
                # Drop the file contents, so that a waiting batch contains only pixels.
                batch = [(entry.name, entry.error or NO_PICTURE.format("")) for entry in batch]
                yield batch, {**inputs, "indices": indices}

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

    def _lines(self, entries, inputs):
        """Return a line of json for each entry in a batch."""
        lines = [error_line(*entry) for entry in entries]
        inputs = dict(inputs)
        indices = inputs.pop("indices")
        if not len(indices):
            return lines
        if self._search:
            windows, boxes = inputs["window"].numpy(), inputs["proposals"].numpy()
            used = (boxes[..., 2:] > boxes[..., :2]).all(axis=-1).any(axis=0).sum()
            inputs["proposals"] = from_original(boxes[:, :used], windows[:, None])
        captions = self._generator(inputs, with_attention=True)
        for index, caption in zip(indices, captions, strict=True):
            lines[index] = caption_line(entries[index][0], caption)
        return lines


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
