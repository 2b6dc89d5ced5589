"""Builds a captioner from settings, the same way for training, evaluation and export."""

import keras

from keras_aoa.data.text.vocabulary import PAD, START
from keras_aoa.layers import (
    AreaAttention,
    AttentionGRUCell,
    GridRegions,
    HardAttention,
    MeanRegion,
    ProposalRegions,
    ReviewAttention,
    SemanticAttention,
    SoftAttention,
    TransformerRegions,
)
from keras_aoa.layers.attention import VARIANTS
from keras_aoa.models.backbone_parts import convolutional_part, map_filter
from keras_aoa.models.backbones import BackboneSettings, is_pretrained
from keras_aoa.models.captioner import Captioner

# For each value of the setting `variant`: the class of the attention, and extra arguments.
ATTENTIONS = {
    **{variant: (AreaAttention, {"variant": variant}) for variant in VARIANTS},
    "soft": (SoftAttention, {}),
    "semantic": (SemanticAttention, {}),
    "hard": (HardAttention, {}),
    "review": (ReviewAttention, {}),
}
# For each variant with settings of its own: further arguments of its attention, and the settings.
ATTENTION_SETTINGS = {
    "soft": {"gate": "attention_gate"},
    "hard": {"gate": "attention_gate"},
    "review": {"steps": "review_steps"},
}


def backbone_settings(configuration):
    """Return the `BackboneSettings` of a `Configuration`."""
    return BackboneSettings(
        configuration.backbone,
        configuration.image_size,
        configuration.preprocessing,
        configuration.map_layer,
        configuration.vector_layer,
        configuration.backbone_weights,
        before_map=uses_backbone_filter(configuration),
    )


def make_captioner(configuration, backbone, vocabulary_size, concept_ids=()):
    """Build the captioner that a `Configuration` describes.

    Args:
        configuration: `Configuration`.
        backbone: Model that `make_backbone` returned.
        vocabulary_size: Number of word ids.
        concept_ids: Word ids of the attributes, if the captioner predicts attributes.

    Returns:
        A built `Captioner`.
    """
    regions = make_regions(configuration, backbone)
    has_proposals = configuration.regions == "proposals"
    cell = make_cell(
        units=configuration.units,
        region_dim=getattr(regions, "features", None) or backbone.output["map"].shape[-1],
        vocabulary_size=vocabulary_size,
        embedding_dim=configuration.embedding_dim,
        variant=configuration.variant,
        tied=configuration.tied,
        dtype=dtype_policy(configuration),
        **attention_options(configuration),
        **({"concept_ids": concept_ids} if configuration.variant == "semantic" else {}),
    )
    captioner = Captioner(
        backbone,
        regions,
        cell,
        dropout=configuration.dropout,
        region_dropout=configuration.region_dropout,
        label_smoothing=configuration.label_smoothing,
        from_scratch=not is_pretrained(configuration.backbone, configuration.backbone_weights),
        image_first=configuration.image_first,
        image_each_step=configuration.image_each_step,
        concepts=configuration.concepts,
        concept_count=configuration.concept_count,
        feature_length=configuration.feature_length,
        seed=configuration.seed,
        region_backbone=convolutional_part(backbone) if has_proposals else None,
    )
    captioner.build()
    return captioner


def attention_options(configuration):
    """Return the arguments that only the attention of the configured variant has."""
    own = ATTENTION_SETTINGS.get(configuration.variant, {})
    return {argument: getattr(configuration, setting) for argument, setting in own.items()}


def make_cell(
    units,
    region_dim,
    vocabulary_size,
    embedding_dim,
    variant="full",
    tied=True,
    dtype=None,
    **options,
):
    """Build the recurrent cell and its attention, which never predicts PAD or START.

    `options` are further arguments of the attention. The attention must not scale the regions,
    because `Captioner` already scales them before dropout.
    """
    attention_class, arguments = ATTENTIONS[variant]
    attention = attention_class(
        vocabulary_size,
        embedding_dim,
        never_predicted=(PAD, START),
        tied=tied,
        feature_length=0.0,
        dtype=dtype,
        **arguments,
        **options,
    )
    return AttentionGRUCell(units, region_dim, attention, dtype=dtype)


def make_regions(configuration, backbone):
    """Build the region layer that a `Configuration` describes, with its initial weights."""
    return REGIONS[configuration.regions](configuration, backbone)


def make_transformer_regions(configuration, backbone):
    """Build `TransformerRegions`, with the backbone's filter if the configuration selects it."""
    options = {
        "stride": configuration.stride,
        "anchor_scale": configuration.anchor_scale,
        "rotation": configuration.rotation,
        "border": configuration.border,
        "dtype": dtype_policy(configuration),
    }
    if not uses_backbone_filter(configuration):
        return TransformerRegions(**options)
    convolution = map_filter(backbone)
    regions = TransformerRegions(
        features=convolution.filters, activation=convolution.activation, **options
    )
    regions.build(backbone.output["map"].shape)
    regions.set_filter(convolution.kernel, convolution.bias)
    return regions


def dtype_policy(configuration):
    """Return the decoder's dtype policy. Even in `bfloat16`, weights and sums have 32 bits."""
    return "mixed_bfloat16" if configuration.precision == "bfloat16" else keras.config.floatx()


def uses_backbone_filter(configuration):
    """Whether `TransformerRegions` copies its filter from a convolution of the backbone."""
    return configuration.regions == "transformer" and configuration.transformer_filter == "backbone"


# For each value of the setting `regions`: the function that builds the region layer.
REGIONS = {
    "grid": lambda configuration, _: GridRegions(configuration.stride),
    "mean": lambda configuration, _: MeanRegion(configuration.stride),
    "transformer": make_transformer_regions,
    "proposals": lambda *_: ProposalRegions(),
}
