"""Settings of a run's data and model, grouped by topic, with their defaults, units and ranges.

`Configuration` inherits all groups, so that it has every setting as an attribute. `--help` prints
the settings by group. Each subclass of `Group` checks the values of its own settings.
"""

import math
import pathlib
from dataclasses import dataclass
from typing import ClassVar, Literal

from keras_aoa.settings.search import MAX_PROPOSALS
from keras_aoa.utils.errors import UserError

# Variants whose attention weights all regions equally.
UNIFORM_VARIANTS = ("baseline", "semantic")


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
        """Check each setting of this group separately.

        Args:
            settings: Object with the settings as attributes.

        Raises:
            UserError: a value is out of range.
        """
        for name in (*cls.minimum, *cls.positive):
            require(settings, name, getattr(settings, name) != math.inf, "a finite number")
        for name, minimum in cls.minimum.items():
            require(settings, name, getattr(settings, name) >= minimum, f"at least {minimum}")
        for name in cls.positive:
            require(settings, name, getattr(settings, name) > 0, "more than 0")
        for name in cls.rates:
            require(settings, name, 0 <= getattr(settings, name) < 1, "at least 0 and below 1")


def require(settings, name, holds, expected):
    """Raise a `UserError` unless a setting has an allowed value."""
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
    """Folder of the images, if it is not the folder of the captions."""
    select_images: int = 0
    """Number of training images to hold out for selecting the best weights; 0 uses SELECT_SPLIT."""
    select_seed: int = -1
    """Random seed that chooses the SELECT_IMAGES images; -1 uses SEED. Runs with the same held-out
    images have the same vocabulary, as the members of an ensemble must."""
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
        "select_seed": -1,
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
    scales each side by its own factor."""
    flip: bool = False
    """Mirror training images at random, except images whose captions say left or right."""
    crop: float = 1.0
    """Smallest share of an image's area that a random crop keeps in training; 1 disables crops."""
    cache_gigabytes: float = 4.0
    """Memory for decoded images, in GB per split. A split that needs more memory is read again in
    every epoch."""
    feature_cache: Literal["none", "float16", "bfloat16"] = "none"
    """Number format in which features of the frozen network are cached in OUTPUT/data. With VGG16,
    the features of an image take 0.2 MB, or 0.8 MB if the regions are proposals. With flip, the
    features take up to twice as much."""

    cached_views: int = 1
    """Number of views of a training image in the feature cache. The first view is the whole image.
    The other views are random crops, which keep at least the share CROP of the image. Each epoch
    uses a random view."""

    minimum: ClassVar[dict] = {"cache_gigabytes": 0, "cached_views": 1}

    @classmethod
    def check(cls, settings):
        super().check(settings)
        require(settings, "image_size", 16 <= settings.image_size <= 4096, "from 16 to 4096 pixels")
        require(settings, "crop", 0.05 <= settings.crop <= 1, "a share from 0.05 to 1")


@dataclass(frozen=True)
class NetworkSettings(Group):
    """Convolutional network that turns images into an activation map and a vector."""

    backbone: str = "VGG16"
    """'scenes' (small, trained from scratch), 'scenes-pretrained' (the same network, pretrained
    on other scenes), a network of keras.applications, EfficientNetLite0, 1 or 2 (weights from pip),
    or a .keras file."""
    preprocessing: str = ""
    """Pixel format that a .keras network expects: caffe, tf, torch, unit (0..1) or raw (0..255)."""
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
    """Kind of regions. 'grid': cells of the activation map. 'transformer': boxes moved by a spatial
    transformer. 'proposals': object proposals. 'mean': only the mean of the map, which is
    equivalent to attention with equal weights."""
    stride: int = 2
    """Distance between neighboring regions in training, in cells of the activation map. Not used
    for proposals."""
    test_stride: int = 1
    """Distance between neighboring regions in evaluation and captioning, in cells. Not used for
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
    """Number of object proposals per image in training, chosen at random."""
    test_proposals: int = 1000
    """Number of highest-scoring proposals per image in evaluation and captioning; at most 2000."""
    proposals_size: int = 300
    """Length in pixels to which an image's short side is scaled before proposals are pooled."""
    proposals_fit: Literal["pad", "stretch"] = "pad"
    """How an image becomes square for proposals. 'pad' pads the image to a square whose side is 1.5
    times the image's short side. 'stretch' scales each side by its own factor."""
    proposal_method: Literal["edge_boxes", "selective_search"] = "edge_boxes"
    """Method that finds object proposals. 'selective_search', the method of Jin et al. (2015),
    takes longer than 'edge_boxes'."""
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
        require(settings, "proposals_size", 16 <= size <= 4096, "from 16 to 4096 pixels")
        most = f"at most {MAX_PROPOSALS}"
        require(settings, "test_proposals", settings.test_proposals <= MAX_PROPOSALS, most)


@dataclass(frozen=True)
class DecoderSettings(Group):
    """Recurrent network that writes captions, and its attention."""

    variant: Literal[
        "baseline",
        "word_region",
        "word_region_state",
        "conditional",
        "full",
        "soft",
        "hard",
        "review",
        "semantic",
    ] = "full"
    """Model variant. The first five variants are the rows of the paper's Table 1. 'soft' weights
    the regions, and 'hard' chooses one region for each word (Xu et al., 2015). 'review' attends to
    thoughts about the regions (Yang et al., 2016). 'semantic' attends to predicted words (You et
    al., 2016)."""
    attention_gate: bool = False
    """Scale the region vector of variants 'soft' and 'hard' by a gate that depends on the state."""
    review_steps: int = 8
    """Number of review steps of variant 'review'."""
    units: int = 512
    """Size of the recurrent state."""
    embedding_dim: int = 512
    """Size of the word embeddings."""
    tied: bool = True
    """Use the same matrix for input words and output words. The authors' code has two matrices."""
    image_first: bool = False
    """If False, the image vector is the initial state. If True, the initial state is zero and the
    image vector is the first input, as in the authors' code."""
    image_each_step: bool = False
    """If True, the initial state is zero and the image vector is an input at every step (Donahue et
    al., 2015)."""
    concepts: Literal["none", "attributes", "topics"] = "none"
    """Concepts predicted from the image vector. 'attributes' are frequent words. The attributes
    replace the image vector (Wu et al., 2016), unless VARIANT is 'semantic'. 'topics' are topics of
    captions, which are an input at every step (Jin et al., 2015)."""
    concept_count: int = 256
    """Number of predicted concepts."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the decoder's matrix products. Weights, states and sums remain float32."""

    minimum: ClassVar[dict] = {
        "units": 1,
        "embedding_dim": 1,
        "review_steps": 1,
        "concept_count": 2,
    }
