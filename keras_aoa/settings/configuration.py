"""Every setting of a run, checked when it is made, and the presets."""

import dataclasses
import json
import pathlib
from dataclasses import dataclass
from typing import Literal, get_args

from keras_aoa.settings.search import MOST_PROPOSALS
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest

FORMAT_VERSION = 1

# Settings that a run may go on with another value of.
ANY_TIME = ("name", "output", "checkpoint_steps", "distribution")


@dataclass(frozen=True)
class Configuration:
    """Settings of training, evaluation and the model, with their defaults and units.

    Raises:
        UserError: a value outside its range, or two that exclude each other.
    """

    name: str = "scenes"
    """Name of the run: its folder is OUTPUT/NAME."""
    output: str = "runs"
    """Folder of all runs."""

    data: str = "scenes"
    """'scenes' (drawn by the program), or a folder or file of captioned photographs."""
    images: str = ""
    """Folder of images, where it is not beside the captions."""
    select_images: int = 0
    """Images held out of the training split to select the checkpoint; 0 selects on 'val'."""
    select_split: str = "val"
    """Split that selects the checkpoint when no images are held out."""
    test_split: str = "test"
    """Split scored once at the end of training."""
    scenes_images: int = 3000
    """Number of training scenes drawn."""
    scenes_seed: int = 0
    """Seed of the drawn scenes."""
    restval: bool = True
    """Whether the 30,504 images that Karpathy's split of COCO calls 'restval' train too."""
    minimum_count: int = 5
    """Times a word must occur in training captions to be in the vocabulary."""
    captions_per_image: int = 5
    """Captions of an image used in one step; a random choice where there are more."""
    max_words: int = 20
    """Longest caption, in words; a longer one is cut in training."""
    image_size: int = 224
    """Side of the square the network sees, in pixels."""
    fit: Literal["crop", "stretch"] = "crop"
    """Scale the short side and crop the center, or stretch the whole image to the square."""
    flip: bool = False
    """Mirror training images at random, but never one whose captions say left or right."""
    crop: float = 1.0
    """Least share of an image's area that a random crop keeps in training; 1 is the whole."""
    cache_gigabytes: float = 4.0
    """Memory for decoded images of a split, in GB; a larger one is read from disk each epoch."""
    feature_cache: Literal["none", "float16", "bfloat16"] = "none"
    """Keep what the network makes of each image in OUTPUT/data while it is not trained: the map,
    in 2 bytes a number (VGG16: 0.2 MB an image, 0.8 for proposals; twice that with flip)."""

    backbone: str = "VGG16"
    """'scenes' (small, trained from scratch), 'scenes-pretrained' (the same, pretrained on other
    scenes), a network of keras.applications, or a .keras file."""
    preprocessing: str = ""
    """What a .keras backbone expects: caffe, tf, torch, unit (0..1) or raw (0..255)."""
    map_layer: str = ""
    """Layer with the activation map; the last such by default, conv5_3 for VGG16."""
    vector_layer: str = ""
    """Layer with the image vector; 'mean' is the mean of the map. fc7 for VGG16 by default."""
    backbone_weights: str = "imagenet"
    """'imagenet', 'none' or a weights file, for a network of keras.applications."""
    regions: Literal["grid", "transformer", "proposals", "mean"] = "grid"
    """What attention chooses from: cells of the activation map, boxes that a network aims, object
    proposals, or the map's mean alone, as attention with equal weights."""
    stride: int = 2
    """Steps between regions on the activation map in training, in cells (not for proposals)."""
    test_stride: int = 1
    """The same in evaluation and captioning."""
    anchor_scale: float = 2.0
    """How much larger than 3x3 cells a transformer's boxes are at first."""
    rotation: bool = True
    """Whether a transformer's boxes may rotate and shear."""
    border: Literal["zero", "replicate"] = "zero"
    """What a transformer's boxes find outside the map (the authors' code replicates)."""
    transformer_filter: Literal["backbone", "own"] = "backbone"
    """The 3x3 filter on a transformer's boxes: the convolution that makes the backbone's map
    (VGG16: conv5_3), or one of its own that starts with the middle alone."""
    train_proposals: int = 50
    """Object proposals of an image in training, a random choice."""
    test_proposals: int = 1000
    """The same in evaluation and captioning, the best; up to 2000."""
    proposals_size: int = 300
    """Short side of the image that proposals are pooled from, in pixels."""
    proposals_fit: Literal["pad", "stretch"] = "pad"
    """Fill the image up to a square of 1.5 times its short side, or stretch it to a square."""
    edge_model: str = ""
    """Structured-forest file for the edges of proposals; from image gradients without one."""
    feature_length: float = 4.0
    """Length that each region's features and the image vector are scaled to; 0 leaves them as the
    network made them (the paper's equations; the authors' code scales to 1)."""
    variant: Literal[
        "baseline", "word_region", "word_region_state", "conditional", "full", "soft"
    ] = "full"
    """Row of the paper's Table 1, or soft attention of Xu et al. (2015) in the same cell."""
    units: int = 512
    """Width of the recurrent state."""
    embedding_dim: int = 512
    """Width of word embeddings."""
    tied: bool = True
    """One matrix embeds input words and scores output words (the authors' code has two)."""
    image_first: bool = False
    """Image vector as first input of a zero state (the authors' code), not as the first state."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the decoder's matrix products; weights, states and sums stay in float32."""
    start_from: str = ""
    """Folder of a run whose weights to start from."""
    rnn_epochs: int = 20
    """Epochs of stage 1: the backbone stays as it is."""
    joint_epochs: int = 0
    """Epochs of stage 2: the backbone is trained too."""
    batch_size: int = 10
    """Images in a step, over all replicas."""
    learning_rate: float = 5e-4
    """Adam's rate for all but the backbone."""
    backbone_learning_rate: float = 1e-5
    """Adam's rate for the backbone in stage 2."""
    decay: Literal["none", "cosine"] = "none"
    """Course of both rates over all epochs: constant, or a half cosine down to 0."""
    warmup_steps: int = 0
    """Steps over which both rates rise from 0."""
    average: float = 0.0
    """Decay of the moving average of weights that is evaluated and kept; 0 is none."""
    dropout: float = 0.5
    """Dropout rate on words, states and the image vector."""
    region_dropout: float = 0.0
    """Dropout rate on features of all regions of an image together."""
    scheduled_sampling: float = 0.0
    """Share of words fed in training that the model draws itself (Bengio et al., 2015), at the end;
    it rises from 0 in proportion to the steps."""
    clip_norm: float = 5.0
    """Longest gradient over all weights; a longer one is scaled down."""
    seed: int = 0
    """Seed of weights, data order, mirroring and dropout."""
    minutes: float = 0.0
    """Training stops at the first epoch that ends after so many minutes; 0 is no limit."""
    checkpoint_steps: int = 1000
    """Steps between checkpoints within an epoch; there is one at the end of each too."""
    distribution: Literal["auto", "one", "mirrored", "workers"] = "auto"
    """Devices that train: 'one'; 'mirrored', all GPUs of this machine; 'workers', the processes
    that TF_CONFIG names; 'auto', workers where it is set, else all GPUs, else the CPU."""

    beam: int = 3
    """Hypotheses kept for an image in search; 1 is greedy."""
    length_penalty: float = 0.0
    """Captions are ranked by log-probability over length to this power."""
    validate_every: int = 1
    """Epochs between validations, which keep the checkpoint of the best CIDEr."""

    def __post_init__(self):
        at_least = {
            "select_images": 0, "scenes_images": 1, "minimum_count": 1, "captions_per_image": 1,
            "max_words": 1, "cache_gigabytes": 0, "stride": 1, "test_stride": 1,
            "units": 1, "embedding_dim": 1, "rnn_epochs": 0, "joint_epochs": 0, "batch_size": 1,
            "warmup_steps": 0, "minutes": 0, "beam": 1, "validate_every": 1, "seed": 0,
            "feature_length": 0, "checkpoint_steps": 1, "train_proposals": 1, "test_proposals": 1,
        }  # fmt: skip
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise UserError(
                    f"{name}: expected at least {least}, received {getattr(self, name)}."
                )
        for name in ("image_size", "proposals_size"):
            if not 16 <= getattr(self, name) <= 4096:
                raise UserError(
                    f"{name}: expected from 16 to 4096 pixels, received {getattr(self, name)}."
                )
        if self.test_proposals > MOST_PROPOSALS:
            raise UserError(
                f"test_proposals: expected at most {MOST_PROPOSALS}, received "
                f"{self.test_proposals}."
            )
        if not 0.05 <= self.crop <= 1:
            raise UserError(f"crop: expected a share from 0.05 to 1, received {self.crop}.")
        for name in ("learning_rate", "backbone_learning_rate", "clip_norm", "anchor_scale"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: expected more than 0, received {getattr(self, name)}.")
        if not 0 <= self.scheduled_sampling <= 1:
            raise UserError(
                f"scheduled_sampling: expected a share from 0 to 1, received "
                f"{self.scheduled_sampling}."
            )
        for name in ("dropout", "region_dropout", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(
                    f"{name}: expected at least 0 and below 1, received {getattr(self, name)}."
                )
        for field in dataclasses.fields(self):
            choices, value = get_args(field.type), getattr(self, field.name)
            if choices and value not in choices:
                raise UserError(
                    f"{field.name}: expected one of {', '.join(choices)}, received {value!r}."
                )
        if self.rnn_epochs + self.joint_epochs < 1:
            raise UserError("rnn_epochs, joint_epochs: both are 0; set one of them to 1 or more.")
        if self.name in ("", "..") or pathlib.Path(self.name).name != self.name:
            raise UserError(f"name: expected a folder's name, received {self.name!r}.")
        if self.regions == "proposals" and self.crop < 1:
            raise UserError("crop: regions 'proposals' need whole images; set it to 1.")
        if self.feature_cache != "none" and not self.rnn_epochs:
            raise UserError(
                "feature_cache: with rnn_epochs of 0 the network is always trained; set it to "
                "'none'."
            )
        if self.feature_cache != "none" and self.crop < 1:
            raise UserError(
                "crop: a feature cache holds whole images; set it to 1 or feature_cache to 'none'."
            )
        if self.variant == "conditional" and not self.tied:
            raise UserError("tied: variant 'conditional' needs tied embeddings, received False.")

    @property
    def folder(self):
        """Folder of the run."""
        return pathlib.Path(self.output) / self.name

    @property
    def selecting_split(self):
        """The split that selects the checkpoint."""
        return "select" if self.select_images else self.select_split

    @property
    def epochs(self):
        """Epochs of both stages together."""
        return self.rnn_epochs + self.joint_epochs

    def differences(self, other):
        """Names of the settings in which two configurations differ, but for `ANY_TIME`."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.name not in ANY_TIME
            and getattr(self, field.name) != getattr(other, field.name)
        ]

    def to_json(self):
        """Text of a run's `config.json`."""
        settings = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(settings, indent=2) + "\n"

    @classmethod
    def read(cls, path):
        """Read a `config.json`; a setting it lacks has its default.

        Raises:
            UserError: no such file, not json, another version, an unknown setting, a wrong type.
        """
        try:
            settings = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path}: expected a run's configuration, found no file.") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: expected json, received {error}.") from None
        version = settings.pop("format_version", None) if isinstance(settings, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path}: expected format_version {FORMAT_VERSION}, received {version}."
            )
        return cls.from_settings(settings, source=str(path))

    @classmethod
    def from_settings(cls, settings, source):
        """Make a configuration from a mapping; unknown names and wrong types are refused."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in settings.items():
            if name not in fields:
                raise UserError(f"{source}: unknown setting {name!r}. {closest(name, fields)}")
            expected = type(fields[name].default)
            if expected is float and type(value) is int:
                continue
            if type(value) is not expected:
                raise UserError(
                    f"{source}: {name} must be {expected.__name__}, received {value!r}."
                )
        return cls(**settings)
