"""Faithfulness: how much a word's probability depends on the region with the most attention.

For each generated word, the features of one region are replaced by the mean features of the image's
regions, and the fall of log p(word) is measured. If attention is faithful, log p(word) falls more
when the region with the most attention is replaced than when another region is replaced. The idea
comes from the measure "comprehensiveness" of the ERASER benchmark. Source: DeYoung et al.,
"ERASER", ACL 2020, arXiv:1911.03429.
"""

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.split_images import VIEWS
from keras_aoa.data.text.vocabulary import PAD, STOP
from keras_aoa.evaluation.correctness import check_attends, encode
from keras_aoa.evaluation.split import SplitCaptioner, batches_for
from keras_aoa.layers.regions import Regions
from keras_aoa.models.teacher_forcing import teacher_forcing
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.progress import progress_bar

RESAMPLES = 2000
SEED = 0  # for choosing the other regions and for resampling
CONVENTION = (
    "fall of log p(word), in nats, when the features of one region are replaced by the mean "
    "features of the image's regions; means over words, 95 % intervals by resampling images"
)


def evaluate_faithfulness(run, settings):
    """Measure how faithful the attention of a run is on a split.

    Prints the result and writes `faithfulness.json`.

    Args:
        run: `Run`.
        settings: `EvaluationSettings`.

    Returns:
        The content of `faithfulness.json`.

    Raises:
        UserError: the run is an ensemble, its attention is always uniform, or no image has several
            regions. `evaluate` can raise further errors.
    """
    if len(run.members) > 1:
        raise UserError(
            f"faithfulness: expected one run, received an ensemble of {len(run.members)}; "
            "measure its members separately."
        )
    check_attends(run.configuration, run.folder, "faithfulness")
    task = SplitCaptioner(run, settings)
    generator = task.generator()
    generated = task.captions(generator, with_attention=False)
    ids = encode(run.vocabulary, {i: [caption.words] for i, caption in generated.items()})
    batches = batches_for(generator, task.images)
    falls = measure_falls(task.captioner, generator.settings.get("stride"), batches, ids)
    content = {
        **task.metadata(generator.settings),
        "images": len(generated),
        "convention": CONVENTION,
        **summarize(falls),
    }
    task.write(content, "faithfulness.json")
    print(format_line(content))
    return content


def measure_falls(captioner, stride, batches, ids):
    """Measure how much log p of each word falls when one region is replaced.

    Args:
        captioner: `Captioner`.
        stride: Step between regions on the activation map, or None for object proposals.
        batches: Batches from `image_batches`.
        ids: Output of `encode` for one caption per image, `{index: (1, t + 1)}`.

    Returns:
        A list with an array `(words, 2)` for each image that has several regions. The first column
        is the fall of log p when the region with the most attention is replaced. The second column
        is the fall of log p when another region, chosen at random, is replaced.
    """

    @tf.function(autograph=False)
    def score(inputs, ids):
        features = captioner.extract_features(inputs)
        regions, vector = captioner.make_regions(features, inputs.get("proposals"), stride=stride)
        result = teacher_forcing(captioner, captioner.encode_regions(regions, vector), ids)
        return regions, vector, result.log_probs[:, 0], result.attention[:, 0]

    @tf.function(autograph=False)
    def score_without(regions, vector, ids, replaced):
        return log_probs_without(captioner, regions, vector, ids, replaced)

    random = np.random.default_rng(SEED)
    falls = []
    with progress_bar(total=len(ids), desc="replacing regions", unit="image") as bar:
        for batch in batches:
            inputs = {name: batch[name] for name in (*VIEWS, "proposals") if name in batch}
            rows = np.stack([ids[int(index)] for index in batch["index"]])
            regions, vector, whole, attention = score(inputs, rows)
            mask = np.asarray(regions.mask)
            strongest = np.argmax(np.where(mask[:, None], attention, -1.0), axis=-1)
            fallen = [
                whole - score_without(regions, vector, rows, replaced)
                for replaced in (strongest, other_regions(random, mask, strongest))
            ]
            is_word = (rows[:, 0, 1:] != PAD) & (rows[:, 0, 1:] != STOP)
            for index in np.flatnonzero(mask.sum(axis=1) > 1):
                falls.append(np.stack(fallen, axis=-1)[index][is_word[index]])
            bar.update(len(rows))
    return falls


