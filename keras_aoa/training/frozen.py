"""Stage 1 on features that the frozen network made once, in place of images."""

import hashlib
import json
import re
from dataclasses import asdict

import numpy as np
import tensorflow as tf

from keras_aoa.data.features import FeatureFiles, ImageFeatures
from keras_aoa.models.build import uses_backbone_filter


def frozen_features(run, captioner, images, mirrored=()):
    """A split's images as the captioner's networks see them, computed where they are missing.

    Args:
        run: `Run` whose configuration's `feature_cache` is not `none`.
        captioner: `Captioner`, whose networks are not trained as long as this is used.
        images: `Images`.
        mirrored: Places of the images that are also wanted mirrored.

    Returns:
        `ImageFeatures`.
    """
    configuration, view = run.configuration, run.proposal_view
    described = {
        # Weights alone do not tell which of its layers hand on the features.
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
    files = FeatureFiles(run.folder.parent / "data", described, configuration.feature_cache)
    # One for each shape of batches: which files there are already must not change the others.
    see = tf.function(captioner.see, autograph=False)

    def network(batch):
        return see({name: batch[name] for name in ("images", "region_images") if name in batch})

    return ImageFeatures(images, files, network, mirrored)


def fingerprint(network):
    """What tells a network from others: its weights and layers, less Keras's running numbers."""
    layers = re.sub(r"_\d+", "", json.dumps(network.get_config(), sort_keys=True, default=str))
    digest = hashlib.sha256(layers.encode())
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()
