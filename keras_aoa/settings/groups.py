"""All settings of a run by topic, with their defaults, units and ranges.

`Configuration` inherits these groups, so every setting is a flat name. `--help` shows the groups.
A subclass of `Group` checks what its own settings allow.
"""

import pathlib
from dataclasses import dataclass
from typing import ClassVar, Literal

from keras_aoa.settings.search import MAX_PROPOSALS
from keras_aoa.utils.errors import UserError


class Group:
    """Base class of a group of settings.

    Attributes:
        minimum: Smallest value of a setting, by its name.
        positive: Names of settings that must be more than 0.
        rates: Names of settings that must be at least 0 and below 1.
    """

    minimum: ClassVar[dict] = {}
    positive: ClassVar[tuple] = ()
    rates: ClassVar[tuple] = ()

    @classmethod
    def check(cls, settings):
        """Check each setting of this group on its own.

        Args:
            settings: Object with the settings as attributes.

        Raises:
            UserError: a value is out of range.
        """
        for name, minimum in cls.minimum.items():
            _require(settings, name, getattr(settings, name) >= minimum, f"at least {minimum}")
        for name in cls.positive:
            _require(settings, name, getattr(settings, name) > 0, "more than 0")
        for name in cls.rates:
            _require(settings, name, 0 <= getattr(settings, name) < 1, "at least 0 and below 1")


def _require(settings, name, holds, expected):
    if not holds:
        raise UserError(f"{name}: expected {expected}, received {getattr(settings, name)}.")


@dataclass(frozen=True)
class RunSettings(Group):
    """Where the run is stored."""

    name: str = "scenes"
    """Name of the run; its folder is OUTPUT/NAME."""
    output: str = "runs"
    """Folder of all runs."""

    @classmethod
    def check(cls, settings):
        if settings.name in ("", "..") or pathlib.Path(settings.name).name != settings.name:
            raise UserError(f"name: expected a folder's name, received {settings.name!r}.")


@dataclass(frozen=True)
class DataSettings(Group):
    """Data set, splits, vocabulary and captions."""

    data: str = "scenes"
    """'scenes' (drawn by the program), or a folder or file of captioned photographs."""
    images: str = ""
    """Folder of the images, if it is not beside the captions."""
    select_images: int = 0
    """Images held out of the training split to select the checkpoint; 0 uses SELECT_SPLIT."""
    select_split: str = "val"
    """Split that selects the checkpoint if no images are held out."""
    test_split: str = "test"
    """Split that is scored once, at the end of training."""
    scenes_images: int = 3000
    """Number of training scenes to draw."""
    scenes_seed: int = 0
    """Seed of the drawn scenes."""
    restval: bool = True
    """Also train on the 30,504 images that Karpathy's COCO splits call 'restval'."""
    minimum_count: int = 5
    """Minimum count of a word in the training captions; rarer words are not in the vocabulary."""
    captions_per_image: int = 5
    """Captions per image and step; chosen at random if an image has more."""
    max_words: int = 20
    """Maximum length of a caption in words; training cuts longer ones."""

    minimum: ClassVar[dict] = {
        "select_images": 0,
        "scenes_images": 1,
        "minimum_count": 1,
        "captions_per_image": 1,
        "max_words": 1,
    }


@dataclass(frozen=True)
class ImageInputSettings(Group):
    """Preparation, augmentation and caches of images."""

    image_size: int = 224
    """Side of the network's square input, in pixels."""
    fit: Literal["crop", "stretch"] = "crop"
    """'crop' scales the short side and crops the center; 'stretch' scales the whole image."""
    flip: bool = False
    """Mirror training images at random, except those whose captions say left or right."""
    crop: float = 1.0
    """Minimum share of an image's area kept by random crops in training; 1 disables them."""
    cache_gigabytes: float = 4.0
    """Memory for the decoded images of a split, in GB; a larger split is read every epoch."""
    feature_cache: Literal["none", "float16", "bfloat16"] = "none"
    """Cache the network's features on disk in OUTPUT/data while the network is frozen. They take
    2 bytes per number: 0.2 MB per image for VGG16, 0.8 for proposals; twice that with flip."""

    minimum: ClassVar[dict] = {"cache_gigabytes": 0}

    @classmethod
    def check(cls, settings):
        super().check(settings)
        _require(
            settings, "image_size", 16 <= settings.image_size <= 4096, "from 16 to 4096 pixels"
        )
        _require(settings, "crop", 0.05 <= settings.crop <= 1, "a share from 0.05 to 1")


