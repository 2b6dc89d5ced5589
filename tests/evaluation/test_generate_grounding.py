"""Captions of many images, and their grounding: correct phrases and attention on objects."""

import numpy as np
import pytest
import tensorflow as tf
import tiny

from keras_aoa.data.examples import Example, NamedObject
from keras_aoa.data.text.vocabulary import PAD, STOP, Vocabulary
from keras_aoa.evaluation.grounding import ground, share_inside
from keras_aoa.inference.caption import Caption
from keras_aoa.inference.generator import CaptionGenerator, generate
from keras_aoa.models.search import search
from keras_aoa.settings.configuration import Configuration
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError

VOCABULARY = Vocabulary(["red", "ball", "blue", "box"])
IMAGES = tiny.make_images(3)


@pytest.fixture(scope="module")
def captioner():
    return tiny.make_captioner(weights=1)


@pytest.fixture(scope="module")
def generator(captioner):
    return CaptionGenerator(
        captioner, VOCABULARY, beam=3, max_words=4, length_penalty=0.0, stride=1
    )


def test_all_beams_are_the_hypotheses_of_search_as_words(captioner, generator):
    captions = generator.hypotheses(IMAGES)
    encoded = captioner.encode(IMAGES, stride=1)
    expected = search(captioner, encoded, beam=3, max_words=4)
    lengths = set()
    for image in range(3):
        assert len(captions[image]) == 3
        for beam, generated in enumerate(captions[image]):
            ids = np.asarray(expected.ids[image, beam])
            words = [VOCABULARY.words[word] for word in ids if word not in (STOP, PAD)]
            lengths.add((len(words), STOP in ids))
            assert generated.words == tuple(words)
            assert generated.text == " ".join(words)
            assert generated.log_prob == pytest.approx(
                float(expected.log_probs[image, beam]), rel=1e-3
            )
            attention = expected.attention[image, beam, : len(words)]
            np.testing.assert_allclose(generated.attention, attention, rtol=1e-3, atol=1e-5)
            assert generated.attention.shape == (len(words), 9)
            np.testing.assert_array_equal(generated.boxes, encoded.boxes[image])
            assert generated.mask.tolist() == [True] * 9
    assert {(0, True), (1, True), (4, False)} <= lengths


def test_the_caption_of_an_image_is_its_best_hypothesis(generator):
    best = [beams[0] for beams in generator.hypotheses(IMAGES)]
    for generated, expected in zip(generator(IMAGES), best, strict=True):
        assert generated.words == expected.words
        assert generated.log_prob == expected.log_prob
        assert generated.attention is generated.boxes is generated.mask is None


def test_search_settings_replace_those_of_the_configuration(captioner, monkeypatch):
    calls = []
    monkeypatch.setattr(
        CaptionGenerator,
        "__init__",
        lambda self, *arguments, **settings: calls.append((arguments, settings)),
    )
    configuration = Configuration(beam=4, max_words=7, length_penalty=0.5, test_stride=3)
    CaptionGenerator.from_configuration(captioner, VOCABULARY, configuration)
    search_settings = SearchSettings(beam=1, max_words=9, length_penalty=0.0)
    CaptionGenerator.from_configuration(captioner, VOCABULARY, configuration, search_settings)
    settings = {
        "beam": 4,
        "max_words": 7,
        "length_penalty": 0.5,
        "stride": 3,
    }
    assert calls == [
        ((captioner, VOCABULARY), settings),
        ((captioner, VOCABULARY), {**settings, "beam": 1, "max_words": 9, "length_penalty": 0.0}),
    ]


def test_a_setting_that_does_not_apply_to_the_regions_raises_an_error(captioner):
    for kind, wrong, right in (
        ("grid", "proposals", "stride"),
        ("transformer", "proposals", "stride"),
        ("proposals", "stride", "proposals"),
    ):
        with pytest.raises(UserError, match=f"{wrong}: does not apply .*'{kind}'.* set {right}"):
            CaptionGenerator.from_configuration(
                captioner, VOCABULARY, Configuration(regions=kind), SearchSettings(**{wrong: 5})
            )


@pytest.mark.parametrize(
    ("name", "value"), [("beam", 0), ("beam", -1), ("max_words", 0), ("stride", 0)]
)
def test_search_settings_below_one_raise_an_error(name, value):
    with pytest.raises(UserError, match=f"{name}: expected at least 1, received {value}"):
        SearchSettings(**{name: value})


def test_returned_attention_does_not_keep_its_batch_in_memory(generator):
    for generated in generator(IMAGES, with_attention=True):
        for part in (generated.attention, generated.boxes, generated.mask):
            assert part.base is None


