"""Finds settings that have no effect because of other settings."""

import dataclasses

from keras_aoa.settings.groups import UNIFORM_VARIANTS
from keras_aoa.utils.errors import UserError

# Settings that have an effect only if another setting has one of these values, or is above 0 if
# there are no values.
CONCEPTS = ("concepts", ("attributes", "topics"))
TRANSFORMER = ("regions", ("transformer",))
PROPOSALS = ("regions", ("proposals",))
SCENES = ("data", ("scenes",))
LATE_DECAY = ("decay", ("step", "plateau"))
STAGE_2 = ("joint_epochs", ())
STAGE_3 = ("reward_epochs", ())
NEEDED = {
    "select_seed": ("select_images", ()),
    "scenes_images": SCENES,
    "scenes_seed": SCENES,
    "review_steps": ("variant", ("review",)),
    "hard_reinforce": ("variant", ("hard",)),
    "hard_entropy": ("variant", ("hard",)),
    "concept_count": CONCEPTS,
    "concept_loss": CONCEPTS,
    "anchor_scale": TRANSFORMER,
    "rotation": TRANSFORMER,
    "border": TRANSFORMER,
    "transformer_filter": TRANSFORMER,
    "train_proposals": PROPOSALS,
    "test_proposals": PROPOSALS,
    "proposals_size": PROPOSALS,
    "proposals_fit": PROPOSALS,
    "proposal_method": PROPOSALS,
    "edge_model": PROPOSALS,
    "decay_factor": LATE_DECAY,
    "decay_epochs": LATE_DECAY,
    "backbone_learning_rate": STAGE_2,
    "reward_learning_rate": STAGE_3,
    "reward_samples": STAGE_3,
    "reward_temperature": STAGE_3,
    "reward_baseline": STAGE_3,
    "reward_cider": STAGE_3,
    "reward_bleu": STAGE_3,
}

NOT_IN_STAGE_3 = (
    "label_smoothing",
    "attention_supervision",
    "attention_coverage",
    "scheduled_sampling",
    "hard_reinforce",
    "hard_entropy",
    "review_words",
    "concept_loss",
    "captions_per_image",
    "warmup_steps",
)
SCENES_NETWORKS = ("scenes", "scenes-pretrained")
NOT_OF_SCENES_NETWORKS = ("preprocessing", "map_layer", "vector_layer", "backbone_weights")


def require_effects(configuration, start):
    """Check that each setting that a user changed has an effect.

    `reproduce` omits this check, because its settings are for runs of several variants.

    Args:
        configuration: `Configuration`.
        start: `Configuration` in which the user changed settings. Its own settings are not checked,
            because a preset has settings for several kinds of runs.

    Raises:
        UserError: a changed setting has no effect, or hard attention has only one region to choose.
    """
    for field in dataclasses.fields(configuration):
        value = getattr(configuration, field.name)
        problem = without_effect(configuration, field.name)
        # 0 switches a loss or a dropout off, which is harmless where it is not used.
        switched_off = value == 0 and field.name not in NEEDED
        if problem and value != getattr(start, field.name) and not switched_off:
            raise UserError(f"{field.name}: {problem}.")
    chosen = configuration.variant, configuration.regions
    if chosen == ("hard", "mean") != (start.variant, start.regions):
        raise UserError(
            "regions: variant 'hard' chooses one of several regions, received 'mean', which "
            "is a single region; set regions to 'grid', or set variant to 'soft'."
        )


def without_effect(configuration, name):
    """Return why a setting has no effect and what to do, or "" if the setting has an effect.

    Args:
        configuration: `Configuration`.
        name: Name of the setting.
    """
    received = f"received {getattr(configuration, name)!r}"
    if name in NEEDED:
        needed, values = NEEDED[name]
        other = getattr(configuration, needed)
        has_effect = other in values if values else other > 0
        if name == "scenes_seed" and configuration.backbone == "scenes-pretrained":
            has_effect = True  # the network is pretrained on scenes with this seed
        if not has_effect:
            expected = " or ".join(map(repr, values)) or "1 or more"
            return (
                f"needs {needed} {expected}, {received} with {needed} {other!r}; leave it out, or "
                f"set {needed} to {expected}"
            )
    if configuration.reward_epochs == configuration.epochs:
        if name == "learning_rate":
            return (
                f"is the rate of stages 1 and 2, {received} with stage 3 only; leave it out, or "
                "set reward_learning_rate"
            )
        if name in NOT_IN_STAGE_3:
            return (
                f"applies to stages 1 and 2, {received} with stage 3 only; leave it out, or set "
                "rnn_epochs or joint_epochs to 1 or more"
            )
    if name in NOT_OF_SCENES_NETWORKS and configuration.backbone in SCENES_NETWORKS:
        backbone = repr(configuration.backbone)
        return (
            f"does not apply to backbone {backbone}, {received}; leave it out, or choose another "
            "backbone"
        )
    if name == "images" and configuration.data == "scenes":
        return f"does not apply to data 'scenes', {received}; set data to these images' captions"
    if name == "region_dropout" and configuration.variant in UNIFORM_VARIANTS:
        variant = repr(configuration.variant)
        return f"variant {variant} attends to no regions, {received}; leave it out"
    return ""
