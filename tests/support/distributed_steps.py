"""Functions for processes of their own, in which devices are configured before TensorFlow starts.

`main` runs twenty training steps of each captioner on one device, two replicas or two processes.
Its KIND is that of `make_strategy`. Its OPTIMIZER is SGD, in float32, or Adam, in float64: Adam
divides by small gradients and so amplifies rounding errors.
"""

import sys
import time

import keras
import numpy as np
import tensorflow as tf
from graphs import create_graphs_faster
from keras import layers

from benchmarks import kill_and_resume
from keras_aoa.cli import start
from keras_aoa.data.build import load_data
from keras_aoa.data.caption_batches import CaptionBatches
from keras_aoa.data.images.preprocessing import ImageSettings
from keras_aoa.data.images.split_images import Images, image_batches
from keras_aoa.data.images.views import ProposalView
from keras_aoa.data.proposals.cache import ProposalSettings
from keras_aoa.data.text.attributes import attribute_words, word_flags
from keras_aoa.data.text.topics import find_topics, topic_mixtures
from keras_aoa.data.text.vocabulary import Vocabulary
from keras_aoa.distribution.process import Process, make_strategy
from keras_aoa.inference.generator import CaptionGenerator, generate
from keras_aoa.models.build import make_captioner
from keras_aoa.settings.configuration import Configuration
from keras_aoa.training.accumulation import groups
from keras_aoa.training.reward import CaptionReward
from keras_aoa.training.synchronization import Adam, PreReducedGradients
from keras_aoa.training.trainer import Trainer

STEPS, JOINT_FROM, REWARDS_FROM = 20, 10, 15  # more than three epochs, then two stages
# The 9 images give batches of 4, 4 and 1, or of 3: two replicas must fill some of them.
BATCH = {"SGD": 4, "Adam": 3}
# The captioners by name, with their settings.
CAPTIONERS = {
    "grid": {},
    "transformer": {"regions": "transformer"},
    "proposals": {"regions": "proposals"},
    "vinyals": {"variant": "baseline", "image_first": True},
    "donahue": {"variant": "baseline", "image_each_step": True},
    "soft": {"variant": "soft", "attention_gate": True, "attention_coverage": 1.0},
    "topics": {"variant": "soft", "concepts": "topics"},
    "wu": {"variant": "baseline", "concepts": "attributes", "image_first": True},
    "you": {"variant": "semantic", "concepts": "attributes", "image_first": True},
    "yang": {"variant": "review", "review_words": 10.0},
}


class SGD(PreReducedGradients, keras.optimizers.SGD):
    """Plain SGD on gradients that are already summed over replicas."""


OPTIMIZERS = {"SGD": SGD, "Adam": Adam}


def network():
    """Build a backbone of two convolutions, without batch normalization."""
    keras.utils.set_random_seed(3)
    pixels = keras.Input((None, None, 3))
    scaled = layers.Rescaling(1 / 127.5, -1.0)(pixels)
    first = layers.Conv2D(6, 5, strides=4, padding="same", activation="relu")(scaled)
    second = layers.Conv2D(5, 3, padding="same", activation="relu")(first)
    vector = layers.GlobalAveragePooling2D()(second)
    return keras.Model(pixels, {"map": second, "vector": vector})


