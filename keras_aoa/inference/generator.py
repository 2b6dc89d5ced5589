"""Captions of many images: search over batches, ids to words."""

import io
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.preprocessing import ImageSettings
from keras_aoa.data.text.vocabulary import PAD, STOP
from keras_aoa.distribution.process import Process
from keras_aoa.models.search import search
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.progress import progress_bar


@dataclass(frozen=True)
class Generated:
    """A caption and where the model looked.

    `words` are without STOP. `attention (len(words), r)` is p(r | h) of the state that chose
    each word. `boxes (r, 4, 2)` are corners (x, y) in 0..1 of the network's input, `mask (r,)`
    false for padding. `log_prob` is a natural logarithm, STOP included.
    """

    caption: str
    words: tuple[str, ...]
    log_prob: float
    attention: Any = None
    boxes: Any = None
    mask: Any = None


class CaptionGenerator:
    """A captioner's search as one compiled graph.

    Args:
        captioner: `Captioner`.
        vocabulary: `Vocabulary`.
        beam, max_words, length_penalty: As in `models.search.search`.
        stride: Steps between regions on the activation map.
        regions: Most object proposals of an image; for whoever prepares the images.
        region_side: Side of the images that proposals are pooled from, pixels, where it is known.

    Attributes:
        settings: How it searches, by name; `stride` or `regions`, whichever counts.
    """

    def __init__(
        self,
        captioner,
        vocabulary,
        beam,
        max_words,
        length_penalty,
        stride=None,
        regions=None,
        region_side=None,
    ):
        self.vocabulary = vocabulary
        self.settings = {"beam": beam, "max_words": max_words, "length_penalty": length_penalty}
        pixels = tf.TensorSpec((None, None, None, 3), tf.float32)
        images = {"images": pixels}
        shapes = {name: (None, *part.shape[1:]) for name, part in captioner.backbone.output.items()}
        shapes["map"] = (None, None, None, shapes["map"][-1])
        features = {"features": {name: tf.TensorSpec(shape) for name, shape in shapes.items()}}
        if captioner.region_backbone is None:
            self.settings["stride"] = stride
        else:
            self.settings["regions"] = regions
            boxes = {"proposals": tf.TensorSpec((None, None, 4), tf.float32)}
            # Of a known size the tables of maxima are fewer.
            shape = (None, region_side, region_side, 3)
            images |= {"region_images": tf.TensorSpec(shape), **boxes}
            shape = captioner.region_backbone.compute_output_shape(shape)
            features["features"]["map"] = tf.TensorSpec(shape)
            features |= boxes

        def run(inputs):
            encoded = captioner.encode(inputs, stride=stride)
            found = search(captioner, encoded, beam, max_words, length_penalty)
            return found, encoded.boxes, encoded.mask

        self.process = Process()
        self._inputs = {"images": images, "features": features}
        self._runs = {given: self._compiled(run, spec) for given, spec in self._inputs.items()}

    def _compiled(self, run, spec):
        if self.process.replicas.count == 1:
            return tf.function(run, input_signature=[spec], autograph=False)
        strategy = self.process.strategy
        return tf.function(
            lambda inputs: strategy.run(run, (inputs,)), reduce_retracing=True, autograph=False
        )

    @classmethod
    def of(cls, captioner, vocabulary, configuration, search_settings=None):
        """The search that a `Configuration` asks for, changed by `SearchSettings`.

        Raises:
            UserError: a change that means nothing for the configuration's kind of regions.
        """
        settings = (search_settings or SearchSettings()).of(configuration)
        if configuration.regions == "proposals":
            view = ImageSettings(configuration.proposals_size, configuration.proposals_fit)
            settings["region_side"] = view.side
        return cls(captioner, vocabulary, **settings)

    def __call__(self, inputs, with_attention=False):
        """The best caption of each image: a list of `Generated`.

        Args:
            inputs: A batch as of `image_batches`, of images or of features, or images alone,
                `(n, rows, columns, 3)`.
            with_attention: Whether to keep attention and boxes.
        """
        return [beams[0] for beams in self._search(inputs, 1, with_attention)]

    def all_beams(self, inputs):
        """All hypotheses of each image, best first: a list of lists of `Generated`."""
        return self._search(inputs, None, with_attention=True)

    def _search(self, inputs, count, with_attention):
        """The best `count` hypotheses of each image, all if None."""
        if not isinstance(inputs, dict):
            inputs = {"images": inputs}
        given = "features" if "features" in inputs else "images"
        needed = {name: inputs[name] for name in self._inputs[given]}
        results = self._runs[given](needed)
        return [
            beams
            for part in zip(*map(self.process.local, tf.nest.flatten(results)), strict=True)
            for beams in self._beams(
                *tf.nest.pack_sequence_as(results, part), count, with_attention
            )
        ]

    def _beams(self, found, boxes, mask, count, with_attention):
        ids, log_probs = found.ids.numpy()[:, :count], found.log_probs.numpy()
        encoded = [None] * 3
        if with_attention:
            encoded = [part.numpy() for part in (found.attention, boxes, mask)]
        return [
            [
                self._generated(ids[image, beam], log_probs[image, beam], image, beam, *encoded)
                for beam in range(ids.shape[1])
            ]
            for image in range(len(ids))
        ]

    def _generated(self, ids, log_prob, image, beam, attention, boxes, mask):
        length = int(np.argmax(np.append(np.isin(ids, (STOP, PAD)), True)))
        words = tuple(self.vocabulary.words[word] for word in ids[:length])
        caption = Generated(" ".join(words), words, float(log_prob))
        if attention is None:
            return caption
        # Copies: a view would keep the whole batch in memory.
        return replace(
            caption,
            attention=attention[image, beam, :length].copy(),
            boxes=boxes[image].copy(),
            mask=mask[image].copy(),
        )


