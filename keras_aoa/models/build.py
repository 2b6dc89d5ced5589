"""From settings to a captioner, the same way for training, evaluation and export."""

from keras_aoa.layers import GridRegions
from keras_aoa.models.backbones import is_pretrained
from keras_aoa.models.captioner import Captioner, make_cell


def make_captioner(configuration, backbone, vocabulary_size):
    """Put a captioner together as a `Configuration` says.

    Args:
        configuration: Anything with the settings of `training.configuration.Configuration`.
        backbone: Model from pixels to `{"map", "vector"}`.
        vocabulary_size: Number of ids.

    Returns:
        A built `Captioner`.
    """
    captioner = Captioner(
        backbone,
        GridRegions(configuration.stride),
        make_cell(
            configuration.units,
            backbone.output["map"].shape[-1],
            vocabulary_size,
            configuration.embedding_dim,
            configuration.variant,
            configuration.tied,
        ),
        dropout=configuration.dropout,
        region_dropout=configuration.region_dropout,
        from_scratch=not is_pretrained(configuration.backbone, configuration.backbone_weights),
        image_first=configuration.image_first,
        feature_length=configuration.feature_length,
        seed=configuration.seed,
    )
    captioner.build()
    return captioner
