"""All settings of a run, grouped by topic, with their defaults, units and ranges.

`Configuration` inherits all groups, so that it has every setting as an attribute. `--help` prints
the settings by group. Each subclass of `Group` checks the values of its own settings.
"""

import pathlib
from dataclasses import dataclass
from typing import ClassVar, Literal

from keras_aoa.settings.search import MAX_PROPOSALS
from keras_aoa.utils.errors import UserError


class Group:
    """Base class of a group of settings.

    Attributes:
        minimum: Dictionary that maps the names of settings to their smallest allowed values.
        positive: Names of the settings that must be more than 0.
        rates: Names of the settings that must be at least 0 and below 1.
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
    """Name and folder of the run."""

    name: str = "scenes"
    """Name of the run, which is stored in the folder OUTPUT/NAME."""
    output: str = "runs"
    """Folder that contains all runs."""

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
    """Folder of the images. Not needed if the images are in the folder of the captions."""
    select_images: int = 0
    """Number of training images to hold out for selecting the best weights; 0 uses SELECT_SPLIT."""
    select_split: str = "val"
    """Split for selecting the best weights, if SELECT_IMAGES is 0."""
    test_split: str = "test"
    """Split to score once, at the end of training."""
    scenes_images: int = 3000
    """Number of training scenes to draw."""
    scenes_seed: int = 0
    """Random seed of the drawn scenes."""
    restval: bool = True
    """Also train on the 30,504 images that Karpathy's COCO splits call 'restval'."""
    minimum_count: int = 5
    """Minimum count of a word in the training captions; rarer words are not in the vocabulary."""
    captions_per_image: int = 5
    """Number of captions per image in a training step. If an image has more captions, they are
    chosen at random."""
    max_words: int = 20
    """Maximum length of a caption in words; longer training captions are truncated."""

    minimum: ClassVar[dict] = {
        "select_images": 0,
        "scenes_images": 1,
        "minimum_count": 1,
        "captions_per_image": 1,
        "max_words": 1,
    }


@dataclass(frozen=True)
class ImageInputSettings(Group):
    """Size, augmentation and caching of images."""

    image_size: int = 224
    """Side of the network's square input, in pixels."""
    fit: Literal["crop", "stretch"] = "crop"
    """How an image becomes square. 'crop' scales the short side and crops the center. 'stretch'
    scales both sides."""
    flip: bool = False
    """Mirror training images at random, except images whose captions say left or right."""
    crop: float = 1.0
    """Smallest share of an image's area that a random crop keeps in training; 1 disables crops."""
    cache_gigabytes: float = 4.0
    """Memory for decoded images, in GB per split. A split that needs more memory is read again in
    every epoch."""
    feature_cache: Literal["none", "float16", "bfloat16"] = "none"
    """Number format in which stage 1 caches the features of the frozen network, in OUTPUT/data.
    With VGG16, an image takes 0.2 MB, or 0.8 MB if the regions are proposals. With flip, an image
    takes up to twice as much."""

    cached_views: int = 1
    """Number of views of a training image in the feature cache. The first view is the whole image.
    The other views are random crops, as `crop` allows. Each epoch uses a random view."""

    minimum: ClassVar[dict] = {"cache_gigabytes": 0, "cached_views": 1}

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
    on other scenes), a network of keras.applications, EfficientNetLite0, 1 or 2 (weights from pip),
    or a .keras file."""
    preprocessing: str = ""
    """Pixel format of a .keras network: caffe, tf, torch, unit (0..1) or raw (0..255)."""
    map_layer: str = ""
    """Layer that outputs the activation map. Default: conv5_3 for VGG16, else the last layer that
    outputs a map."""
    vector_layer: str = ""
    """Layer that outputs the image vector, or 'mean' to average the map. Default: fc7 for VGG16,
    else 'mean'."""
    backbone_weights: str = "imagenet"
    """Weights of a network that is selected by name: 'imagenet', 'none' (random), or a file."""


@dataclass(frozen=True)
class RegionSettings(Group):
    """Regions that the decoder attends to."""

    regions: Literal["grid", "transformer", "proposals", "mean"] = "grid"
    """Kind of regions: cells of the activation map, boxes moved by a spatial transformer, object
    proposals, or only the mean of the map (attention with equal weights)."""
    stride: int = 2
    """Distance between neighboring regions in training, in cells of the activation map. Not for
    proposals."""
    test_stride: int = 1
    """Distance between neighboring regions in evaluation and captioning, in cells. Not for
    proposals."""
    anchor_scale: float = 2.0
    """Initial size of a spatial transformer's boxes, relative to 3x3 cells."""
    rotation: bool = True
    """Allow a spatial transformer's boxes to rotate and shear."""
    border: Literal["zero", "replicate"] = "zero"
    """What a spatial transformer reads outside the map. 'zero' reads zeros. 'replicate' reads the
    nearest border cell, as the authors' code does."""
    transformer_filter: Literal["backbone", "own"] = "backbone"
    """3x3 convolution that is applied to a spatial transformer's boxes. 'backbone' copies the layer
    that computes the map (conv5_3 in VGG16). 'own' learns a new convolution, which initially
    returns the center of a box."""
    train_proposals: int = 50
    """Number of object proposals per image in training. They are chosen at random."""
    test_proposals: int = 1000
    """Number of highest-scoring proposals per image in evaluation and captioning; at most 2000."""
    proposals_size: int = 300
    """Length in pixels to which an image's short side is scaled before proposals are pooled."""
    proposals_fit: Literal["pad", "stretch"] = "pad"
    """How an image becomes square for proposals. 'pad' pads it to a square whose side is 1.5 times
    the image's short side. 'stretch' scales both sides."""
    edge_model: str = ""
    """File of the structured forest that detects edges for proposals. Without a file, edges are
    image gradients."""
    feature_length: float = 4.0
    """L2 norm to which region features and the image vector are scaled; 0 disables the scaling. The
    paper's equations contain no scaling. The authors' code scales to 1."""

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
    """Recurrent network that writes captions, and its attention."""

    variant: Literal[
        "baseline", "word_region", "word_region_state", "conditional", "full", "soft"
    ] = "full"
    """Model variant: a row of the paper's Table 1, or 'soft', the attention of Xu et al. (2015)."""
    units: int = 512
    """Size of the recurrent state."""
    embedding_dim: int = 512
    """Size of the word embeddings."""
    tied: bool = True
    """Use the same matrix for input words and output words. The authors' code has two matrices."""
    image_first: bool = False
    """False: the image vector is the initial state. True: the initial state is zero and the image
    vector is the first input, as in the authors' code."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the decoder's matrix products. Weights, states and sums remain float32."""

    minimum: ClassVar[dict] = {"units": 1, "embedding_dim": 1}