def generate(generator, batches, total, progress="", with_attention=False):
    """Caption all images of a data set of batches: `{index: Generated}`, of all processes.

    Args:
        generator: `CaptionGenerator`.
        batches: Of `{"images", "index"}`, as of `image_batches` for this process's replicas.
        total: Number of images, for the progress bar.
        progress: What the bar says; no bar if empty.
        with_attention: Whether to keep attention and boxes; a number keeps those of so many
            images from the first on, at least.
    """
    process, found = generator.process, {}
    with progress_bar(total=total, desc=progress, unit="image", disable=not progress) as bar:
        for batch in process.feed(batches):
            all_or_none = isinstance(with_attention, bool)
            keep = with_attention if all_or_none else len(found) < with_attention
            index = np.concatenate([part.numpy() for part in process.local(batch["index"])])
            found |= zip(map(int, index), generator(batch, keep), strict=True)
            bar.update(min(total, len(found) * process.workers) - bar.n)
    together = {}
    for part in process.gather(as_bytes(found)) if process.workers > 1 else ():
        together |= from_bytes(part)
    return together or found


def as_bytes(found):
    """Captions of images, `{index: Generated}`, for another process."""
    arrays, texts = {}, {}
    for index, generated in found.items():
        facts = dict(vars(generated))
        for name in ("attention", "boxes", "mask"):
            array = facts.pop(name)
            if array is not None:
                arrays[f"{index}/{name}"] = array
        texts[index] = facts
    file = io.BytesIO()
    np.savez(file, texts=np.array(json.dumps(texts)), **arrays)
    return file.getvalue()


def from_bytes(content):
    """Captions that `as_bytes` wrote."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = dict(archive)
    found = {}
    for index, facts in json.loads(str(arrays.pop("texts"))).items():
        seen = {name: arrays.get(f"{index}/{name}") for name in ("attention", "boxes", "mask")}
        found[int(index)] = Generated(**{**facts, "words": tuple(facts["words"])}, **seen)
    return found
