"""Cached features of the frozen backbone for stage 1, in place of images."""

import hashlib
import json
import re
from dataclasses import asdict

import numpy as np
import tensorflow as tf

from keras_aoa.data.features import FeatureFiles, ImageFeatures
from keras_aoa.models.build import uses_backbone_filter


def frozen_features(run, captioner, images, mirrored=()):
    """Backbone features of a split's images; missing ones are computed.

    Args:
        run: `Run` whose configuration's `feature_cache` is not `none`.
        captioner: `Captioner`. Its backbones must not be trained while the features are used.
        images: `Images`.
        mirrored: Indices of the images whose mirrored features are needed too.

    Returns:
        `ImageFeatures`.
    """
    configuration, view = run.configuration, run.proposal_view
    description = {
        # The weights do not determine which layers output the features.
        "layers": [
            configuration.map_layer,
            configuration.vector_layer,
            uses_backbone_filter(configuration),
        ],
        "networks": [
            fingerprint(network)
            for network in (captioner.backbone, captioner.region_backbone)
            if network is not None
        ],
        "images": asdict(run.image_settings),
        "region_images": asdict(view.settings) if view else None,
    }
    files = FeatureFiles(run.folder.parent / "data", description, configuration.feature_cache)
    # One trace per batch shape: features must not depend on which files already exist.
    extract = tf.function(captioner.extract_features, autograph=False)

    def network(batch):
        names = ("images", "region_images")
        return extract({name: batch[name] for name in names if name in batch})

    return ImageFeatures(images, files, network, mirrored)


def fingerprint(network):
    """Digest of a network's weights and layers, without the numbers Keras adds to names."""
    layers = re.sub(r"_\d+", "", json.dumps(network.get_config(), sort_keys=True, default=str))
    digest = hashlib.sha256(layers.encode())
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()
