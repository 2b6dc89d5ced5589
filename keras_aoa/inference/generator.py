"""Generates captions for batches of images: runs search, then converts ids to words."""

import math

import numpy as np
import tensorflow as tf

from keras_aoa.data.build import proposal_image_settings
from keras_aoa.data.text.tokenizer import join_words
from keras_aoa.data.text.vocabulary import PAD, STOP
from keras_aoa.distribution.process import Process
from keras_aoa.inference.caption import Caption, from_bytes, to_bytes, with_regions
from keras_aoa.models.choices import IMPOSSIBLE
from keras_aoa.models.constraints import search_arguments
from keras_aoa.models.search import search
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.progress import progress_bar


class CaptionGenerator:
    """Runs search with a captioner, compiled as one graph.

    Args:
        captioner: `Captioner` or `Ensemble`.
        vocabulary: `Vocabulary`.
        beam, max_words, length_penalty: The same as in `models.search.search`.
        stride: Step between regions on the activation map.
        proposals: Maximum number of object proposals per image; the caller computes the proposals.
        region_side: Side, in pixels, of the images from which proposals are pooled, or None if the
            side is unknown or regions are not proposals.
        options: Other fields of `SearchSettings`, by name.

    Attributes:
        settings: The search settings by name, with either `stride` or `proposals`.

    Raises:
        UserError: the captioner does not know a word of `prefix`.
    """

    def __init__(
        self,
        captioner,
        vocabulary,
        beam,
        max_words,
        length_penalty,
        stride=None,
        proposals=None,
        region_side=None,
        **options,
    ):
        self.vocabulary = vocabulary
        self.settings = {"beam": beam, "max_words": max_words, "length_penalty": length_penalty}
        self.settings |= options
        arguments = search_arguments(self.settings, vocabulary)
        if captioner.region_backbone is None:
            self.settings["stride"] = stride
        else:
            self.settings["proposals"] = proposals

        def run(inputs):
            encoded = captioner.encode(inputs, stride=stride)
            return search(captioner, encoded, **arguments), encoded.boxes, encoded.mask

        self.process = Process()
        self._inputs = input_specs(captioner, region_side)
        self._runs = {kind: self._compiled(run, spec) for kind, spec in self._inputs.items()}

    def _compiled(self, run, spec):
        if self.process.replicas.count == 1:
            return tf.function(run, input_signature=[spec], autograph=False)
        strategy = self.process.strategy
        return tf.function(
            lambda inputs: strategy.run(run, (inputs,)), reduce_retracing=True, autograph=False
        )

    @classmethod
    def from_configuration(cls, captioner, vocabulary, configuration, search_settings=None):
        """Build a generator from a `Configuration`, overridden by `search_settings`.

        Raises:
            UserError: a search setting does not apply to the configuration's kind of regions.
        """
        settings = (search_settings or SearchSettings()).of(configuration)
        if configuration.regions == "proposals":
            settings["region_side"] = proposal_image_settings(configuration).side
        return cls(captioner, vocabulary, **settings)

    def __call__(self, inputs, with_attention=False):
        """Return a list with the best `Caption` of each image.

        Args:
            inputs: A batch of images or features from `image_batches`, or images `(n, rows,
                columns, 3)`. If the batch contains `window (n, 4)`, the boxes of a `Caption` are
                relative to the original image. Without `window`, the boxes are relative to the
                network's input.
            with_attention: Whether each `Caption` contains attention and boxes.
        """
        return [captions[0] for captions in self.hypotheses(inputs, 1, with_attention)]

    def hypotheses(self, inputs, count=None, with_attention=True):
        """Return a list of the hypotheses for each image, best first. A hypothesis is a `Caption`.

        Args:
            inputs, with_attention: The same as in a call of the generator.
            count: Maximum number of hypotheses per image. None: `beam`. Each image has at least one
                hypothesis, which may be empty. If search finds fewer captions than `count`, an
                image has fewer hypotheses.
        """
        if not isinstance(inputs, dict):
            inputs = {"images": inputs}
        kind = "features" if "features" in inputs else "images"
        needed = {name: inputs[name] for name in self._inputs[kind]}
        results = self._runs[kind](needed)
        parts = list(zip(*map(self.process.local, tf.nest.flatten(results)), strict=True))
        windows = [None] * len(parts)
        if "window" in inputs:
            windows = self.process.local(inputs["window"])
        captions = []
        for part, window in zip(parts, windows, strict=True):
            result, boxes, mask = tf.nest.pack_sequence_as(results, part)
            ids, log_probs, word_log_probs = (
                values.numpy()[:, :count]
                for values in (result.ids, result.log_probs, result.word_log_probs)
            )
            attention = result.attention.numpy() if with_attention else None
            for image in range(len(ids)):
                exists = log_probs[image] != IMPOSSIBLE
                exists[0] = True
                own = (values[image][exists] for values in (ids, log_probs, word_log_probs))
                beams = list(map(self._caption, *own))
                if with_attention:
                    own_window = None if window is None else np.asarray(window[image])
                    regions = boxes[image].numpy(), mask[image].numpy(), own_window
                    beams = [
                        with_regions(caption, attention[image, beam], *regions)
                        for beam, caption in enumerate(beams)
                    ]
                captions.append(beams)
        return captions

    def _caption(self, ids, log_prob, word_log_probs):
        length = int(np.argmax(np.append(np.isin(ids, (STOP, PAD)), True)))
        words = tuple(self.vocabulary.words[word] for word in ids[:length])
        steps = np.count_nonzero(ids != PAD)  # with STOP
        confidence = math.exp(log_prob / steps) if steps else 0.0
        word_probs = tuple(np.exp(word_log_probs[:length]).tolist())
        return Caption(
            join_words(words),
            words,
            float(log_prob),
            confidence=confidence,
            word_probs=word_probs,
        )


