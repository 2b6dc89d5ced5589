"""The training loop's decisions, with simulated epochs: stages, validation, best weights, end."""

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_epochs import WORDS, Simulation, four_epochs, prepare

from keras_aoa.data.examples import Example
from keras_aoa.inference.caption import Caption
from keras_aoa.models import weights
from keras_aoa.training import epochs, preparation
from keras_aoa.training import loop as training
from keras_aoa.training.concepts import concept_targets
from keras_aoa.utils.errors import UserError


@pytest.fixture
def settings(squares_settings, tmp_path):
    return four_epochs(squares_settings, tmp_path)


@pytest.fixture(autouse=True)
def prepared(monkeypatch):
    prepare(monkeypatch)


@pytest.mark.parametrize(("scores", "best"), [([0.5, 0.4, 0.3, 0.2], 1), ([0.2, 0.6, 0.6, 0.3], 2)])
def test_the_best_weights_are_the_averages_after_the_epoch_with_the_highest_score(
    settings, monkeypatch, scores, best
):
    simulated = Simulation(monkeypatch, scores)
    run = training.train(settings)
    assert simulated.stages == [1, 2, 2, 2]
    assert simulated.validated == [1, 2, 3, 4]
    first = simulated.starts[0]
    for number in range(4):
        # Each epoch goes on from the weights themselves; each validation uses their averages.
        np.testing.assert_allclose(simulated.starts[number], first + number, atol=1e-5)
        expected = first + 0.5 * (number + 1)
        np.testing.assert_allclose(simulated.evaluated[number], expected, atol=1e-5)
    kept = weights.load_arrays(run.best_file)[0]
    np.testing.assert_allclose(kept[WORDS], first + 0.5 * best, atol=1e-5)
    last, metadata = weights.load_arrays(run.last_file)
    np.testing.assert_allclose(last[WORDS], first + 4, atol=1e-5)
    np.testing.assert_allclose(last[f"average/{WORDS}"], first + 2, atol=1e-5)
    assert kept.keys() == {name for name in last if f"average/{name}" in last}
    assert metadata["progress"]["best"] == max(scores)
    history = [
        {"epoch": number, "loss": float(number), "CIDEr": score}
        for number, score in enumerate(scores, start=1)
    ]
    assert metadata["progress"]["history"] == history