@dataclass(frozen=True)
class NetworkSettings(Group):
    """Convolutional network that turns images into an activation map and a vector."""

    backbone: str = "VGG16"
    """'scenes' (small, trained from scratch), 'scenes-pretrained' (the same network, pretrained
    on other scenes), a network of keras.applications, or a .keras file."""
    preprocessing: str = ""
    """Pixel format of a .keras network: caffe, tf, torch, unit (0..1) or raw (0..255)."""
    map_layer: str = ""
    """Layer that outputs the activation map; the last one by default, conv5_3 for VGG16."""
    vector_layer: str = ""
    """Layer that outputs the image vector; 'mean' averages the map. fc7 for VGG16 by default."""
    backbone_weights: str = "imagenet"
    """'imagenet', 'none' or a weights file, for a network of keras.applications."""


@dataclass(frozen=True)
class RegionSettings(Group):
    """Regions that the decoder attends to."""

    regions: Literal["grid", "transformer", "proposals", "mean"] = "grid"
    """Kind of regions: cells of the activation map, boxes moved by a spatial transformer, object
    proposals, or only the mean of the map (attention with equal weights)."""
    stride: int = 2
    """Steps between regions on the activation map in training, in cells (not for proposals)."""
    test_stride: int = 1
    """Steps between regions in evaluation and captioning, in cells."""
    anchor_scale: float = 2.0
    """Initial size of a spatial transformer's boxes, relative to 3x3 cells."""
    rotation: bool = True
    """Let a spatial transformer's boxes rotate and shear."""
    border: Literal["zero", "replicate"] = "zero"
    """Values outside the map for a spatial transformer (the authors' code replicates)."""
    transformer_filter: Literal["backbone", "own"] = "backbone"
    """3x3 filter applied to a spatial transformer's boxes: the convolution that computes the
    backbone's map (VGG16: conv5_3), or one of its own, which initially passes the center point
    through."""
    train_proposals: int = 50
    """Object proposals per image in training, chosen at random."""
    test_proposals: int = 1000
    """Object proposals per image in evaluation and captioning, the best ones; at most 2000."""
    proposals_size: int = 300
    """Short side of the images from which proposals are pooled, in pixels."""
    proposals_fit: Literal["pad", "stretch"] = "pad"
    """'pad' fills the image up to a square of 1.5 times its short side; 'stretch' scales it to a
    square."""
    edge_model: str = ""
    """Structured-forest file that finds the edges of proposals; image gradients if empty."""
    feature_length: float = 4.0
    """L2 norm to which region features and the image vector are scaled. 0 disables scaling, as in
    the paper's equations; the authors' code scales to 1."""

    minimum: ClassVar[dict] = {
        "stride": 1,
        "test_stride": 1,
        "train_proposals": 1,
        "test_proposals": 1,
        "feature_length": 0,
    }
    positive: ClassVar[tuple] = ("anchor_scale",)

    @classmethod
    def check(cls, settings):
        super().check(settings)
        size = settings.proposals_size
        _require(settings, "proposals_size", 16 <= size <= 4096, "from 16 to 4096 pixels")
        most = f"at most {MAX_PROPOSALS}"
        _require(settings, "test_proposals", settings.test_proposals <= MAX_PROPOSALS, most)


