"""The captioner: a model that combines a backbone, a region layer and an attention cell.

Training feeds known captions to the cell. Search feeds the words that it generates to the same
cell. Source: Pedersoli et al., arXiv:1612.01033, sections 3.1 and 3.2. For the letters in shapes,
see `keras_aoa/layers/joint.py`.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_aoa.layers.products import scale_to_length, wide_dtype
from keras_aoa.models.image_inputs import (
    CONCEPTS,
    build_image_layers,
    image_inputs,
    make_image_layers,
)
from keras_aoa.models.teacher_forcing import caption_loss, decode_captions, with_noise

# Arguments of a `Captioner` that are models and layers.
PARTS = ("backbone", "regions", "cell", "region_backbone")

Tensor = Any


class EncodedImages(NamedTuple):
    """Encoded images: their regions and the decoder state before the first word.

    `memory` is the `ImageMemory` of the attention layer. `state (n, 1, u)` and `attended (n, 1, f)`
    are the cell's states. `boxes (n, r, 4, 2)` are the corners of the regions, relative (0..1) to
    the network's input. `mask (n, r)` is false for padding. `concepts (n, k)` are the logits of the
    predicted concepts; `concepts` is None for a captioner that predicts no concepts.
    """

    memory: Any
    state: Tensor
    attended: Tensor
    boxes: Tensor
    mask: Tensor
    concepts: Tensor | None = None


@keras.saving.register_keras_serializable(package="keras_aoa")
class Captioner(keras.Model):
    """Generates a caption for an image, attending to regions at each word.

    Args:
        backbone: Model that computes an activation map and an image vector from pixels. The model's
            output is a dictionary with the keys "map" and "vector" (see `backbones.py`).
        regions: Region layer that computes `Regions` from an activation map. The layer's call
            argument `stride` sets the step between regions. With a `region_backbone`, the region
            layer receives boxes instead of a stride.
        cell: `AttentionGRUCell`.
        dropout: Dropout rate for input words, for states before attention and for image vectors.
        region_dropout: Dropout rate for region features. All regions of an image share one mask.
        from_scratch: If True, the backbone's normalization layers update their statistics in
            training. Choose True for a backbone that is not pretrained.
        image_first: If True, the cell starts with a zero state and receives the projected image
            vector as its first input, as in the authors' code. If False, the projected image vector
            is the initial state (h_0 = theta_hi phi(I)).
        feature_length: L2 norm to which region features and the image vector are scaled. 0 disables
            the scaling, as in the paper's equations.
        seed: Seed of dropout and of all samples in training.
        region_backbone: Second backbone, only for object proposals, or None for other kinds of
            regions. Proposals are pooled from the activation map of the second backbone.
        label_smoothing: Share of each word's target probability that training spreads evenly over
            all words that can be predicted.
        image_each_step: If True, the cell starts with a zero state and receives the projected image
            vector at every step, as in Donahue et al., CVPR 2015, arXiv:1411.4389.
        concepts: Concepts that the captioner predicts from the image vector. The probabilities of
            `attributes` replace the image vector (Wu et al., CVPR 2016, arXiv:1506.01144).
            `SemanticAttention` instead attends to the attributes. `topics` are an input at every
            step, beside the image vector (Jin et al., arXiv:1506.06272). `none` predicts no
            concepts.
        concept_count: Number of concepts, k.

    Call arguments:
        inputs: Dictionary. `images (n, rows, columns, 3)` are RGB pixels in 0..255.
            `captions (n, c, t + 1)` are word ids that begin with START and are padded with PAD.
            With a `region_backbone`, the dictionary also contains
            `region_images (n, side, side, 3)` and `proposals (n, r, 4)`. Proposals are boxes
            relative (0..1) to the region images. `features`, the output of `extract_features`, can
            replace the images. If the input words differ from the captions, `fed (n, c, t)`
            contains the input words (see `scheduled_sampling.py`).
        training: Whether to apply dropout and label smoothing, and to update the batch-norm
            statistics.

    Returns:
        Log-probabilities `(n, c, t)` of the next words of the captions, with 0 at padding. Label
        smoothing averages the log-probability of each word with the mean log-probability of all
        words. `fit` minimizes the negative mean log-probability per word, and needs no targets.
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
        label_smoothing=0.0,
        image_each_step=False,
        concepts="none",
        concept_count=256,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if image_first and image_each_step:
            raise ValueError(
                "Captioner: the image vector is either the first input or an input at every step; "
                "received image_first=True and image_each_step=True."
            )
        if concepts not in CONCEPTS:
            raise ValueError(
                f"Captioner: `concepts` must be one of {', '.join(CONCEPTS)}; received "
                f"{concepts!r}."
            )
        if cell.attention.needs_concepts and concepts != "attributes":
            raise ValueError(
                f"Captioner: {type(cell.attention).__name__} needs concepts='attributes'; received "
                f"{concepts!r}."
            )
        self.backbone = backbone
        self.regions = regions
        self.cell = cell
        self.dropout = dropout
        self.region_dropout = region_dropout
        self.label_smoothing = label_smoothing
        self.from_scratch = from_scratch
        self.image_first = image_first
        self.image_each_step = image_each_step
        self.feature_length = feature_length
        self.seed = seed
        self.region_backbone = region_backbone
        self.concepts = concepts
        self.concept_count = concept_count
        for name, layer in make_image_layers(self).items():
            setattr(self, name, layer)
        self.seeds = keras.random.SeedGenerator(seed)

    @property
    def attention(self):
        """The attention layer, which contains the word embeddings."""
        return self.cell.attention

    @property
    def starts_with_attributes(self):
        """Whether predicted attributes take the place of the image vector."""
        return self.concepts == "attributes" and not self.attention.needs_concepts

    @property
    def backbone_trainable_variables(self):
        """Trainable weights of the backbone and of the region backbone, if it exists."""
        own = self.backbone.trainable_variables
        return own + (self.region_backbone.trainable_variables if self.region_backbone else [])

    def build(self, inputs_shape=None):
        if self.built:
            return
        build_image_layers(self, self.backbone.output["vector"].shape)
        if not self.regions.built and self.region_backbone is None:
            self.regions.build(self.backbone.output["map"].shape)
        if not self.cell.built:  # loading a saved model builds the cell first
            self.cell.build((None, self.attention.embedding_dim))
        self.built = True

    def encode(self, inputs, training=False, stride=None):
        """Compute the regions of images, and the cell's states before the first word.

        Args:
            inputs: Tensor of images, or the dictionary that `call` receives, which then needs no
                captions.
            training: Whether to apply dropout and to update the batch-norm statistics.
            stride: Step between regions on the map. By default, the region layer's own stride.

        Returns:
            `EncodedImages`.
        """
        if not isinstance(inputs, dict):
            inputs = {"images": inputs}
        features = inputs.get("features")
        if features is None:
            features = self.extract_features(inputs, training)
        return self.encode_features(features, inputs.get("proposals"), training, stride)

    def extract_features(self, inputs, training=False):
        """Compute the activation maps and vectors of images, as `{"map": …, "vector": …}`."""
        # A pretrained network keeps its statistics: batches of captions contain too few images.
        training = training and self.from_scratch
        features = self.backbone(inputs["images"], training=training)
        if self.region_backbone is None:
            return features
        activations = self.region_backbone(inputs["region_images"], training=training)
        return {"map": activations, "vector": features["vector"]}

    def encode_features(self, features, proposals=None, training=False, stride=None):
        """Encode images as `encode` does, but from the output of `extract_features`."""
        return self.encode_regions(*self.make_regions(features, proposals, training, stride))

    def make_regions(self, features, proposals=None, training=False, stride=None):
        """Return the `Regions` and the vectors of images, scaled and after dropout if training."""
        if self.region_backbone is None:
            regions = self.regions(features["map"], stride=stride)
        else:
            regions = self.regions(features["map"], proposals)
        wide = wide_dtype(self.cell.compute_dtype)
        region_features = ops.cast(regions.features, wide)
        vector = ops.cast(features["vector"], wide)
        if self.feature_length:
            region_features = scale_to_length(region_features, self.feature_length)
            vector = scale_to_length(vector, self.feature_length)
        if training and self.region_dropout:
            noise_shape = (ops.shape(region_features)[0], 1, region_features.shape[-1])
            region_features = keras.random.dropout(
                region_features, self.region_dropout, noise_shape, seed=self.seeds
            )
        if training and self.dropout:
            vector = keras.random.dropout(vector, self.dropout, seed=self.seeds)
        return regions._replace(features=region_features), vector

    def encode_regions(self, regions, vector):
        """Encode images as `encode` does, but from the output of `make_regions`."""
        inputs = image_inputs(self, vector)
        concepts = {"concepts": inputs.probs} if self.attention.needs_concepts else {}
        memory = self.attention.precompute(regions.features, regions.mask, **concepts)
        image, memory = inputs.start, memory._replace(step_gates=inputs.step_gates)
        start = image
        if self.image_first or self.image_each_step:
            start = ops.zeros((ops.shape(image)[0], 1, self.cell.units))
        state, attended = self.cell.start(start, memory)
        if self.image_first:
            gates = self.cell.project(image, memory)
            step = self.cell.step(image, gates, (state, attended), memory)
            state, attended = step.state, step.attended
        return EncodedImages(memory, state, attended, regions.boxes, regions.mask, inputs.logits)

    def call(self, inputs, training=False):
        return self.decode(self.encode(inputs, training), inputs, training).log_probs

    def decode(self, encoded, inputs, training=False):
        """Return the `DecodedCaptions` of a call's inputs, given their `encoded` images."""
        captions = ops.cast(inputs["captions"], "int32")
        smoothing = self.label_smoothing if training else 0.0
        if training and self.attention.samples_regions:
            encoded = encoded._replace(memory=with_noise(encoded.memory, captions, self.seeds))
        return decode_captions(self, encoded, captions, training, inputs.get("fed"), smoothing)

    def dropout_masks(self, images, count, time):
        """Return random dropout masks for input words `(n, c, t, e)` and states `(n, c, t, u)`."""
        widths = self.attention.embedding_dim, self.cell.units
        return tuple(
            keras.random.dropout(
                ops.ones((images, count, time, width)), self.dropout, seed=self.seeds
            )
            for width in widths
        )

    def decode_step(self, ids, state, attended, memory, dropout=(None, None)):
        """Feed one word of each caption to the cell and predict the next word.

        Args:
            ids: Ids of the input words, `(n, c)`; START in the first step.
            state: State before the input word, `(n, c, u)`.
            attended: Region vector before the input word, `(n, c, f)`.
            memory: The images' `ImageMemory`.
            dropout: Dropout masks for the words `(n, c, e)` and the states `(n, c, u)`, or None.

        Returns:
            The new `state`, the new `attended`, log p `(n, c, w)` of the next word, and p(r)
            `(n, c, r)` for the new state.
        """
        words = self.attention.embed(ids)
        word_dropout, state_dropout = dropout
        if word_dropout is not None:
            words = words * word_dropout
        word_gates = self.cell.project(words, memory)
        step = self.cell.step(words, word_gates, (state, attended), memory, state_dropout)
        log_probs, region_probs = self.attention.log_probs(step.output, memory, step.scores)
        return step.state, step.attended, log_probs, region_probs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return caption_loss(y_pred, x["captions"])

    def get_config(self):
        return {
            **super().get_config(),
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in PARTS},
            "dropout": self.dropout,
            "region_dropout": self.region_dropout,
            "label_smoothing": self.label_smoothing,
            "from_scratch": self.from_scratch,
            "image_first": self.image_first,
            "image_each_step": self.image_each_step,
            "concepts": self.concepts,
            "concept_count": self.concept_count,
            "feature_length": self.feature_length,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in PARTS}
        return cls(**{**config, **parts})
