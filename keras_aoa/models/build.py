"""From settings to a captioner, the same way for training, evaluation and export."""

import keras

from keras_aoa.layers import GridRegions, MeanRegion, ProposalRegions, TransformerRegions
from keras_aoa.models.backbone_parts import convolutional_part, map_filter
from keras_aoa.models.backbones import BackboneSettings, is_pretrained
from keras_aoa.models.captioner import Captioner, make_cell


def backbone_settings(configuration):
    """Which network a `Configuration` asks for."""
    return BackboneSettings(
        configuration.backbone,
        configuration.image_size,
        configuration.preprocessing,
        configuration.map_layer,
        configuration.vector_layer,
        configuration.backbone_weights,
        before_map=uses_backbone_filter(configuration),
    )


def make_captioner(configuration, backbone, vocabulary_size):
    """Put a captioner together as a `Configuration` says.

    Args:
        configuration: Anything with the settings of `training.configuration.Configuration`.
        backbone: Model from pixels to `{"map", "vector"}`.
        vocabulary_size: Number of ids.

    Returns:
        A built `Captioner`.
    """
    regions = make_regions(configuration, backbone)
    has_proposals = configuration.regions == "proposals"
    captioner = Captioner(
        backbone,
        regions,
        make_cell(
            configuration.units,
            getattr(regions, "features", None) or backbone.output["map"].shape[-1],
            vocabulary_size,
            configuration.embedding_dim,
            configuration.variant,
            configuration.tied,
            dtype_policy(configuration),
        ),
        dropout=configuration.dropout,
        region_dropout=configuration.region_dropout,
        from_scratch=not is_pretrained(configuration.backbone, configuration.backbone_weights),
        image_first=configuration.image_first,
        feature_length=configuration.feature_length,
        seed=configuration.seed,
        region_backbone=convolutional_part(backbone) if has_proposals else None,
    )
    captioner.build()
    return captioner


def make_regions(configuration, backbone):
    """The layer that makes a configuration's kind of regions, with the weights it starts from."""
    if configuration.regions == "proposals":
        return ProposalRegions()
    if configuration.regions == "grid":
        return GridRegions(configuration.stride)
    if configuration.regions == "mean":
        return MeanRegion(configuration.stride)
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
    """Of what decodes: its products may be in 16 bits; weights, states and sums are in 32."""
    return "mixed_bfloat16" if configuration.precision == "bfloat16" else keras.config.floatx()


def uses_backbone_filter(configuration):
    """Whether the regions' filter is the convolution that makes the backbone's map."""
    return configuration.regions == "transformer" and configuration.transformer_filter == "backbone"