def test_a_run_without_a_checkpoint_starts_again_with_the_same_weights(settings, monkeypatch):
    simulated = Simulation(monkeypatch, [0.5, 0.4, 0.3, 0.2])

    def interrupted(*arguments):
        simulated.epoch(*arguments)
        monkeypatch.setattr(epochs, "train_epoch", simulated.epoch)
        raise KeyboardInterrupt

    monkeypatch.setattr(epochs, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(settings)
    training.train(settings)
    assert len(simulated.starts) == 5
    np.testing.assert_array_equal(*simulated.starts[:2])


def test_batches_have_the_settings_and_the_seed_of_the_run(settings, monkeypatch):
    made, kept, batches = [], [], training.CaptionBatches

    def make(images, vocabulary, *given):
        made.append((images.name, *given))
        kept.append(batches(images, vocabulary, *given))
        return kept[-1]

    monkeypatch.setattr(training, "CaptionBatches", make)
    own = {"batch_size": 7, "captions_per_image": 3, "max_words": 6, "flip": True, "crop": 0.8}
    Simulation(monkeypatch, [0.1])
    run = training.train(
        dataclasses.replace(settings, **own, seed=5, train_proposals=9, validate_every=4)
    )
    assert made == [("train", *own.values(), 5, 9)]
    first = weights.load_arrays(run.last_file)[0][WORDS]
    Simulation(monkeypatch, [0.1])
    attributes = {"concepts": "attributes", "concept_count": 3}
    other = training.train(
        dataclasses.replace(settings, seed=6, name="other", validate_every=4, **attributes)
    )
    assert np.abs(weights.load_arrays(other.last_file)[0][WORDS] - first).max() > 0.01
    (added, _), *others = kept[1]._columns.values()
    examples = other.load_data().splits["train"]
    np.testing.assert_array_equal(added, concept_targets(other, examples))
    assert not others and added.shape == (len(examples), 3) and 0 < added.mean() < 1
    assert not kept[0]._columns


def test_the_last_of_several_epochs_is_validated_even_if_others_are_not(settings, monkeypatch):
    simulated = Simulation(monkeypatch, [0.1, 0.2])
    run = training.train(dataclasses.replace(settings, validate_every=3))
    assert simulated.validated == [3, 4]
    history = weights.load_arrays(run.last_file)[1]["progress"]["history"]
    assert ["CIDEr" in epoch for epoch in history] == [False, False, True, True]


def test_a_training_ends_with_the_epoch_in_which_its_minutes_pass(settings, monkeypatch):
    timed = dataclasses.replace(settings, validate_every=4, minutes=1.0)
    simulated = Simulation(monkeypatch, [0.1], seconds=40.0)
    run = training.train(timed)
    assert (simulated.number, simulated.validated) == (2, [2])
    progress = weights.load_arrays(run.last_file)[1]["progress"]
    assert (progress["epochs"], progress["stopped"], progress["seconds"]) == (2, True, 80.0)
    training.train(timed)
    assert len(simulated.stages) == 2, "a finished training trains no more"


def test_a_resumed_training_counts_the_plateaus_before_it(settings, monkeypatch):
    decaying = dataclasses.replace(settings, decay="plateau", decay_epochs=1)
    simulated = Simulation(monkeypatch, [0.5, 0.4])
    with pytest.raises(IndexError):  # no score is left for the third epoch
        training.train(decaying)
    assert simulated.plateaus == [0, 0, 1]
    simulated.scores = [0.3, 0.2]
    training.train(decaying)
    assert simulated.plateaus == [0, 0, 1, 1, 2]


def test_stage_3_ends_with_the_epoch_in_which_it_diverges(settings, monkeypatch, capsys):
    rewarded = dataclasses.replace(settings, joint_epochs=1, reward_epochs=3, validate_every=9)
    simulated = Simulation(monkeypatch, [0.1])
    good = {"reward": 0.8, "length": 9.0, "entropy": 0.5, "bad_endings": 0.04}
    simulated.metrics = {3: good, 4: {**good, "reward": 0.2}}
    run = training.train(rewarded)
    assert simulated.stages == [1, 2, 3, 3]
    assert simulated.validated == [4]
    assert (run.folder / "document_frequencies.npz").exists()
    progress = weights.load_arrays(run.last_file)[1]["progress"]
    assert progress["stopped"]
    assert progress["history"][2] == {"epoch": 3, **good}
    printed = capsys.readouterr().out
    assert "reward 0.800, words 9.0, entropy 0.50, bad endings 4.0 % (" in printed
    assert "Stage 3 ends early: the mean reward fell from 0.800 to 0.200; lower" in printed


def test_stage_3_begins_once_with_the_averaged_backbone(settings, monkeypatch):
    rewarded = dataclasses.replace(settings, joint_epochs=1, reward_epochs=2)
    simulated = Simulation(monkeypatch, [0.1])
    good = {"reward": 0.8, "length": 9.0, "entropy": 0.5, "bad_endings": 0.04}
    simulated.metrics = {3: good, 4: good}
    begun = []
    monkeypatch.setattr(
        epochs.Trainer, "use_averaged_backbone", lambda _: begun.append(list(simulated.stages))
    )
    with pytest.raises(IndexError):  # no score is left for the second epoch
        training.train(rewarded)
    assert begun == []
    simulated.scores = [0.2, 0.3]
    with pytest.raises(IndexError):  # for the fourth epoch, the second of stage 3
        training.train(rewarded)
    simulated.scores = [0.4]
    training.train(rewarded)
    # The interrupted epoch 2 was validated again.
    assert begun == [[1, 2, 2]]


def test_validation_scores_each_caption_against_all_references_of_its_image():
    texts = [("a red dog runs", "one big cat sleeps"), ("the blue bird flies", "two fish swim far")]
    examples = [Example(number, f"{number}.png", each) for number, each in enumerate(texts)]
    images = SimpleNamespace(examples=[None, *examples])

    def score(first, second):
        captions = {1: Caption(first, (), 0.0), 2: Caption(second, (), 0.0)}
        return epochs.validation_cider(images, captions)

    # Of the two references of an image one is equal and the other has no word in common.
    assert score("one big cat sleeps", "two fish swim far") == pytest.approx(5)
    assert score("a red dog runs", "the blue bird flies") == pytest.approx(5)
    assert score("two fish swim far", "one big cat sleeps") == pytest.approx(0, abs=1e-9)


def test_the_vocabulary_has_only_the_words_of_the_training_split(settings, monkeypatch):
    splits = {
        split: (Example(0, "0.png", (f"a {word} square", f"a {word} square")),)
        for split, word in (("train", "red"), ("val", "lilac"), ("test", "teal"))
    }
    data = SimpleNamespace(name="colors", splits=splits)
    monkeypatch.setattr(preparation, "read_data", lambda *_: data)
    run = preparation.prepare_run(settings, contextlib.ExitStack())[0]
    assert set(run.vocabulary.words[4:]) == {"a", "red", "square"}


def test_supervision_of_attention_needs_boxes(settings):
    with pytest.raises(UserError, match="attention_supervision: expected boxes"):
        training.train(dataclasses.replace(settings, attention_supervision=1.0))