@dataclass(frozen=True)
class TrainingSettings(Group):
    """Optimization, regularization, checkpoints and devices."""

    start_from: str = ""
    """Folder of another run. Training starts from the weights of that run."""
    rnn_epochs: int = 20
    """Number of epochs of stage 1, in which the backbone is frozen."""
    joint_epochs: int = 0
    """Number of epochs of stage 2, in which the backbone is trained too."""
    batch_size: int = 10
    """Number of images in a training step, over all replicas together."""
    learning_rate: float = 5e-4
    """Adam's learning rate for all weights except the backbone's weights."""
    backbone_learning_rate: float = 1e-5
    """Adam's learning rate for the backbone in stage 2."""
    decay: Literal["none", "cosine"] = "none"
    """Schedule of both learning rates: constant, or a cosine decay to 0 over all epochs."""
    warmup_steps: int = 0
    """Number of steps in which both learning rates rise from 0 at the start of training."""
    average: float = 0.0
    """Decay of the exponential moving average of the weights. The average is evaluated instead of
    the weights. 0 disables the average."""
    dropout: float = 0.5
    """Dropout rate of words, states and the image vector."""
    region_dropout: float = 0.0
    """Dropout rate of region features. All regions of an image share one mask."""
    scheduled_sampling: float = 0.0
    """Scheduled sampling (Bengio et al., 2015): share of input words that are sampled from the
    model instead of taken from the caption. The share rises linearly from 0 to this value."""
    clip_norm: float = 5.0
    """Largest global norm of the gradients. Gradients with a larger norm are scaled down."""
    seed: int = 0
    """Random seed of initial weights, data order, mirroring and dropout."""
    minutes: float = 0.0
    """Time limit in minutes. Training stops after the epoch that exceeds the limit. 0: no limit."""
    checkpoint_steps: int = 1000
    """Number of steps between checkpoints. A checkpoint is also written after each epoch."""
    validate_every: int = 1
    """Number of epochs between validations. The weights with the best CIDEr are kept."""
    distribution: Literal["auto", "one", "mirrored", "workers"] = "auto"
    """Devices for training. 'one' uses one device, 'mirrored' all GPUs of this machine, and
    'workers' the processes in TF_CONFIG. 'auto' uses workers if TF_CONFIG is set, else all GPUs,
    else the CPU."""

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
    """Beam size: number of hypotheses kept per image; 1 is greedy search."""
    length_penalty: float = 0.0
    """Exponent p of the length in the score that ranks captions, log-probability / length^p."""

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
