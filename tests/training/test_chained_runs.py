"""Runs that start from another run, with simulated epochs: their weights and random choices."""

import dataclasses

import numpy as np
import pytest
from warm_sources import arrays, assert_equal, configured, make_source

from keras_aoa.runs.packing import pack
from keras_aoa.runs.run import Run
from keras_aoa.training import epochs
from keras_aoa.training import loop as training


@pytest.fixture
def simulated(monkeypatch):
    """Replace epochs by adding 1 to all word vectors; returns the vectors each epoch began with."""
    starts = []

    def epoch(trainer, process, batches, progress, *_):
        words = trainer.captioner.attention.words
        starts.append((progress.epochs, np.asarray(words.value).copy()))
        if len(starts) == epoch.interrupted:
            raise KeyboardInterrupt
        words.assign_add(np.ones(words.shape))
        return {"loss": 1.0}

    epoch.interrupted = 0
    monkeypatch.setattr(epochs, "train_epoch", epoch)
    monkeypatch.setattr(epochs, "captions_for_validation", lambda *_: {})
    monkeypatch.setattr(epochs, "validation_cider", lambda *_: float(len(starts)))
    monkeypatch.setattr(epochs.TensorBoard, "validation", lambda *_: None)
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: None)
    return starts, epoch


def test_an_interrupted_run_resumes_from_its_own_weights(
    folder, source, loaded, squares, tmp_path, simulated, capsys
):
    starts, epoch = simulated
    epoch.interrupted = 2
    configuration = configured(
        tmp_path,
        squares,
        backbone=source.configuration.backbone,
        start_from=str(source.folder),
    )
    with pytest.raises(KeyboardInterrupt):
        training.train(configuration)
    assert "Starting from" in capsys.readouterr().out
    training.train(configuration)
    assert "Starting from" not in capsys.readouterr().out
    words = np.asarray(loaded.attention.words.value)
    assert [number for number, _ in starts] == [0, 1, 1]
    for (_, actual), added in zip(starts, (0, 1, 1), strict=True):
        np.testing.assert_allclose(actual, words + added, atol=1e-6)


def test_a_run_interrupted_in_its_first_epoch_starts_from_the_source_again(
    folder, source, loaded, squares, tmp_path, simulated, capsys
):
    starts, epoch = simulated
    epoch.interrupted = 1
    own = {"backbone": source.configuration.backbone, "start_from": str(source.folder)}
    with pytest.raises(KeyboardInterrupt):
        training.train(configured(tmp_path, squares, **own))
    training.train(configured(tmp_path, squares, **own))
    assert capsys.readouterr().out.count("Starting from") == 2
    np.testing.assert_array_equal(starts[0][1], starts[1][1])
    np.testing.assert_array_equal(starts[0][1], loaded.attention.words)


def test_each_run_of_a_chain_makes_other_random_choices(
    source, squares, tmp_path, simulated, monkeypatch
):
    choices, simulated_epoch = [], epochs.train_epoch

    def epoch(trainer, process, batches, progress, *others):
        order = [batch["index"] for batch in batches.epoch(0).as_numpy_iterator()]
        seeds = np.asarray(trainer.captioner.seeds.state.value)
        choices.append((trainer.captioner.seed, *seeds, *np.concatenate(order)))
        return simulated_epoch(trainer, process, batches, progress, *others)

    monkeypatch.setattr(epochs, "train_epoch", epoch)
    own = {"backbone": source.configuration.backbone, "rnn_epochs": 1}
    first = configured(tmp_path, squares, name="first", **own)
    second = dataclasses.replace(first, name="second", start_from=str(first.folder))
    third = dataclasses.replace(second, name="third", start_from=str(second.folder))
    for configuration in (first, second, third, dataclasses.replace(second, name="again")):
        training.train(configuration)
    packed, _ = pack(Run(second.folder), tmp_path / "packed")
    training.train(dataclasses.replace(third, name="from-pack", start_from=str(packed)))
    assert choices[1] == choices[3] and choices[2] == choices[4]
    seeds, _, counts, *orders = zip(*choices[:3], strict=True)
    assert seeds[0] == first.seed and len(set(seeds)) == 3
    assert set(counts) == {0}
    assert len(set(zip(*orders, strict=True))) == 3


def test_a_resumed_run_of_a_chain_repeats_its_random_choices(source, squares, tmp_path, simulated):
    simulated[1].interrupted = 1
    own = {"backbone": source.configuration.backbone, "start_from": str(source.folder)}
    configuration = configured(tmp_path, squares, **own)
    with pytest.raises(KeyboardInterrupt):
        training.train(configuration)
    seed = Run(configuration.folder).random_seed
    assert seed != configuration.seed
    assert training.train(configuration).random_seed == seed
    assert Run(configuration.folder).random_seed == seed


def test_a_run_saves_a_region_backbone_trained_in_another_run(
    folder, squares, vocabulary, tmp_path, simulated
):
    tuned = configured(folder, squares, name="two", regions="proposals")
    theirs = make_source(tuned, vocabulary, tuned=True)
    own = {"backbone": theirs.configuration.backbone, "start_from": str(theirs.folder)}
    run = training.train(configured(tmp_path, squares, regions="proposals", **own))
    actual, expected = run.load_captioner(), theirs.load_captioner()
    assert_equal(actual.region_backbone, expected.region_backbone)
    assert_equal(actual.backbone, expected.backbone)
    assert not np.array_equal(arrays(actual.backbone)[0], arrays(actual.region_backbone)[0])


def test_without_start_from_a_run_has_other_weights(source, loaded, squares, tmp_path, simulated):
    own = configured(tmp_path, squares, backbone=source.configuration.backbone)
    training.train(own)
    assert np.abs(simulated[0][0][1] - loaded.attention.words).max() > 0.05
