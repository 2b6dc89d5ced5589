"""Training of predicted concepts: targets, loss, training steps, and the run's file."""

import dataclasses
import warnings

import cv2
import numpy as np
import pytest
import tiny
from bright_square import brightness, settings
from steps import SGD, arrays

from keras_aoa.data.examples import Example
from keras_aoa.data.text.topics import find_topics, topic_mixtures
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.models import weights
from keras_aoa.models.image_inputs import concept_losses
from keras_aoa.runs.packing import pack
from keras_aoa.runs.run import Run
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.concepts import concept_loss, concept_targets
from keras_aoa.training.trainer import Trainer
from keras_aoa.training.warm_start import WarmStart
from keras_aoa.utils.errors import UserError

COUNT = 4
BATCH = {
    "images": tiny.make_images(3),
    "captions": np.array(
        [[[1, 4, 6, 2], [1, 7, 2, 0]], [[1, 5, 5, 2], [0] * 4], [[0] * 4, [0] * 4]], np.int32
    ),
    "concepts": np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1]], bool),
}
SETTINGS = Configuration(
    dropout=0, learning_rate=0.5, clip_norm=1e9, concepts="attributes", concept_count=COUNT
)


def make_captioner():
    return tiny.make_captioner("baseline", concepts="attributes", concept_count=COUNT)


def test_the_loss_is_a_sum_over_images_that_have_captions():
    captioner = make_captioner()
    encoded = captioner.encode(BATCH)
    losses = concept_losses("attributes", encoded.concepts, BATCH["concepts"])
    found = float(concept_loss(captioner, BATCH, encoded, None))
    assert found == pytest.approx(float(losses[0] + losses[1]), rel=1e-6)
    assert float(losses[2]) > 0.1
    captioner = tiny.make_captioner("baseline")
    assert concept_loss(captioner, BATCH, captioner.encode(BATCH), None) == 0


def test_a_step_trains_the_predictor_by_the_weighted_loss_per_word():
    moves, losses = {}, {}
    for weight in (0.0, 1.0, 2.5):
        trainer = Trainer(
            make_captioner(), dataclasses.replace(SETTINGS, concept_loss=weight), 1, SGD
        )
        before = arrays(trainer.own_variables)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras warns of weights without gradients
            losses[weight] = trainer.step(BATCH, 1)[0]["loss"]
        after = arrays(trainer.own_variables)
        moves[weight] = [new - old for old, new in zip(before, after, strict=True)]
    captioner, words = make_captioner(), 8
    encoded = captioner.encode(BATCH)
    own = float(concept_loss(captioner, BATCH, encoded, None))
    for weight, loss in losses.items():
        assert loss == pytest.approx(losses[0.0] + weight * own / words, rel=1e-5)
    vector = np.asarray(captioner.backbone(BATCH["images"])["vector"])
    errors = 1 / (1 + np.exp(-np.asarray(encoded.concepts))) - BATCH["concepts"]
    gradient = vector[:2].T @ errors[:2] / words
    for index, variable in enumerate(trainer.own_variables):
        none, one, more = (moves[weight][index] for weight in (0.0, 1.0, 2.5))
        if "concept_predictor" not in variable.path:
            np.testing.assert_allclose(one, more, atol=1e-6)
            continue
        assert not none.any()
        np.testing.assert_allclose(2.5 * one, more, rtol=1e-4, atol=1e-6)
        if variable.path.endswith("kernel"):
            np.testing.assert_allclose(one, -0.5 * gradient, rtol=1e-3, atol=1e-6)


VOCABULARY = Vocabulary(["a", "square", "red", "on", "blue", "left"])


def test_topics_are_targets_of_the_run_and_its_predictor_learns_them(tmp_path):
    run, arrays = make_run(tmp_path, variant="soft", concepts="topics")
    assert not run.concepts_file.exists() and "concepts" not in run.digests
    assert {name.split("/")[0] for name in arrays} == {
        "cell", "concept_predictor", "concept_projection", "image_projection"
    }  # fmt: skip
    examples = [Example("a", "a.png", ("a red square",)), Example("b", "b.png", ("blue left",))]
    targets = concept_targets(run, examples)
    topics = find_topics(examples, VOCABULARY, 3)
    np.testing.assert_array_equal(targets, topic_mixtures(examples, VOCABULARY, topics))
    captioner = tiny.make_captioner("soft", concepts="topics", concept_count=3)
    trainer = Trainer(captioner, dataclasses.replace(SETTINGS, concepts="topics"), 1, SGD)
    batch = {name: values[:2] for name, values in BATCH.items()} | {"concepts": targets}
    before = float(concept_loss(captioner, batch, captioner.encode(batch), None))
    for _ in range(3):
        trainer.step(batch, 1)
    assert float(concept_loss(captioner, batch, captioner.encode(batch), None)) < before - 0.01