def test_generate_returns_captions_by_index(generator):
    batches = [
        {"images": tf.constant(IMAGES[:2]), "index": tf.constant([7, 3])},
        {"images": tf.constant(IMAGES[2:]), "index": tf.constant([5])},
    ]
    captions = generate(generator, batches, total=3, with_attention=True)
    assert list(captions) == [7, 3, 5]
    expected = [caption.words for caption in generator(IMAGES)]
    assert [caption.words for caption in captions.values()] == expected
    assert captions[5].attention is not None


CELL = [[[0.0, 0.0], [0.5, 0.0], [0.5, 0.5], [0.0, 0.5]]]


@pytest.mark.parametrize(
    ("boxes", "share"),
    [
        ([(0, 0, 1, 1)], 1.0),
        ([(0, 0, 0.25, 1)], 0.5),
        ([(0, 0.25, 0.5, 0.5)], 0.5),
        ([(0.25, 0.25, 0.9, 0.9)], 0.25),
        ([(0.1, 0.1, 0.2, 0.3)], 0.08),
        ([(0.5, 0.5, 1, 1)], 0.0),
        ([(0.6, 0, 1, 0.4)], 0.0),
        # Two boxes of an eighth each that share a sixteenth: 2/8 - 1/16.
        ([(0, 0, 0.25, 0.125), (0.125, 0, 0.375, 0.125)], 0.1875),
        # A box inside another counts once.
        ([(0, 0, 0.25, 0.5), (0, 0, 0.125, 0.125)], 0.5),
        ([(0, 0, 0.25, 0.5), (0, 0, 0.25, 0.5)], 0.5),
        # Two opposite corners of a quarter each.
        ([(0, 0, 0.25, 0.25), (0.25, 0.25, 0.5, 0.5)], 0.5),
    ],
)
def test_share_of_a_cell_that_boxes_cover(boxes, share):
    np.testing.assert_allclose(share_inside(np.array(CELL), boxes), [share], atol=1e-12)


def test_shares_are_relative_to_the_whole_region_even_outside_the_image():
    regions = np.array([*CELL, [[-0.5, 0.0], [0.5, 0.0], [0.5, 1.0], [-0.5, 1.0]]])
    np.testing.assert_allclose(share_inside(regions, [(0, 0, 0.5, 0.5)]), [1.0, 0.25])


