"""Captions of one shard: images are read and decoded while the network captions those before."""

import collections
import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from keras_aoa.collection.lines import caption_line, error_line
from keras_aoa.collection.shards import Contents
from keras_aoa.data.images.headers import MAX_PIXELS
from keras_aoa.data.images.preprocessing import from_original, to_original
from keras_aoa.data.images.views import NetworkViews, read_batch
from keras_aoa.data.proposals import edge_boxes as edges
from keras_aoa.data.proposals.cache import one_core_a_thread, propose
from keras_aoa.inference.image_captioner import NO_PICTURE

_AHEAD = 2  # batches that are decoded before their turn


class ShardCaptioner:
    """A captioner of shards, in batches; what it says does not depend on these.

    Args:
        captioner: `ImageCaptioner`, which says the same of one image.
        batch_size: Images that the network sees at once.

    Raises:
        UserError: the model of the proposals' edges cannot be read.
    """

    def __init__(self, captioner, batch_size):
        self._generator = captioner.generator
        self._batch_size = batch_size
        view = captioner.proposal_view
        self._search = view.search if view else None
        self._views = NetworkViews(captioner.settings, view.settings if view else None)
        shapes = dict(self._views.shapes)
        if view:
            shapes["proposals"] = (self._generator.settings["regions"], 4)
            if view.search.edge_model:
                edges.load_forest(view.search.edge_model)  # once, before threads ask for it

        def read(image_bytes):
            with tf.device("CPU:0"):
                return read_batch(image_bytes, self._view, shapes, MAX_PIXELS)

        signature = [tf.TensorSpec((None,), tf.string)]
        self._read = tf.function(read, input_signature=signature, autograph=False)

    def caption(self, shard, folder, on_progress=lambda count: None):
        """Write a shard's captions, a line an image in their order.

        Args:
            shard: `Shard`.
            folder: `OutputFolder`.
            on_progress: Is called with the number of images of each batch.

        Returns:
            `images`, `unreadable` of them, and `left_out`, files of another kind, by name.

        Raises:
            ShardError: it cannot be read; nothing is written.
            UserError: as of `OutputFolder.writing`.
        """
        counts = {"images": 0, "unreadable": 0, "left_out": 0}
        contents = Contents(shard)
        with (
            folder.writing(shard, counts) as file,
            contextlib.closing(_ahead(self._batches(contents))) as batches,
        ):
            for entries, inputs in batches:
                lines = self._lines(entries, inputs)
                file.writelines(f"{line}\n" for line in lines)
                counts["images"] += len(entries)
                counts["unreadable"] += len(entries) - len(inputs["places"])
                on_progress(len(entries))
            counts["left_out"] = contents.left_out
        return counts

    def _batches(self, contents):
        """Entries, and what the networks are given of those that can be read, at `places`."""
        entries = iter(contents)
        with one_core_a_thread() if self._search else contextlib.nullcontext():
            while batch := list(itertools.islice(entries, self._batch_size)):
                inputs, valid = self._read([entry.content or b"" for entry in batch])
                places = np.flatnonzero(valid)
                if len(places) < len(batch):
                    inputs = {name: tf.gather(part, places) for name, part in inputs.items()}
                # The contents are read: a batch that waits is its pixels alone.
                batch = [(one.name, one.error or NO_PICTURE.format("")) for one in batch]
                yield batch, {**inputs, "places": places}

    def _view(self, pixels):
        views = self._views(pixels)
        if self._search:
            most = self._generator.settings["regions"]

            def find(pixels):
                boxes = propose(pixels, self._search)[:most]
                return np.pad(boxes, [[0, most - len(boxes)], [0, 0]])

            boxes = tf.numpy_function(find, [pixels], tf.float32, stateful=False)
            views["proposals"] = tf.ensure_shape(boxes, (most, 4))
        return views

    def _lines(self, entries, inputs):
        """A line for each of a batch's entries."""
        lines = [error_line(*entry) for entry in entries]
        inputs = dict(inputs)
        places = inputs.pop("places")
        if not len(places):
            return lines
        windows = inputs.pop("window").numpy()
        if self._search:
            boxes = inputs["proposals"].numpy()
            used = (boxes[..., 2:] > boxes[..., :2]).all(axis=-1).any(axis=0).sum()
            inputs["proposals"] = from_original(boxes[:, :used], windows[:, None])
        captions = self._generator(inputs, with_attention=True)
        for place, generated, window in zip(places, captions, windows, strict=True):
            boxes = to_original(generated.boxes, window)
            lines[place] = caption_line(entries[place][0], generated, boxes)
        return lines


def _ahead(items):
    """The same items, made in a thread of their own before they are asked for."""
    nothing = object()
    with ThreadPoolExecutor(1) as pool:
        try:
            waiting = collections.deque(pool.submit(next, items, nothing) for _ in range(_AHEAD))
            while (item := waiting.popleft().result()) is not nothing:
                waiting.append(pool.submit(next, items, nothing))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
            items.close()