def log_probs_without(captioner, regions, vector, ids, replaced):
    """Replace the features of one region for each word, and return log p of the words, `(n, t)`.

    Each word is scored with its own copy of the image. All words of the caption are fed to the
    copy, so that the replaced region also affects the states before the scored word.

    Args:
        captioner: `Captioner`.
        regions: `Regions` of n images.
        vector: Image vectors, `(n, v)`.
        ids: Word ids of one caption per image, `(n, 1, t + 1)`.
        replaced: For each word, the index of the region to replace, `(n, t)`.
    """
    count, words = tf.unstack(tf.shape(replaced))
    regions_count = tf.shape(regions.mask)[1]
    present = tf.cast(regions.mask, regions.features.dtype)[..., None]
    mean = tf.reduce_sum(regions.features * present, 1) / tf.reduce_sum(present, 1)
    here = tf.one_hot(replaced, regions_count, on_value=True, off_value=False)[..., None]
    features = tf.where(here, mean[:, None, None], regions.features[:, None])

    def copies(values):
        return tf.repeat(values, words, axis=0)

    changed = Regions(
        tf.reshape(features, (count * words, regions_count, features.shape[-1])),
        copies(regions.boxes),
        copies(regions.mask),
    )
    encoded = captioner.encode_regions(changed, copies(vector))
    log_probs = teacher_forcing(captioner, encoded, copies(ids)).log_probs
    return tf.linalg.diag_part(tf.reshape(log_probs, (count, words, words)))


def other_regions(random, mask, strongest):
    """For each word, choose a random region that is not the strongest region.

    Returns:
        Indices of the regions, `(n, t)`.
    """
    noise = random.random((*strongest.shape, mask.shape[1]))
    allowed = np.broadcast_to(mask[:, None], noise.shape).copy()
    np.put_along_axis(allowed, strongest[..., None], False, axis=-1)
    return np.argmax(np.where(allowed, noise, -1.0), axis=-1)


def summarize(falls):
    """Average the falls over words, and compute 95 % intervals.

    Returns:
        Dictionary with the number of `words`, and with the `mean` and `interval` of `strongest`,
        `other` and `difference`.

    Raises:
        UserError: no image with several regions has a word.
    """
    falls = [each for each in falls if len(each)]
    if not falls:
        raise UserError(
            "faithfulness: expected words of images with several regions, received none; measure "
            "another split, or a run with another kind of regions."
        )
    sums = np.array([[*each.sum(axis=0), len(each)] for each in falls])
    sums = np.insert(sums, 2, sums[:, 0] - sums[:, 1], axis=1)
    chosen = np.random.default_rng(SEED).integers(len(sums), size=(RESAMPLES, len(sums)))
    resampled = sums[chosen].sum(axis=1)
    low, high = np.percentile(resampled[:, :3] / resampled[:, 3:], [2.5, 97.5], axis=0)
    means = sums[:, :3].sum(axis=0) / sums[:, 3].sum()
    parts = zip(("strongest", "other", "difference"), means, low, high, strict=True)
    return {
        "words": int(sums[:, 3].sum()),
        **{name: {"mean": m, "interval": [a, b]} for name, m, a, b in parts},
    }


def format_line(content):
    """Return the measures as a line of text."""

    def part(name):
        low, high = content[name]["interval"]
        return f"{content[name]['mean']:.3f} [{low:.3f}, {high:.3f}]"

    return (
        f"log p(word) falls by {part('strongest')} without the region with the most attention, by "
        f"{part('other')} without another region; difference {part('difference')} "
        f"({content['words']} words of {content['images']} images, 95 % intervals)."
    )
