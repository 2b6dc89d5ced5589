"""Presets: named configurations for data sets and computing budgets."""

from keras_aoa.settings.configuration import Configuration

SCENES = {
    "data": "scenes",
    "minimum_count": 1,
    "image_size": 96,
    "fit": "stretch",
    "backbone": "scenes",
    "stride": 1,
    "units": 256,
    "embedding_dim": 128,
    "rnn_epochs": 0,
    "batch_size": 10,
    "learning_rate": 3e-3,
    "backbone_learning_rate": 3e-3,
    "decay": "cosine",
    "warmup_steps": 100,
    "dropout": 0.0,
    "transformer_filter": "own",
    "proposals_size": 128,
    "proposals_fit": "stretch",
    "concept_count": 80,  # scenes have about 100 content words
}

# The network is pretrained on other scenes, as networks for photographs are on ImageNet. These runs
# contain only stage 1, which takes minutes on two cores. Runs of stage 2 start from their weights.
STUDY = {
    **SCENES,
    "backbone": "scenes-pretrained",
    "scenes_images": 4000,
    "rnn_epochs": 4,
    "backbone_learning_rate": 1e-3,
    "validate_every": 2,
}

FLICKR8K = {
    "backbone": "EfficientNetLite2",
    "image_size": 260,
    "stride": 1,
    "feature_cache": "float16",
    "minimum_count": 4,
    "fit": "stretch",
    "flip": True,
    "region_dropout": 0.3,
    "transformer_filter": "own",  # the network's last map does not come from a 3x3 convolution
    "rnn_epochs": 8,
    "learning_rate": 1e-3,
    "decay": "cosine",
    "warmup_steps": 100,
    "average": 0.998,
    "reward_temperature": 0.3,  # 1 samples many improbable words
    "beam": 5,
    "length_penalty": 0.7,
    "validate_every": 4,
}

# Section 4.1 of the paper: words that occur at least 10 times, 512 units, 7x7 regions in training
# and 14x14 in testing, 50 and 1,000 proposals, Adam, two stages. Section 4.2: the same for
# Flickr30k. The paper does not contain learning rates and numbers of epochs.
OF_THE_PAPER = {"restval": False, "minimum_count": 10, "rnn_epochs": 15, "joint_epochs": 10}
PAPER = ("coco", "flickr30k")

PRESETS = {
    "scenes": Configuration(**SCENES, name="scenes", scenes_images=7500, joint_epochs=4),
    "scenes-full": Configuration(**SCENES, name="scenes-full", scenes_images=15000, joint_epochs=5),
    "study": Configuration(**STUDY, name="study"),
    "flickr8k": Configuration(**FLICKR8K, name="flickr8k", data="data/flickr8k"),
    **{name: Configuration(**OF_THE_PAPER, name=name, data=f"data/{name}") for name in PAPER},
}
"""Configurations by preset name; `scenes` is the default of `train.py`."""
