"""Settings of a run's training and search, grouped by topic, as in `groups.py`."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from keras_aoa.settings.groups import Group, require
from keras_aoa.settings.search import MAX_BEAM
from keras_aoa.utils.errors import UserError


@dataclass(frozen=True)
class TrainingSettings(Group):
    """Optimization, regularization, checkpoints and devices."""

    start_from: str = ""
    """Folder of another run, which provides the initial weights."""
    rnn_epochs: int = 20
    """Number of epochs of stage 1, in which the backbone is frozen."""
    joint_epochs: int = 0
    """Number of epochs of stage 2, in which the backbone is trained too."""
    batch_size: int = 10
    """Number of images in a batch, over all replicas together."""
    accumulate: int = 1
    """Number of batches whose gradients are summed for each optimizer step. N batches train like
    one batch with N times as many images, but need only the memory of one batch."""
    learning_rate: float = 5e-4
    """Adam's learning rate for all weights except the backbone's weights."""
    backbone_learning_rate: float = 1e-5
    """Adam's learning rate for the backbone in stage 2."""
    decay: Literal["none", "cosine", "step", "plateau"] = "none"
    """Schedule of the learning rates. 'cosine' lowers the rates to 0 over stages 1 and 2, and again
    over stage 3. 'step' multiplies the rates by decay_factor every decay_epochs epochs. 'plateau'
    multiplies the rates by decay_factor when CIDEr has not risen for decay_epochs validations."""
    decay_factor: float = 0.5
    """Factor of the learning rates for the schedules 'step' and 'plateau'."""
    decay_epochs: int = 3
    """For 'step': number of epochs between decays. For 'plateau': number of validations without a
    higher CIDEr before a decay."""
    warmup_steps: int = 0
    """Number of steps in which both learning rates rise from 0 at the start of training. Stage 3
    has no warmup."""
    average: float = 0.0
    """Decay of the exponential moving average of the weights. Evaluation uses the average instead
    of the weights. 0 disables the average."""
    dropout: float = 0.5
    """Dropout rate of words, states and the image vector."""
    region_dropout: float = 0.0
    """Dropout rate of region features. All regions of an image share one mask."""
    label_smoothing: float = 0.0
    """Label smoothing in stages 1 and 2: share of each word's target probability that is spread
    evenly over all words that can be predicted."""
    attention_supervision: float = 0.0
    """Weight of supervised attention (Liu et al., 2017): the cross-entropy between a word's
    attention and the boxes of the object that the word names. Supervised attention needs data with
    boxes."""
    concept_loss: float = 1.0
    """Weight of the loss of predicted concepts in stages 1 and 2, for captioners that predict
    concepts. The loss of concepts is a sum over images and concepts, in nats per word."""
    scheduled_sampling: float = 0.0
    """Scheduled sampling (Bengio et al., 2015): share of input words that are sampled from the
    model instead of taken from the caption. The share rises linearly from 0 to this setting."""
    attention_coverage: float = 0.0
    """Weight of a loss that makes each caption's attention visit all regions equally (doubly
    stochastic attention, Xu et al., 2015)."""
    hard_reinforce: float = 0.1
    """Weight of REINFORCE, which trains the choice of regions of variant 'hard'."""
    hard_entropy: float = 0.01
    """Weight of the attention's entropy for variant 'hard', in nats per word. A high entropy keeps
    the attention from choosing one region too early."""
    review_words: float = 0.0
    """Weight of a loss that trains the thoughts of variant 'review' to predict the captions'
    words."""
    clip_norm: float = 5.0
    """Largest global norm of the gradients. Gradients with a larger norm are scaled down."""
    seed: int = 0
    """Random seed of initial weights, data order, mirroring, crops, dropout and samples, and of
    held-out images if SELECT_SEED is -1. A run that starts from another run makes other random
    choices than that run."""
    minutes: float = 0.0
    """Time limit in minutes. Training stops after the epoch that exceeds the limit. 0 means no
    limit."""
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
        "accumulate": 1,
        "decay_epochs": 1,
        "warmup_steps": 0,
        "concept_loss": 0,
        "minutes": 0,
        "attention_supervision": 0,
        "validate_every": 1,
        "seed": 0,
        "attention_coverage": 0,
        "hard_reinforce": 0,
        "hard_entropy": 0,
        "review_words": 0,
        "checkpoint_steps": 1,
    }
    positive: ClassVar[tuple] = ("learning_rate", "backbone_learning_rate", "clip_norm")
    rates: ClassVar[tuple] = (
        "decay_factor",
        "dropout",
        "region_dropout",
        "label_smoothing",
        "average",
    )

    @classmethod
    def check(cls, settings):
        super().check(settings)
        share = settings.scheduled_sampling
        require(settings, "scheduled_sampling", 0 <= share <= 1, "a share from 0 to 1")


@dataclass(frozen=True)
class RewardSettings(Group):
    """Stage 3, self-critical training (Rennie et al., 2017): captions are sampled and scored."""

    reward_epochs: int = 0
    """Number of epochs of stage 3, in which the decoder is trained to raise the scores of its own
    captions. The backbone is frozen."""
    reward_learning_rate: float = 5e-5
    """Adam's learning rate in stage 3."""
    reward_samples: int = 5
    """Number of captions that stage 3 samples per image."""
    reward_temperature: float = 1.0
    """Temperature T of the samples: words are sampled in proportion to p(w)^(1/T). A temperature
    below 1 avoids improbable words."""
    reward_baseline: Literal["samples", "greedy"] = "samples"
    """Score that is subtracted from a sampled caption's score. 'samples' is the mean score of the
    image's other samples (Luo, 2020). 'greedy' is the score of the caption that greedy search
    generates (Rennie et al.)."""
    reward_cider: float = 1.0
    """Weight of CIDEr-D in the score. CIDEr-D is a number from 0 to 10."""
    reward_bleu: float = 0.0
    """Weight of BLEU-4 in the score. BLEU-4 is a number from 0 to 1."""

    minimum: ClassVar[dict] = {
        "reward_epochs": 0,
        "reward_samples": 1,
        "reward_cider": 0,
        "reward_bleu": 0,
    }
    positive: ClassVar[tuple] = ("reward_learning_rate", "reward_temperature")

    @classmethod
    def check(cls, settings):
        super().check(settings)
        if settings.reward_baseline == "samples" and settings.reward_samples < 2:
            raise UserError(
                "reward_samples: the baseline 'samples' needs at least 2 samples per image, "
                "received 1; increase it, or set reward_baseline to 'greedy'."
            )
        if not settings.reward_cider + settings.reward_bleu:
            raise UserError("reward_cider, reward_bleu: both are 0; set one of them above 0.")


@dataclass(frozen=True)
class SearchDefaults(Group):
    """Search for captions, in validation, evaluation and captioning."""

    beam: int = 3
    """Beam size: number of hypotheses kept per image; 1 is greedy search."""
    length_penalty: float = 0.0
    """Exponent p in the score that ranks captions: log-probability / length^p."""

    minimum: ClassVar[dict] = {"beam": 1}

    @classmethod
    def check(cls, settings):
        super().check(settings)
        require(settings, "beam", settings.beam <= MAX_BEAM, f"at most {MAX_BEAM}")
        is_finite = math.isfinite(settings.length_penalty)
        require(settings, "length_penalty", is_finite, "a finite number")