def sampled_share(region, boxes, finer=400):
    """Share of a convex region's sample points that lie in a box."""
    low, high = region.min(axis=0), region.max(axis=0)
    steps = (np.arange(finer) + 0.5) / finer
    x, y = np.meshgrid(*(low[:, None] + (high - low)[:, None] * steps))
    inside = np.ones(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(region, np.roll(region, -1, axis=0), strict=True):
        inside &= (x1 - x0) * (y - y0) >= (y1 - y0) * (x - x0)
    covered = np.any([(b[0] < x) & (x < b[2]) & (b[1] < y) & (y < b[3]) for b in boxes], axis=0)
    return (inside & covered).sum() / inside.sum()


@pytest.mark.parametrize("seed", range(4))
def test_shares_of_rotated_and_sheared_regions_match_sample_points(seed):
    random = np.random.default_rng(seed)
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    regions, boxes = [], np.sort(random.random((3, 2, 2)), axis=1).reshape(3, 4)
    while len(regions) < 8:
        matrix = random.normal(scale=0.5, size=(2, 2))
        if np.linalg.det(matrix) > 0.03:
            regions.append(square @ matrix.T + random.uniform(0.2, 0.8, 2))
    regions = np.array(regions)
    expected = [sampled_share(region, boxes) for region in regions]
    assert 0.05 < np.mean(expected) < 0.95
    np.testing.assert_allclose(share_inside(regions, boxes), expected, atol=4e-3)
    # Reversed corners, as after a mirroring transform.
    np.testing.assert_allclose(share_inside(regions[:, ::-1], boxes), expected, atol=4e-3)


def test_a_square_rotated_by_45_degrees_has_known_shares():
    diamond = np.array([[[0.5, 0.0], [1.0, 0.5], [0.5, 1.0], [0.0, 0.5]]])
    shares = [
        share_inside(diamond, boxes)[0]
        for boxes in ([(0, 0, 1, 1)], [(0, 0, 0.5, 0.5)], [(0.25, 0.25, 0.75, 0.75)])
    ]
    # The square inside covers half of the diamond; four triangles of 1/16 cover the rest.
    np.testing.assert_allclose(shares, [1, 0.25, 0.5], atol=1e-12)


def test_regions_without_area_have_share_zero_and_do_not_affect_others():
    regions = np.array([
        [[0.2, 0.2]] * 4,
        [[0.1, 0.2], [0.6, 0.2], [0.6, 0.2], [0.1, 0.2]],
        [[0.1, 0.1], [0.4, 0.4], [0.4, 0.4], [0.1, 0.1]],
        CELL[0],
        [[0.0, 0.0], [0.5, 0.5], [0.0, 0.5], [0.0, 0.0]],
    ])  # fmt: skip
    shares = share_inside(regions, [(0, 0, 0.25, 0.5)])
    np.testing.assert_allclose(shares, [0, 0, 0, 0.5, 0.75], atol=1e-12)


def thing(noun, adjective, box):
    return NamedObject(frozenset([noun]), frozenset([adjective]), box)


# Four cells from left to right. The ball fills the first, the box the third and half the fourth.
CELLS = np.array(
    [[[x, 0.0], [x + 0.25, 0.0], [x + 0.25, 1.0], [x, 1.0]] for x in (0.0, 0.25, 0.5, 0.75)]
)
EXAMPLES = [
    Example(0, "0.png", ()),
    Example(
        1,
        "1.png",
        (),
        objects=(
            thing("ball", "red", (0.0, 0.0, 0.25, 1.0)),
            thing("box", "blue", (0.5, 0.0, 0.875, 1.0)),
        ),
    ),
]


def captioned(caption, attention, mask=(True, True, True, True)):
    words = tuple(caption.split())
    return Caption(caption, words, -1.0, np.array(attention), CELLS, np.array(mask))


def ground_one(caption):
    return ground({1: caption}, EXAMPLES)


def test_attention_is_measured_at_the_noun_inside_the_named_objects_box():
    grounding = ground_one(
        captioned(
            "red ball beside blue box",
            [
                [0.0, 1.0, 0.0, 0.0],
                [0.7, 0.1, 0.1, 0.1],
                [0.0, 1.0, 0.0, 0.0],
                [0.0, 1.0, 0.0, 0.0],
                [0.1, 0.1, 0.2, 0.6],
            ],
        )
    )
    assert (grounding.phrases_correct, grounding.nouns_correct, grounding.phrases) == (1.0, 1.0, 2)
    assert grounding.attention_on_object == pytest.approx((0.7 + (0.2 + 0.6 / 2)) / 2)
    assert grounding.uniform_attention_on_object == pytest.approx((1 / 4 + 1.5 / 4) / 2)


def test_a_phrase_with_a_wrong_adjective_has_a_correct_noun_and_no_attention():
    grounding = ground_one(captioned("blue ball", [[1.0, 0, 0, 0], [1.0, 0, 0, 0]]))
    assert (grounding.phrases_correct, grounding.nouns_correct, grounding.phrases) == (0.0, 1.0, 1)
    assert grounding.attention_on_object is None
    assert grounding.uniform_attention_on_object is None


def test_padding_does_not_count_as_a_region():
    grounding = ground_one(captioned("ball", [[0.5, 0.5, 0, 0]], mask=(True, True, False, False)))
    assert grounding.attention_on_object == pytest.approx(0.5)
    assert grounding.uniform_attention_on_object == pytest.approx(1 / 2)


def test_boxes_of_a_caption_are_in_coordinates_of_the_original_image(generator):
    windows = np.array([[0.25, 0, 0.75, 1], [0, 0, 1, 1], [0, -0.5, 1, 1.5]], np.float32)
    plain = generator(IMAGES, with_attention=True)
    mapped = generator({"images": IMAGES, "window": windows}, with_attention=True)
    for caption, expected, window in zip(mapped, plain, windows, strict=True):
        corner, size = window[:2], window[2:] - window[:2]
        np.testing.assert_allclose(caption.boxes, corner + expected.boxes * size, atol=1e-6)
        np.testing.assert_array_equal(caption.window, window)


def test_phrases_of_all_captions_have_equal_weight():
    captions = {
        0: captioned("red ball", [[1.0, 0, 0, 0]] * 2),
        1: captioned("ball and ball and blue box", [[1.0, 0, 0, 0]] * 6),
    }
    grounding = ground(captions, EXAMPLES)
    assert grounding.phrases == 4
    assert grounding.phrases_correct == grounding.nouns_correct == 3 / 4
    assert grounding.attention_on_object == pytest.approx(2 / 3)


def test_a_data_set_without_objects_has_no_grounding():
    assert ground({0: captioned("red ball", [[1.0, 0, 0, 0]] * 2)}, EXAMPLES[:1]) is None


def test_captions_without_nouns_have_no_measures():
    grounding = ground_one(captioned("sky", [[1.0, 0, 0, 0]]))
    assert grounding.phrases == 0
    assert (
        grounding.phrases_correct
        is grounding.nouns_correct
        is grounding.attention_on_object
        is grounding.uniform_attention_on_object
        is None
    )