def test_a_resumed_run_keeps_its_topics_and_refuses_those_of_another_run(tmp_path):
    run, _ = make_run(tmp_path, variant="soft", concepts="topics")
    texts = [("a red square", "red"), ("blue left",), ("left square", "a blue square on the left")]
    examples = [Example(str(i), "a.png", text) for i, text in enumerate(texts)]
    targets = concept_targets(run, examples)
    file = run.folder / "topics.npz"
    before = file.read_bytes()
    changed = [Example("0", "a.png", ("blue",)), *examples[1:]]
    again = concept_targets(Run(run.folder), changed)
    np.testing.assert_array_equal(again[1:], targets[1:])
    assert np.abs(again[0] - targets[0]).max() > 0.1 and file.read_bytes() == before
    others = find_topics(changed, VOCABULARY, 3)
    assert np.abs(topic_mixtures(changed, VOCABULARY, others)[1:] - targets[1:]).max() > 1e-3
    fewer = find_topics(examples, VOCABULARY, 2)._asdict()
    weights.save_arrays(file, fewer, {"vocabulary": VOCABULARY.digest})
    with pytest.raises(UserError, match=r"topics.npz: expected 3 topics of the run's vocabulary"):
        concept_targets(run, examples)
    file.write_bytes(before[:99])
    with pytest.raises(UserError, match=r"topics.npz: .* damaged file"):
        concept_targets(run, examples)


def test_a_warm_start_keeps_the_topics_of_the_other_run_even_if_it_was_packed(tmp_path):
    run, _ = make_run(tmp_path / "old", variant="soft", concepts="topics")
    examples = [Example("0", "a.png", ("a red square",)), Example("1", "b.png", ("blue left",))]
    targets = concept_targets(run, examples)
    packed, _ = pack(run, tmp_path / "packed")
    for name, source in (("new", run.folder), ("newer", packed)):
        changes = {"variant": "soft", "concepts": "topics", "start_from": str(source)}
        new, _ = make_run(tmp_path / name, **changes)
        np.testing.assert_array_equal(concept_targets(new, examples[:1]), targets[:1])
        assert (new.folder / "topics.npz").exists()


def make_run(folder, **changes):
    """Return a run that predicts three attributes, and the initial weights as its best ones."""
    own = {"concepts": "attributes", "concept_count": 3, "max_words": 3, **changes}
    run = Run.create(settings(folder, **own), VOCABULARY, brightness())
    arrays = weights.values(weights.captioner_variables(run.make_captioner(), False))
    weights.save_arrays(run.best_file, arrays, run.digests)
    return run, arrays


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run, arrays = make_run(tmp_path_factory.mktemp("runs"))
    assert {name.split("/")[0] for name in arrays} == {
        "cell", "concept_predictor", "concept_projection"
    }  # fmt: skip
    return run


def test_semantic_attention_attends_to_the_attributes_of_the_run(tmp_path):
    run, arrays = make_run(tmp_path, variant="semantic")
    assert run.load_captioner().attention.concept_ids == run.concept_ids == (5, 6, 8)
    assert {name.split("/")[0] for name in arrays} == {
        "cell", "concept_predictor", "image_projection"
    }  # fmt: skip


def test_targets_are_the_attributes_in_the_captions(run):
    examples = [Example("a", "a.png", ("a red square", "left")), Example("b", "b.png", ("blue",))]
    assert run.concept_ids == (5, 6, 8)  # square, red, blue
    assert concept_targets(run, examples).tolist() == [[True, True, False], [False, False, True]]


def test_a_packed_run_keeps_its_attributes_and_captions(run, tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8))
    packed = pack(run, tmp_path / "packed")[0]
    assert Run(packed).concept_ids == run.concept_ids
    assert (
        ImageCaptioner(packed).caption(str(path)).text
        == ImageCaptioner(run.folder).caption(str(path)).text
    )


def test_other_attributes_than_those_of_the_weights_are_refused(run, tmp_path):
    packed = Run(pack(run, tmp_path / "packed")[0])
    text = packed.concepts_file.read_text()
    packed.concepts_file.write_text(text.replace("blue", "left"))
    with pytest.raises(UserError, match=r"was trained with concepts .* restore the run's concepts"):
        Run(packed.folder).load_captioner()
    packed.concepts_file.unlink()
    with pytest.raises(UserError, match=r"concepts.json: cannot read it"):
        Run(packed.folder).load_captioner()


def test_a_warm_start_loads_the_predictor_and_refuses_other_concepts(run):
    start = WarmStart(run.folder)
    start.check_settings(run.configuration)
    line = start.load(run.make_captioner())
    assert "concept_predictor (2 arrays), concept_projection (1 arrays)" in line
    assert "image_projection" not in line
    for concepts in ("none", "topics"):
        with pytest.raises(UserError, match=f"has concepts 'attributes', here '{concepts}'"):
            start.check_settings(dataclasses.replace(run.configuration, concepts=concepts))


def test_a_warm_start_refuses_other_attributes(run, tmp_path):
    start = WarmStart(run.folder)
    start.check_attributes(("square", "red", "blue"))
    message = r"predicts other attributes \(3 words, such as 'blue', here 2\); set concept_count"
    with pytest.raises(UserError, match=message):
        start.check_attributes(("square", "red"))
    with pytest.raises(UserError, match=r"other attributes \(3 words, here 3\)"):
        start.check_attributes(("red", "square", "blue"))
    WarmStart(make_run(tmp_path, variant="soft", concepts="topics")[0].folder).check_attributes(())