@dataclass(frozen=True)
class DecoderSettings(Group):
    """Recurrent decoder and its attention."""

    variant: Literal[
        "baseline", "word_region", "word_region_state", "conditional", "full", "soft"
    ] = "full"
    """Row of the paper's Table 1, or the soft attention of Xu et al. (2015) in the same cell."""
    units: int = 512
    """Width of the recurrent state."""
    embedding_dim: int = 512
    """Width of the word embeddings."""
    tied: bool = True
    """One matrix embeds input words and scores output words (the authors' code has two)."""
    image_first: bool = False
    """Feed the image vector as the first input of a zero state, as the authors' code does, and
    not as the first state."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the decoder's matrix products; weights, states and sums stay in float32."""

    minimum: ClassVar[dict] = {"units": 1, "embedding_dim": 1}


@dataclass(frozen=True)
class TrainingSettings(Group):
    """Optimization, regularization, checkpoints and devices."""

    start_from: str = ""
    """Folder of a run that provides the initial weights."""
    rnn_epochs: int = 20
    """Epochs of stage 1, in which the backbone is frozen."""
    joint_epochs: int = 0
    """Epochs of stage 2, in which the backbone is trained too."""
    batch_size: int = 10
    """Images per step, over all replicas."""
    learning_rate: float = 5e-4
    """Adam's learning rate for everything except the backbone."""
    backbone_learning_rate: float = 1e-5
    """Adam's learning rate for the backbone in stage 2."""
    decay: Literal["none", "cosine"] = "none"
    """Schedule of both learning rates over all epochs: constant, or a half cosine down to 0."""
    warmup_steps: int = 0
    """Steps over which both learning rates rise from 0."""
    average: float = 0.0
    """EMA decay of the evaluated weights; 0 disables it."""
    dropout: float = 0.5
    """Dropout rate on words, states and the image vector."""
    region_dropout: float = 0.0
    """Dropout rate on region features; one mask for all regions of an image."""
    scheduled_sampling: float = 0.0
    """Final share of input words that the model samples itself in training (Bengio et al., 2015);
    the share rises from 0 in proportion to the steps."""
    clip_norm: float = 5.0
    """Global-norm clipping threshold of the gradients."""
    seed: int = 0
    """Seed of weights, data order, mirroring and dropout."""
    minutes: float = 0.0
    """Stop training at the first epoch that ends after so many minutes; 0 disables the limit."""
    checkpoint_steps: int = 1000
    """Steps between checkpoints within an epoch; each epoch also ends with one."""
    validate_every: int = 1
    """Epochs between validations; the weights with the best CIDEr are kept."""
    distribution: Literal["auto", "one", "mirrored", "workers"] = "auto"
    """Devices that train: 'one'; 'mirrored', all GPUs of this machine; 'workers', the processes
    in TF_CONFIG; 'auto' takes workers if TF_CONFIG is set, else all GPUs, else the CPU."""

    minimum: ClassVar[dict] = {
        "rnn_epochs": 0,
        "joint_epochs": 0,
        "batch_size": 1,
        "warmup_steps": 0,
        "minutes": 0,
        "validate_every": 1,
        "seed": 0,
        "checkpoint_steps": 1,
    }
    positive: ClassVar[tuple] = ("learning_rate", "backbone_learning_rate", "clip_norm")
    rates: ClassVar[tuple] = ("dropout", "region_dropout", "average")

    @classmethod
    def check(cls, settings):
        super().check(settings)
        share = settings.scheduled_sampling
        _require(settings, "scheduled_sampling", 0 <= share <= 1, "a share from 0 to 1")
        if settings.rnn_epochs + settings.joint_epochs < 1:
            raise UserError("rnn_epochs, joint_epochs: both are 0; set one of them to 1 or more.")


@dataclass(frozen=True)
class SearchDefaults(Group):
    """Search for captions, in validation, evaluation and captioning."""

    beam: int = 3
    """Beam size: hypotheses kept per image; 1 is greedy search."""
    length_penalty: float = 0.0
    """Captions are ranked by log-probability divided by length to this power."""

    minimum: ClassVar[dict] = {"beam": 1}


GROUPS = {
    "run": RunSettings,
    "data": DataSettings,
    "images": ImageInputSettings,
    "network": NetworkSettings,
    "regions": RegionSettings,
    "decoder": DecoderSettings,
    "training": TrainingSettings,
    "search": SearchDefaults,
}