def train(process, settings, optimizer, data, folder):
    """Train, and return losses, final weights and captions by name."""
    configuration = Configuration(
        transformer_filter="own", image_size=24, proposals_size=24, units=9,
        embedding_dim=8, stride=1, anchor_scale=1.0, train_proposals=6, dropout=0.0,
        batch_size=BATCH[optimizer.__name__],
        rnn_epochs=1, joint_epochs=1, reward_epochs=1, reward_samples=3,
        reward_learning_rate=0.02, learning_rate=0.02, backbone_learning_rate=0.02,
        clip_norm=0.5, average=0.5, flip=True, max_words=2,
        accumulate=2 if optimizer is Adam else 1, concept_count=4, **settings,
    )  # fmt: skip
    view = None
    if configuration.regions == "proposals":
        view = ProposalView(ImageSettings(24, "pad"), ProposalSettings(), folder)
    examples = data.splits["train"]
    images = Images("train", examples, ImageSettings(24, "stretch"), 1.0, view)
    texts = [text for example in examples for text in example.captions]
    vocabulary = Vocabulary.from_captions(texts, 1)
    batches = CaptionBatches(images, vocabulary, configuration.batch_size, 2, 2, True, 1.0, 0, 6)
    concept_ids = ()
    if configuration.concepts == "attributes":
        words = attribute_words(vocabulary, configuration.concept_count)
        concept_ids = tuple(map(vocabulary.words.index, words))
        batches.add_column("concepts", word_flags(examples, vocabulary, concept_ids))
    if configuration.concepts == "topics":
        topics = find_topics(examples, vocabulary, configuration.concept_count)
        batches.add_column("concepts", topic_mixtures(examples, vocabulary, topics))
    with process.strategy.scope():
        keras.utils.set_random_seed(0)
        captioner = make_captioner(configuration, network(), len(vocabulary), concept_ids)
        reward = CaptionReward([example.captions for example in examples], vocabulary)
        steps = -(-batches.batches_per_epoch // configuration.accumulate)
        trainer = Trainer(captioner, configuration, steps, optimizer, reward)
        generator = CaptionGenerator.from_configuration(captioner, vocabulary, configuration)
    losses = []
    while trainer.steps < STEPS:
        epoch, done = divmod(trainer.steps, steps)
        parts = batches.epoch(epoch, done * configuration.accumulate, process.replicas)
        for group in groups(process.feed(parts), configuration.accumulate):
            stage = 1 + (trainer.steps >= JOINT_FROM) + (trainer.steps >= REWARDS_FROM)
            metrics, stopped = trainer.step(group, stage)
            assert not stopped
            losses.append(sum(metrics.values()))
            if trainer.steps == STEPS:
                break
    results = {**trainer.state(), "losses": np.array(losses)}
    if optimizer is Adam:
        return results
    parts = image_batches(images, 2, 9, process.replicas)
    by_index = generate(generator, parts, 9, with_attention=True)
    captions = [by_index[index] for index in sorted(by_index)]
    return results | {
        "captions": np.array([caption.text for caption in captions]),
        "log_probs": np.array([caption.log_prob for caption in captions]),
        "attention": np.concatenate([caption.attention.ravel() for caption in captions]),
    }


def use_two_cpus():
    """Make TensorFlow see two CPUs."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def command_on_two_cpus(*arguments):
    """Call the training command on two CPUs."""
    use_two_cpus()
    sys.argv[1:] = arguments
    start("train")


def child_with_faster_graphs(config):
    """Train as each process of `kill_and_resume` does, in less time."""
    create_graphs_faster()
    kill_and_resume.child(config)


def gather(file):
    """Assert that each process of a cluster hears from both, and ends after both finish."""
    process = Process(make_strategy())
    name = b"chief" if process.chief else b"worker"
    with process.until_all_finish():
        assert process.gather(name) == [b"chief", b"worker"]
        assert process.any(process.chief) and not process.any(False)
        if not process.chief:
            time.sleep(0.3)
            file.touch()
    assert file.exists()


def main(kind, optimizer, data, output, *names):
    """Train each of the named captioners and save the results."""
    if kind == "mirrored":
        use_two_cpus()
    create_graphs_faster()
    process = Process(make_strategy(kind))
    loaded = load_data(data, cache=data)
    results = {}
    if optimizer == "Adam":
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
    with process.until_all_finish():
        for captioner in names:
            trained = train(process, CAPTIONERS[captioner], OPTIMIZERS[optimizer], loaded, data)
            results |= {f"{captioner}/{name}": value for name, value in trained.items()}
    if process.chief:
        np.savez(output, replicas=process.replicas.total, workers=process.workers, **results)
