"""Measures attention correctness on a split, for generated and for ground-truth captions."""

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.split_images import VIEWS
from keras_aoa.data.text.mentions import mentions_in_caption, named_mentions, naming_words
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.evaluation.correctness_measures import (
    CENTER_DEVIATION,
    COLUMNS,
    MAP_SIDE,
    MEASURES,
    OVERLAP,
    THRESHOLD,
    ImageRegions,
    Tally,
)
from keras_aoa.evaluation.split import SplitCaptioner, batches_for
from keras_aoa.models.teacher_forcing import teacher_forcing
from keras_aoa.settings.groups import UNIFORM_VARIANTS
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.progress import progress_bar

KINDS = ("ground_truth", "generated")
HEADINGS = ("model", "best of phrase", "state after the word", "uniform", "center prior")
CONVENTIONS = {
    "default": "model, region",
    "model": "attention of the state that predicts the word",
    "model_phrase": "the best word of the phrase, each by the state that predicts it (Liu et al.)",
    "model_after_word": "attention of the state after the word",
    "uniform": "equal weights of all regions",
    "center_prior": f"Gaussian over the regions' centers, deviation {CENTER_DEVIATION} of the "
    "image's sides",
    "region": "attention inside the boxes, each weight spread evenly over its region",
    "pixel": "each pixel of a region takes the region's weight; normalized over the image",
    "pointing": f"maximum of the map ({MAP_SIDE} x {MAP_SIDE}, as region) inside a box",
    "localization": f"box around the largest connected part of the map above {THRESHOLD} of its "
    f"maximum: intersection over union of at least {OVERLAP} with a box",
}


def evaluate_correctness(run, settings, several=(), data=None):
    """Measure the attention correctness of a run on a split that has boxes.

    Prints a table and writes `correctness.json`.

    Args:
        run: `Run`.
        settings: `EvaluationSettings`.
        several: Names of the settings that received several values, which causes an error.
        data: `CaptionData`, or None to load the data.

    Returns:
        The content of `correctness.json`.

    Raises:
        UserError: `several` is not empty, the run's attention is always uniform, or the data have
            no boxes. `evaluate` can raise further errors.
    """
    if several:
        raise UserError(f"correctness: expected one value of {several[0]}, received several.")
    for member in run.members:
        check_attends(member.configuration, member.folder)
    task = SplitCaptioner(run, settings, data)
    check_boxes(task.split, task.examples)
    generator = task.generator()
    generated = task.captions(generator, with_attention=False)
    captions = {
        index: [caption.words, *map(tokenize, task.examples[index].captions)]
        for index, caption in generated.items()
    }
    mentions = mentions_of(task.examples, captions)
    attended = attend_captions(
        task.captioner,
        generator.settings.get("stride"),
        batches_for(generator, task.images),
        encode(run.vocabulary, captions),
        task.images.windows,
    )
    tallies = tally(attended, mentions)
    content = {
        **task.metadata(generator.settings),
        "images": len(generated),
        "images_without_boxes": len(generated) - len(mentions),
        "conventions": CONVENTIONS,
        **{kind: tally.content() for kind, tally in tallies.items()},
    }
    task.write(content, "correctness.json")
    print(format_table(content))
    print(
        f"{len(generated)} images of {task.split}; all measures are in "
        f"{task.folder / 'correctness.json'}."
    )
    return content


def check_attends(configuration, folder, who="correctness"):
    """Refuse a run whose attention is always uniform.

    Raises:
        UserError: the variant is `baseline` or `semantic`, or the regions are `mean`.
    """
    setting = ""
    if configuration.variant in UNIFORM_VARIANTS:
        setting = f"variant {configuration.variant!r}"
    if configuration.regions == "mean":
        setting = "regions 'mean'"
    if setting:
        raise UserError(
            f"{who}: expected a run that attends to regions, but {folder} has {setting} and "
            "its attention is uniform; measure a run with another variant or kind of regions."
        )


def check_boxes(split, examples):
    """Refuse data without boxes.

    Raises:
        UserError: no example has phrases or objects.
    """
    if not any(map(has_boxes, examples)):
        raise UserError(
            f"correctness: expected boxes of named objects, but the {len(examples)} images of "
            f"{split} have none; use scenes, COCO with its instances_*.json, or Flickr30k with "
            "Sentences/ and Annotations/ of Flickr30k Entities beside its captions."
        )


def has_boxes(example):
    """Return whether an example has boxes."""
    return bool(example.phrases or example.objects)


