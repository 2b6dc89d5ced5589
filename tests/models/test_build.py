"""Settings that only some attentions have reach the attention."""

import pytest
import tiny

from keras_aoa.models.build import make_captioner
from keras_aoa.settings.configuration import Configuration


@pytest.mark.parametrize(
    ("variant", "setting", "value", "attribute"),
    [
        ("soft", "attention_gate", True, "gate"),
        ("hard", "attention_gate", True, "gate"),
        ("review", "review_steps", 3, "steps"),
    ],
)
def test_a_setting_of_a_variant_reaches_its_attention(variant, setting, value, attribute):
    default, changed = (
        make_captioner(
            Configuration(variant=variant, units=5, embedding_dim=4, **settings),
            tiny.make_backbone(),
            tiny.WORDS,
        )
        for settings in ({}, {setting: value})
    )
    assert getattr(default.attention, attribute) == getattr(Configuration(), setting)
    assert getattr(changed.attention, attribute) == value