def input_specs(captioner, region_side=None):
    """Return two dictionaries of `tf.TensorSpec`, for batches of images and of features."""
    images = {"images": tf.TensorSpec((None, None, None, 3), tf.float32)}
    shapes = {name: (None, *part.shape[1:]) for name, part in captioner.backbone.output.items()}
    shapes["map"] = (None, None, None, shapes["map"][-1])
    features = {"features": {name: tf.TensorSpec(shape) for name, shape in shapes.items()}}
    if captioner.region_backbone is not None:
        boxes = {"proposals": tf.TensorSpec((None, None, 4), tf.float32)}
        # With a known size, pooling needs fewer tables of maxima.
        shape = (None, region_side, region_side, 3)
        images |= {"region_images": tf.TensorSpec(shape), **boxes}
        shape = captioner.region_backbone.compute_output_shape(shape)
        features["features"]["map"] = tf.TensorSpec(shape)
        features |= boxes
    return {"images": images, "features": features}


def generate(generator, batches, total, progress="", with_attention=False):
    """Generate captions for all images of a dataset. Return `{index: Caption}` of all processes.

    Args:
        generator: `CaptionGenerator`.
        batches: Batches for the replicas of this process, with `index` and either `images` or
            `features`.
        total: Number of images, which the progress bar shows.
        progress: Label of the progress bar. If the label is empty, no bar appears.
        with_attention: Whether each `Caption` contains attention and boxes. If `with_attention` is
            a number n, the captions of the first n images contain attention and boxes, and other
            captions may lack both.
    """
    process, captions = generator.process, {}
    with progress_bar(total=total, desc=progress, unit="image", disable=not progress) as bar:
        for batch in process.feed(batches):
            all_or_none = isinstance(with_attention, bool)
            keep = with_attention if all_or_none else len(captions) < with_attention
            index = np.concatenate([part.numpy() for part in process.local(batch["index"])])
            captions |= zip(map(int, index), generator(batch, keep), strict=True)
            bar.update(min(total, len(captions) * process.workers) - bar.n)
    gathered = {}
    for part in process.gather(to_bytes(captions)) if process.workers > 1 else ():
        gathered |= from_bytes(part)
    return gathered or captions