def mentions_of(examples, captions):
    """Find the objects that the words of each caption name.

    If an example has annotated phrases, the mentions in its ground-truth captions are read from
    these phrases. In generated captions and captions without annotated phrases, the words are
    compared with the names of the example's objects.

    Args:
        examples: Examples by index.
        captions: Captions by index; each caption is a list of words. The generated caption comes
            first, followed by the example's own captions.

    Returns:
        `{index: mentions}` for the images that have boxes. `mentions` contains a list of mentions
        for each caption.
    """
    nouns, adjectives = naming_words(examples)
    return {
        index: [
            mentions_in_caption(examples[index], number - 1, words, nouns, adjectives)
            if number
            else named_mentions(words, examples[index].objects, nouns, adjectives)
            for number, words in enumerate(texts)
        ]
        for index, texts in captions.items()
        if has_boxes(examples[index])
    }


def tally(attended, mentions):
    """Measure the ground-truth captions and the generated captions.

    Args:
        attended: Output of `attend_captions`.
        mentions: Output of `mentions_of`.

    Returns:
        `{kind: Tally}` for the kinds of captions in `KINDS`.
    """
    tallies = {kind: Tally() for kind in KINDS}
    for index, attention, regions in attended:
        if index in mentions:
            generated, *given = mentions[index]
            tallies["generated"].add_captions(regions, attention[:1], [generated])
            tallies["ground_truth"].add_captions(regions, attention[1:], given)
    return tallies


def attend_captions(captioner, stride, batches, ids, windows):
    """Compute the attention at each word of given captions, image by image.

    Args:
        captioner: `Captioner`.
        stride: Step between regions on the activation map, or None for object proposals.
        batches: Batches from `image_batches`.
        ids: Output of `encode`: the word ids of the captions, by image index.
        windows: For each image index, the part of the image that the network input covers.

    Yields:
        For each image, its index, its attention `(captions, t + 1, r)` and its `ImageRegions`. In a
        caption's attention, row i comes from the state that predicts word i. The last row comes
        from the state that predicts STOP.
    """

    @tf.function(autograph=False)
    def attend(inputs, ids):
        encoded = captioner.encode(inputs, stride=stride)
        return teacher_forcing(captioner, encoded, ids).attention, encoded.boxes, encoded.mask

    with progress_bar(total=len(ids), desc="teacher forcing", unit="image") as bar:
        for batch in batches:
            inputs = {name: batch[name] for name in (*VIEWS, "proposals") if name in batch}
            indices = [int(index) for index in batch["index"]]
            rows = tf.constant(np.stack([ids[index] for index in indices]))
            parts = (part.numpy() for part in attend(inputs, rows))
            for index, attention, corners, mask in zip(indices, *parts, strict=True):
                yield index, attention, ImageRegions(corners, mask, windows[index])
            bar.update(len(indices))


def encode(vocabulary, captions):
    """Convert captions to padded word ids, which include START and STOP.

    Returns:
        `{index: ids}`. The ids of an image have the shape `(count, t + 1)`.
    """
    longest = max(len(words) for texts in captions.values() for words in texts)
    count = max(map(len, captions.values()))
    ids = {}
    for index, texts in captions.items():
        ids[index] = np.full((count, longest + 2), PAD, np.int32)
        for row, words in zip(ids[index], texts, strict=False):
            row[: len(words) + 2] = vocabulary.encode_words(list(words), longest)
    return ids


def format_table(content):
    """Return a table of the measures, times 100, and lines that count words and captions."""
    rows = [("captions", "measure", *HEADINGS)]
    lines = []
    for kind in KINDS:
        columns, name = content[kind], kind.replace("_", "-")
        for measure in MEASURES:
            values = [columns[column][measure] for column in COLUMNS]
            cells = ("-" if value is None else f"{100 * value:.1f}" for value in values)
            rows.append((name, measure, *cells))
        lines.append(
            f"{name}: {columns['words']} words of {columns['captions']} captions; "
            f"{columns['captions_without_match']} captions name nothing that has a box, "
            f"{columns['nouns_not_in_image']} nouns name nothing in the image, "
            f"{columns['words_out_of_view']} words name objects outside the network input."
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(
            cell.ljust(width) if number < 2 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    if content["images_without_boxes"]:
        lines.append(f"{content['images_without_boxes']} images have no boxes and are ignored.")
    return "\n".join([*table, *lines])
