"""The captioner: backbone, regions and attention cell put together, written once.

Training runs the cell over known captions, search runs the same step on its own words.
Source: Pedersoli et al., arXiv:1612.01033, sections 3.1 and 3.2. Axis letters: see
`keras_aoa/layers/joint.py`.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_aoa.data.text.vocabulary import PAD, START
from keras_aoa.layers import AreaAttention, AttentionGRUCell, SoftAttention
from keras_aoa.layers.products import wide_dtype
from keras_aoa.layers.scaling import scale_to_length

Tensor = Any


class EncodedImages(NamedTuple):
    """What a captioner sees of images before the first word.

    `memory` and `state (n, 1, u)`, `attended (n, 1, f)` for the cell; `boxes (n, r, 4, 2)` and
    `mask (n, r)` of the regions, relative to the network's input.
    """

    memory: Any
    state: Tensor
    attended: Tensor
    boxes: Tensor
    mask: Tensor


@keras.saving.register_keras_serializable(package="keras_aoa")
class Captioner(keras.Model):
    """Says what an image shows, word by word, looking at one of its areas for each.

    Args:
        backbone: Model from pixels to `{"map", "vector"}` (see `backbones.py`).
        regions: Layer from activation maps to `Regions`, with the call argument `stride`; or with
            a `region_backbone`, from maps and boxes.
        cell: `AttentionGRUCell`.
        dropout: Rate on input words, on states as the attention sees them and on the image
            vector.
        region_dropout: Rate on whole features of all regions of an image.
        from_scratch: Whether the backbone's normalization layers learn their statistics too, as a
            backbone that is not pretrained needs.
        image_first: Whether the image vector is the first input of a zero state, as in the
            authors' code, in place of the first state (h_0 = theta_hi phi(I)).
        feature_length: Length that each region's features and the image vector are scaled to;
            0 leaves them as the backbone made them, as the paper's equations do.
        seed: Of dropout.
        region_backbone: A network of its own for the regions' maps, from pixels to a map, where
            object proposals are the regions.

    Call arguments:
        inputs: A dictionary: `images (n, rows, columns, 3)`, RGB 0..255; `captions (n, c, t + 1)`,
            ids from START on, padded with PAD; with a `region_backbone` its own
            `region_images (n, side, side, 3)` and `proposals (n, r, 4)` in 0..1 of these. In
            place of images, the `features` returned by `extract_features`. Optional `fed (n, c, t)`:
            input words that differ from the captions' own (see `scheduled_sampling.py`).

    Returns:
        log p of each caption's next word, `(n, c, t)`; 0 at padding. `fit` minimizes its
        negative mean over words; there is no other target.
    """

    def __init__(
        self,
        backbone,
        regions,
        cell,
        dropout=0.0,
        region_dropout=0.0,
        from_scratch=False,
        image_first=False,
        feature_length=0.0,
        seed=0,
        region_backbone=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.regions = regions
        self.cell = cell
        self.dropout = dropout
        self.region_dropout = region_dropout
        self.from_scratch = from_scratch
        self.image_first = image_first
        self.feature_length = feature_length
        self.seed = seed
        self.region_backbone = region_backbone
        width = cell.attention.embedding_dim if image_first else cell.units
        self.image_projection = keras.layers.Dense(width, use_bias=False, name="image_projection")
        self.seeds = keras.random.SeedGenerator(seed)

    @property
    def attention(self):
        """The attention layer, which holds the word embeddings."""
        return self.cell.attention

    @property
    def backbone_trainable_variables(self):
        """Weights of the networks that see images."""
        own = self.backbone.trainable_variables
        return own + (self.region_backbone.trainable_variables if self.region_backbone else [])

    def build(self, inputs_shape=None):
        if self.built:
            return
        vector_shape = self.backbone.output["vector"].shape
        self.image_projection.build(vector_shape)
        if not self.regions.built and self.region_backbone is None:
            self.regions.build(self.backbone.output["map"].shape)
        if not self.cell.built:  # it is, when the captioner is loaded from a file
            self.cell.build((None, self.attention.embedding_dim))
        self.built = True

    def encode(self, inputs, training=False, stride=None):
        """See images: their regions, and the state before the first word: `EncodedImages`.

        Args:
            inputs: As of a call without captions, or images alone.
            training: Whether to drop out, and to learn statistics.
            stride: Steps between regions on the map, in place of the layer's own.
        """
        if not isinstance(inputs, dict):
            inputs = {"images": inputs}
        features = (
            inputs["features"] if "features" in inputs else self.extract_features(inputs, training)
        )
        return self.encode_features(features, inputs.get("proposals"), training, stride)

    def extract_features(self, inputs, training=False):
        """What the networks make of images, before any region: `{"map", "vector"}`."""
        # A pretrained network keeps its statistics: batches of captioning are small.
        training = training and self.from_scratch
        features = self.backbone(inputs["images"], training=training)
        if self.region_backbone is None:
            return features
        activations = self.region_backbone(inputs["region_images"], training=training)
        return {"map": activations, "vector": features["vector"]}

    def encode_features(self, features, proposals=None, training=False, stride=None):
        """`encode`, for what `extract_features` made before."""
        if self.region_backbone is None:
            regions = self.regions(features["map"], stride=stride)
        else:
            regions = self.regions(features["map"], proposals)
        wide = wide_dtype(self.cell.compute_dtype)
        seen = ops.cast(regions.features, wide)
        vector = ops.cast(features["vector"], wide)
        if self.feature_length:
            seen = scale_to_length(seen, self.feature_length)
            vector = scale_to_length(vector, self.feature_length)
        if training and self.region_dropout:
            noise_shape = (ops.shape(seen)[0], 1, seen.shape[-1])
            seen = keras.random.dropout(seen, self.region_dropout, noise_shape, seed=self.seeds)
        if training and self.dropout:
            vector = keras.random.dropout(vector, self.dropout, seed=self.seeds)
        memory = self.attention.precompute(seen, regions.mask)
        image = ops.cast(self.image_projection(vector), wide)[:, None]
        if self.image_first:
            nothing = ops.zeros((ops.shape(image)[0], 1, self.cell.units))
            start = self.cell.start(nothing, memory)
            step = self.cell.step(image, self.cell.project(image), start, memory)
            state, attended = step.state, step.attended
        else:
            state, attended = self.cell.start(image, memory)
        return EncodedImages(memory, state, attended, regions.boxes, regions.mask)

    def call(self, inputs, training=False):
        captions = ops.cast(inputs["captions"], "int32")
        encoded = self.encode(inputs, training)
        return self.caption_log_probs(encoded, captions, training, inputs.get("fed"))

    def caption_log_probs(self, encoded, captions, training=False, fed=None):
        """log p of each next word of captions `(n, c, t + 1)`, `(n, c, t)`; 0 at padding."""
        images, count, time = ops.shape(captions)
        fed, targets = captions[:, :, :-1] if fed is None else fed, captions[:, :, 1:]
        time = time - 1
        words = self.attention.embed(fed)
        state_dropout = None
        if training and self.dropout:
            words = keras.random.dropout(words, self.dropout, seed=self.seeds)
            ones = ops.ones((images, count, time, self.cell.units))
            state_dropout = keras.random.dropout(ones, self.dropout, seed=self.seeds)
        start = [repeat_captions(part, count) for part in (encoded.state, encoded.attended)]
        states, normalizers = self.cell.run(words, start, encoded.memory, state_dropout)
        flat = (images, count * time)
        log_probs = self.attention.target_log_probs(
            ops.reshape(states, (*flat, states.shape[-1])),
            ops.reshape(targets, flat),
            encoded.memory,
            None if normalizers is None else ops.reshape(normalizers, flat),
        )
        log_probs = ops.reshape(log_probs, (images, count, time))
        return ops.where(targets == PAD, 0.0, log_probs)

    def decode_step(self, ids, state, attended, memory):
        """Feed a word: the new states, log p of the next word and p(r) that goes with it.

        Args:
            ids: Words fed, `(n, c)`; START at first.
            state: `(n, c, u)`.
            attended: `(n, c, f)`.
            memory: The images' `ImageMemory`.

        Returns:
            `state`, `attended`, `log_probs (n, c, w)`, `region_probs (n, c, r)`.
        """
        words = self.attention.embed(ids)
        step = self.cell.step(words, self.cell.project(words), (state, attended), memory)
        scores = step.scores or self.attention.score(step.state, memory)
        log_probs, region_probs = self.attention.log_probs(scores, memory)
        return step.state, step.attended, log_probs, region_probs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return caption_loss(y_pred, x["captions"])

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "regions": keras.saving.serialize_keras_object(self.regions),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "dropout": self.dropout,
            "region_dropout": self.region_dropout,
            "from_scratch": self.from_scratch,
            "image_first": self.image_first,
            "feature_length": self.feature_length,
            "seed": self.seed,
            "region_backbone": keras.saving.serialize_keras_object(self.region_backbone),
        }

    @classmethod
    def from_config(cls, config):
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("backbone", "regions", "cell", "region_backbone")
        }
        return cls(**{**config, **parts})


def make_cell(
    units, region_dim, vocabulary_size, embedding_dim, variant="full", tied=True, dtype=None
):
    """The paper's cell, or `variant="soft"`; PAD and START are never predicted."""
    options = {"never_predicted": (PAD, START), "tied": tied, "dtype": dtype}
    if variant == "soft":
        attention = SoftAttention(vocabulary_size, embedding_dim, **options)
    else:
        attention = AreaAttention(vocabulary_size, embedding_dim, variant, **options)
    return AttentionGRUCell(units, region_dim, attention, dtype=dtype)


def word_count(captions):
    """How many words of captions `(n, c, t + 1)` are predicted: neither START nor padding."""
    return ops.sum(ops.cast(captions[:, :, 1:] != PAD, "float32"))


def caption_loss(log_probs, captions, words=None):
    """Negative log-likelihood, the mean over words.

    Args:
        log_probs: `(n, c, t)`, what `Captioner` returns.
        captions: `(n, c, t + 1)`.
        words: Number of words to divide by; of these captions by default, of all replicas'
            captions in distributed training.
    """
    words = word_count(captions) if words is None else words
    return -ops.sum(log_probs) / ops.cast(ops.maximum(words, 1.0), log_probs.dtype)


def repeat_captions(states, count):
    """A state of an image for each of its captions: `(n, 1, u)` to `(n, count, u)`."""
    return ops.repeat(states, count, axis=1)
