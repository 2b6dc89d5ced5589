"""Captions the images of a shard, and writes a file of json lines."""

import threading

from keras_aoa.collection.shards import Contents
from keras_aoa.inference.lines import json_line


class ShardCaptioner:
    """Captions shards. Threads that share this object caption one shard after another.

    Args:
        batches: `BatchCaptioner`.
        captions: Maximum number of captions per image.
        least_confidence: Minimum confidence of the captions that are written.
    """

    def __init__(self, batches, captions=1, least_confidence=0.0):
        self._batches = batches
        self._settings = captions, least_confidence
        # TensorFlow may crash if two threads call the same operation outside a graph.
        self._one_thread = threading.Lock()

    def caption(self, shard, folder, on_progress=lambda count: None):
        """Write a shard's captions: one line per image, in the shard's order.

        Args:
            shard: `Shard`.
            folder: `OutputFolder`.
            on_progress: Function that is called with the number of newly captioned images.

        Returns:
            Dictionary of counts. `images` counts all images, and `unreadable` counts the images
            that cannot be read. `left_out` counts the files that were skipped because of their
            names.

        Raises:
            ShardError: the shard cannot be read. Nothing is written.
            UserError: `OutputFolder.writing` fails.
        """
        counts = {"images": 0, "unreadable": 0, "left_out": 0}
        contents = Contents(shard)
        captions, least_confidence = self._settings
        with self._one_thread, folder.writing(shard, counts) as file:
            for image in self._batches(contents, captions, least_confidence):
                file.write(json_line(image) + "\n")
                counts["images"] += 1
                counts["unreadable"] += bool(image.error)
                on_progress(1)
            counts["left_out"] = contents.left_out
        return counts
