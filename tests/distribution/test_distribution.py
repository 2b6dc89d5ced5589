"""Tests batches split among replicas, and the settings of a cluster; see also test_processes.py."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf
from processes import chief_and_worker
from tensorflow.python.distribute import multi_worker_util

from keras_aoa.data.build import load_data
from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.images.preprocessing import ImageSettings
from keras_aoa.data.images.split_images import Images, image_batches
from keras_aoa.data.text.vocabulary import PAD, Vocabulary
from keras_aoa.distribution.process import Process, check_cluster, make_strategy
from keras_aoa.distribution.replicas import ONE_REPLICA, Replicas
from keras_aoa.training.loop import start_process
from keras_aoa.utils.errors import UserError

# --- parts of batches -----------------------------------------------------------------------------


@pytest.mark.parametrize("total", [2, 3, 5])
@pytest.mark.parametrize(("rows", "batch_size"), [(12, 6), (13, 6), (7, 5), (3, 5), (9, 4)])
def test_every_row_of_a_batch_is_real_in_exactly_one_replica(rows, batch_size, total):
    rows = 100 + np.arange(rows)
    parts = [Replicas(total, first, 1).parts(rows, batch_size) for first in range(total)]
    sizes = {size for _, _, size in parts}
    assert sizes == {-(-batch_size // total)}
    (size,) = sizes
    batches = -(-len(rows) // batch_size)
    assert all(len(own) == len(real) == batches * size for own, real, _ in parts)
    for number in range(batches):
        part = slice(number * size, (number + 1) * size)
        batch = np.concatenate([own[part][real[part]] for own, real, _ in parts])
        expected = rows[number * batch_size : (number + 1) * batch_size]
        np.testing.assert_array_equal(np.sort(batch), expected)
        filled = np.concatenate([own[part][~real[part]] for own, real, _ in parts])
        assert set(filled) <= {expected[0]}


def test_a_process_with_two_replicas_gets_the_rows_of_both_in_turn():
    rows = np.arange(7)
    both, real, size = Replicas(4, 2, 2).parts(rows, 4)
    assert size == 1
    np.testing.assert_array_equal(both, [2, 3, 6, 4])
    np.testing.assert_array_equal(real, [True, True, True, False])


def test_a_single_replica_gets_the_rows_unchanged():
    own, real, size = ONE_REPLICA.parts(np.arange(7), 4)
    np.testing.assert_array_equal(own, np.arange(7))
    assert real.all()
    assert size == 4


@pytest.fixture(scope="module")
def training_images(squares):
    return Images(
        "train", load_data(squares, cache=squares).splits["train"], ImageSettings(16, "stretch")
    )


def test_replicas_together_get_the_captions_and_pixels_of_one_device(training_images):
    texts = [text for example in training_images.examples for text in example.captions]
    batches = CaptionBatches(training_images, Vocabulary.from_captions(texts, 1), 4, flip=True)
    single = [{name: v.numpy() for name, v in batch.items()} for batch in batches.epoch(3)]
    split = [list(batches.epoch(3, 0, Replicas(3, first, 1))) for first in range(3)]
    assert [len(parts) for parts in split] == [3, 3, 3]
    for batch, *parts in zip(single, *split, strict=True):
        joined = {name: np.concatenate([part[name] for part in parts]) for name in batch}
        real = (joined["captions"] != PAD).any(axis=(1, 2))
        order = np.argsort(joined["index"][real])
        own = np.argsort(batch["index"])
        for name in batch:
            np.testing.assert_array_equal(joined[name][real][order], batch[name][own])
        assert (joined["captions"][~real] == PAD).all()
        assert len(real) == 6


def test_replicas_together_caption_every_image(training_images):
    split = [image_batches(training_images, 2, replicas=Replicas(2, first, 1)) for first in (0, 1)]
    indices = [batch["index"].numpy() for batches in split for batch in batches]
    assert [len(batch) for batch in indices] == [2] * 6
    assert set(np.concatenate(indices)) == set(range(9))


# --- TF_CONFIG ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "worker 0",
        '{"cluster": {}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "one"}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}',
        '{"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": {"1": "a:1"}}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_an_invalid_cluster_is_refused_with_an_example(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=r'TF_CONFIG: expected \{"cluster".*received'):
        check_cluster()


@pytest.mark.parametrize(
    ("jobs", "task", "expected"),
    [
        ({"worker": ["a:1", "b:1"]}, ("worker", 1), (["a:1", "b:1"], 1)),
        ({"worker": ["a:1", "b:1"]}, ("worker", "1"), (["a:1", "b:1"], 1)),
        ({"chief": ["c:1"], "worker": ["a:1"]}, ("chief", 0), (["c:1", "a:1"], 0)),
        ({"chief": ["c:1"], "worker": ["a:1"]}, ("worker", 0), (["c:1", "a:1"], 1)),
        ({"chief": ["c:1"]}, ("chief", "0"), (["c:1"], 0)),
        ({"worker": ["a:1"], "evaluator": ["e:1"]}, ("worker", 0), (["a:1"], 0)),
        ({"worker": {"0": "a:1", "1": "b:1"}}, ("worker", 1), (["a:1", "b:1"], 1)),
    ],
)
def test_clusters_are_read_as_by_tensorflow(jobs, task, expected, monkeypatch):
    config = {"cluster": jobs, "task": dict(zip(("type", "index"), task, strict=True))}
    monkeypatch.setenv("TF_CONFIG", json.dumps({**config, "environment": "cloud"}))
    assert check_cluster() == expected
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    spec = multi_worker_util.normalize_cluster_spec(resolver.cluster_spec())
    own = (resolver.task_type, resolver.task_id)
    assert multi_worker_util.id_in_cluster(spec, *own) == expected[1]
    assert multi_worker_util.worker_count(spec, resolver.task_type) == len(expected[0])


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"cluster": {}},
        {"cluster": {}, "task": {"type": "worker", "index": 0}},
        {"task": {"type": "worker", "index": 0}, "environment": "cloud"},
        {
            "cluster": {"worker": ["a:1"], "evaluator": ["e:1"]},
            "task": {"type": "evaluator", "index": 0},
        },
    ],
)
def test_an_empty_cluster_and_an_evaluator_use_one_process(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert Process(make_strategy()).workers == 1


@pytest.mark.parametrize("lost_in", ["work", "wait"])
def test_a_worker_may_end_only_after_the_common_work(lost_in):
    process = Process()
    process.workers = 2

    def gather(_):
        raise tf.errors.UnavailableError(None, None, f"Socket closed in {lost_in}")

    process.gather = gather
    if lost_in == "wait":
        with process.until_all_finish():
            pass
    else:
        message = r"another of the 2 workers.*\(Socket closed in work\)"
        with pytest.raises(UserError, match=message), process.until_all_finish():
            process.wait()


def test_an_evaluator_does_not_train(monkeypatch, squares_settings):
    monkeypatch.setenv("TF_CONFIG", chief_and_worker(0, (1, 2, 3))["TF_CONFIG"])
    config = json.loads(os.environ["TF_CONFIG"])
    config["task"]["type"] = "evaluator"
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(UserError, match=r"TF_CONFIG: .* received evaluator"):
        start_process(squares_settings)
