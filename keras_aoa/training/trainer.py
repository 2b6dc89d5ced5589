"""The training steps on any number of replicas, with a separate learning rate for the backbone."""

import keras
import numpy as np
import tensorflow as tf

from keras_aoa.models import weights
from keras_aoa.models.scheduled_sampling import sampled_inputs
from keras_aoa.models.teacher_forcing import caption_loss, word_count
from keras_aoa.training import schedule, self_critical
from keras_aoa.training.accumulation import Accumulator
from keras_aoa.training.baseline import Baseline
from keras_aoa.training.extra_losses import extra_losses
from keras_aoa.training.self_critical import SAMPLE_METRICS
from keras_aoa.training.synchronization import (
    Adam,
    sum_over_replicas,
    synchronize_normalization,
)

REPLICA_SEED = 7919  # difference between the random seeds of two replicas


class Trainer:
    """Trains a captioner with Adam, with a separate learning rate for the backbone.

    Create the trainer and the captioner in the scope of the training strategy.

    Args:
        captioner: Built `Captioner`.
        configuration: `Configuration`.
        steps_per_epoch: Number of optimizer steps per epoch, for the schedule of learning rates.
        optimizer: Optimizer class, a subclass of `PreReducedGradients`. The trainer creates one
            instance for the backbone and one for the other weights.
        reward: `CaptionReward` of the training images, only for stage 3.

    Attributes:
        steps: Number of optimizer steps that were trained.
        plateaus: Number of plateaus of the validated score, for the decay `plateau`.
    """

    def __init__(self, captioner, configuration, steps_per_epoch, optimizer=Adam, reward=None):
        self.captioner = captioner
        self.configuration = configuration
        self.steps_per_epoch = steps_per_epoch
        self.reward = reward
        self.strategy = tf.distribute.get_strategy()
        self.steps = self.plateaus = 0
        self.backbone_variables = captioner.backbone_trainable_variables
        backbone = {id(v) for v in self.backbone_variables}
        self.own_variables = [v for v in captioner.trainable_variables if id(v) not in backbone]
        with_backbone = configuration.joint_epochs > 0
        # Callbacks may read the rates before the first step.
        self.optimizer = optimizer(configuration.learning_rate)
        self.backbone_optimizer = optimizer(configuration.backbone_learning_rate)
        self.optimizer.build(self.own_variables)
        # Adam's variables need twice the backbone's memory: a gigabyte for VGG16.
        if with_backbone:
            self.backbone_optimizer.build(self.backbone_variables)
        self._accumulator = None
        if configuration.accumulate > 1:
            backbone_part = self.backbone_variables if with_backbone else []
            self._accumulator = Accumulator(self.own_variables + backbone_part)
        self._baseline = Baseline() if captioner.attention.samples_regions else None
        if captioner.from_scratch and self.strategy.num_replicas_in_sync > 1:
            synchronize_normalization(captioner)
        # Store a loaded region backbone with the weights: no other file of this run contains it.
        loaded = bool(configuration.start_from) and captioner.region_backbone is not None
        self.trained = weights.captioner_variables(captioner, with_backbone or loaded)
        self.averages = {}
        if configuration.average:
            self.averages = {
                # A copy of the value, because Keras would otherwise share the weight's variable.
                name: keras.Variable(np.array(v.value), trainable=False, name=v.name)
                for name, v in self.trained.items()
                if keras.backend.is_float_dtype(v.dtype)
            }
        self._functions = {}

    def step(self, batches, stage, stop=False):
        """Train on one batch, or on several batches whose gradients are accumulated.

        Args:
            batches: A batch of `CaptionBatches`, a distributed batch, or a list of at most
                `accumulate` batches. Stage 3 does not use the captions in the batches.
            stage: 1 trains all weights except the backbone's, 2 trains all weights, and 3 trains
                the weights of stage 1 on sampled captions.
            stop: Whether this process was asked to stop.

        Returns:
            A dictionary of metrics, and whether any process was asked to stop. In stages 1 and 2,
            the only metric is `loss`, in nats per word. In stage 3, the metrics are
            `SAMPLE_METRICS`.
        """
        batches = batches if isinstance(batches, list) else [batches]
        # float32, as the weights: a product in float64 could round to another learning rate.
        settings, factor = self.configuration, np.float32(self.rate_factor())
        rate = settings.reward_learning_rate if stage == 3 else settings.learning_rate
        numbers = {
            "rate": np.float32(rate) * factor,
            "backbone_rate": np.float32(settings.backbone_learning_rate) * factor,
            "average": min(settings.average, (1 + self.steps) / (10 + self.steps)),
            "sampled": self.sampled_share(),
            "step": self.steps,
            "stop": stop,
        }
        numbers = {name: tf.constant(value, tf.float32) for name, value in numbers.items()}
        results, stops, counts = zip(
            *(self._function(stage, batch is batches[-1])(batch, numbers) for batch in batches),
            strict=True,
        )
        self.steps += 1
        means = results[0].numpy()
        if len(batches) > 1:
            means = np.average([result.numpy() for result in results], axis=0, weights=counts)
        names = SAMPLE_METRICS if stage == 3 else ("loss",)
        return dict(zip(names, map(float, means), strict=True)), any(map(bool, stops))

    def _function(self, stage, last):
        """Return the compiled function for a batch, which updates the weights if `last` is true."""
        if (stage, last) not in self._functions:
            # One trace per shape, without reduce_retracing: a trace for several shapes rounds
            # differently, and a resumed run would use it for other batches.
            self._functions[stage, last] = tf.function(
                lambda *arguments: self._distributed_step(*arguments, stage, last), autograph=False
            )
        return self._functions[stage, last]

    def rate_factor(self):
        """Return the factor by which warmup and decay scale the learning rates at this step."""
        return schedule.rate_factor(
            self.configuration, self.steps, self.steps_per_epoch, self.plateaus
        )

    def sampled_share(self):
        """Return the probability that scheduled sampling replaces an input word at this step."""
        return schedule.sampled_share(self.configuration, self.steps, self.steps_per_epoch)

    def state(self):
        """Return the complete training state as a dictionary of arrays."""
        return weights.values(self._state_variables())

    def restore(self, arrays, steps, source):
        """Restore a training state.

        Args:
            arrays: Dictionary of arrays, as returned by `state`.
            steps: Number of steps that were trained before the state was saved.
            source: File name for error messages.

        Raises:
            UserError: the state belongs to another model.
        """
        weights.assign(self._state_variables(), arrays, source)
        self.steps = steps

    def use_averaged_backbone(self):
        """Replace the backbone's weights by their moving averages, before stage 3 begins.

        Stage 3 may read cached features of the backbone. Then these are features of the backbone
        that is evaluated and saved.
        """
        averages = {
            name: value
            for name, value in self.averages.items()
            if name.split("/")[0] in ("backbone", "region_backbone")
        }
        own = {name: self.trained[name] for name in averages}
        weights.assign(own, weights.values(averages), "averages")

    def evaluated_weights(self):
        """Return the weights to evaluate and save. If enabled, moving averages replace weights."""
        return weights.values({**self.trained, **self.averages})

    def with_evaluated_weights(self, function):
        """Call a function while the captioner temporarily has its evaluated weights."""
        if not self.averages:
            return function()
        own = weights.values(self.trained)
        weights.assign(self.trained, self.evaluated_weights(), "averages")
        try:
            return function()
        finally:
            weights.assign(self.trained, own, "averages")

    def _distributed_step(self, batch, numbers, stage, last):
        count = self_critical.image_count if stage == 3 else word_count
        # Reduce both numbers together, because each reduction communicates between all machines.
        counts = self.strategy.run(
            lambda own: tf.stack([count(own["captions"]), numbers["stop"]]), (batch,)
        )
        total, stops = tf.unstack(self.strategy.reduce("SUM", counts, axis=None))
        self.optimizer.learning_rate.assign(numbers["rate"])
        self.backbone_optimizer.learning_rate.assign(numbers["backbone_rate"])
        results = self.strategy.run(self._replica_step, (batch, total, numbers, stage, last))
        if self._baseline and last and stage != 3:
            self._baseline.update()
        for name, value in self.averages.items() if last else ():
            current = self.trained[name].value
            share = tf.cast(numbers["average"], value.dtype)
            value.assign(share * value + (1 - share) * tf.convert_to_tensor(current))
        return self.strategy.reduce("SUM", results, axis=None), stops > 0, total

    def _replica_step(self, batch, total, numbers, stage, last):
        context, seeds = tf.distribute.get_replica_context(), self.captioner.seeds.state
        replica = context.replica_id_in_sync_group * REPLICA_SEED
        several = context.num_replicas_in_sync > 1
        if several:  # replicas need different noise, but checkpoints contain only one seed state
            seeds.assign_add(tf.stack([replica, 0]))
        # Features need no gradients unless the backbone is trained.
        if stage != 2 and "features" not in batch:
            batch = {**batch, "features": self.captioner.extract_features(batch)}
        if stage == 3:
            gradients, result = self._reward_step(batch, total, numbers["step"])
        else:
            gradients, result = self._caption_step(batch, total, numbers["sampled"], stage == 2)
        if self._accumulator:
            self._accumulator.add(gradients, total)
            gradients = self._accumulator.take(gradients) if last else None
        if last:
            self._apply(gradients)
        if several:
            seeds.assign_sub(tf.stack([replica, 0]))
        return result

    def _caption_step(self, batch, words, sampled, joint):
        captioner, inputs = self.captioner, batch
        if self.configuration.scheduled_sampling:
            # Sampled words need no gradients, so they are computed outside the tape.
            encoded = captioner.encode(inputs)
            captions = tf.cast(batch["captions"], tf.int32)
            inputs = {**inputs, "fed": sampled_inputs(captioner, encoded, captions, sampled)}
        if self._baseline:
            batch = {**batch, "baseline": self._baseline.value.value}
        with tf.GradientTape() as tape:
            encoded = captioner.encode(inputs, training=True)
            decoded = captioner.decode(encoded, inputs, training=True)
            loss = caption_loss(decoded.log_probs, batch["captions"], words)
            extra = extra_losses(self.configuration, captioner, batch, encoded, decoded)
            loss += extra / tf.cast(words, loss.dtype)
        if self._baseline:
            self._baseline.add(decoded.log_probs, batch["captions"])
        return self._gradients(tape, loss, joint), tf.stack([loss])

    def _reward_step(self, batch, images, step):
        settings = self.configuration
        seeds = self.captioner.seeds.state
        seed = tf.identity(seeds.value)
        samples = self_critical.sample(self.captioner, batch, step, self.reward, settings)
        # The gradient belongs to the probabilities of the samples, so it needs their dropout masks.
        seeds.assign(seed)
        real = tf.cast(self_critical.has_captions(batch["captions"]), tf.float32)
        share = (real / (images * settings.reward_samples))[:, None]
        with tf.GradientTape() as tape:
            # Not by `call`, because label smoothing would change the gradient.
            encoded = self.captioner.encode(batch, training=True)
            log_probs = self_critical.sampled_log_probs(
                self.captioner, encoded, samples.captions, settings.reward_temperature
            )
            loss = self_critical.policy_loss(log_probs, samples.advantages, share)
        metrics = self_critical.sample_metrics(loss, samples, log_probs, share)
        return self._gradients(tape, loss, joint=False), metrics

    def _gradients(self, tape, loss, joint):
        variables = self.own_variables + (self.backbone_variables if joint else [])
        return tape.gradient(loss, [v.value for v in variables])

    def _apply(self, gradients):
        # Sum before clipping, so that the result does not depend on the number of replicas.
        gradients, _ = tf.clip_by_global_norm(
            sum_over_replicas(gradients), self.configuration.clip_norm
        )
        own = len(self.own_variables)
        parts = [(self.optimizer, gradients[:own], self.own_variables)]
        if len(gradients) > own:
            parts.append((self.backbone_optimizer, gradients[own:], self.backbone_variables))
        for optimizer, own_gradients, variables in parts:
            # The loss may not depend on some variables. For example, stage 3 does not train the
            # predictor of concepts.
            pairs = zip(own_gradients, variables, strict=True)
            trained = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
            if trained:
                optimizer.apply_gradients(trained)

    def _state_variables(self):
        averages = {f"average/{name}": value for name, value in self.averages.items()}
        baseline = [self._baseline.value] if self._baseline else []
        return {
            **self.trained,
            **averages,
            **weights.named_variables("baseline", baseline),
            **weights.named_variables("optimizer", self.optimizer.variables),
            **weights.named_variables("backbone_optimizer", self.backbone_optimizer.variables),
            **weights.named_variables("seed", [self.captioner.seeds.state]),
        }
