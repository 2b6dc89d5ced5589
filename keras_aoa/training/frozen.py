"""Caches the features of the frozen backbone. Stage 1 reads the features instead of images."""

import hashlib
import json
import math
import re
from dataclasses import asdict

import numpy as np
import tensorflow as tf

from keras_aoa.data.features import BATCH, FeatureFiles, ImageFeatures
from keras_aoa.data.images.split_images import VIEWS
from keras_aoa.data.images.views import NetworkViews
from keras_aoa.models.build import uses_backbone_filter


def frozen_features(run, captioner, images, mirrored=(), views=None):
    """Return the backbone's features of images. Features that are not cached are computed.

    Args:
        run: `Run` whose setting `feature_cache` is not `none`.
        captioner: `Captioner`. The backbones must stay frozen while the features are used.
        images: `Images`.
        mirrored: Indices of the images that also need features of their mirror image.
        views: Parts of the images, as returned by `CaptionBatches.fixed_views`; by default, whole
            images.

    Returns:
        `ImageFeatures`.
    """
    configuration, view = run.configuration, run.proposal_view
    description = {
        # Networks with equal weights can output the features of different layers.
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
    files = FeatureFiles(run.all_runs / "data", description, configuration.feature_cache)
    # One trace per batch shape: a trace for several shapes rounds differently. Features would
    # depend on which files already exist.
    extract = tf.function(captioner.extract_features, autograph=False)

    def network(batch):
        return extract({name: batch[name] for name in VIEWS if name in batch})

    def image_bytes():
        shapes = NetworkViews(run.image_settings, view.settings if view else None).shapes
        specs = {name: tf.TensorSpec((BATCH, *shapes[name])) for name in VIEWS if name in shapes}
        outputs = extract.get_concrete_function(specs).structured_outputs
        return sum(2 * math.prod(output.shape[1:]) for output in outputs.values())

    return ImageFeatures(images, files, network, mirrored, views, image_bytes)


def fingerprint(network):
    """Return a digest of a network's weights and layers.

    The numbers that Keras adds to layer names do not affect the digest.
    """
    layers = re.sub(r"_\d+", "", json.dumps(network.get_config(), sort_keys=True, default=str))
    digest = hashlib.sha256(layers.encode())
    for weight in network.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()
