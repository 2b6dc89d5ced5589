"""Attention correctness of a run: its own captions and the given ones, over a split."""

import json

import numpy as np
import tensorflow as tf

from keras_aoa.data.images.split_images import VIEWS
from keras_aoa.data.text.mentions import annotated_mentions, named_mentions, naming_words
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import PAD
from keras_aoa.evaluation.correctness import (
    CENTER_DEVIATION,
    COLUMNS,
    MAP_SIDE,
    MEASURES,
    OVERLAP,
    THRESHOLD,
    Picture,
    Tally,
)
from keras_aoa.evaluation.evaluate import (
    batches_for,
    caption_split,
    measured_on,
    open_split,
    output_folder,
)
from keras_aoa.inference.generator import CaptionGenerator
from keras_aoa.models.teacher_forcing import teacher_forcing
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable, write_text
from keras_aoa.utils.progress import progress_bar

KINDS = ("ground_truth", "generated")
HEADINGS = ("model", "best of phrase", "model, word fed", "uniform", "center prior")
CONVENTIONS = {
    "default": "model, region",
    "model": "attention of the state that predicts the word",
    "model_phrase": "the best of the phrase's words, each by the state that predicts it (Liu et "
    "al.)",
    "model_after_word": "attention of the state after the word was fed",
    "uniform": "equal weights of all regions",
    "center_prior": f"Gaussian over the regions' centers, deviation {CENTER_DEVIATION} of the "
    "image's sides",
    "region": "weights, each spread evenly over its region, inside the boxes",
    "pixel": "each pixel of a region takes its weight, normalized over the image",
    "pointing": f"maximum of the map ({MAP_SIDE} x {MAP_SIDE}, as region) inside a box",
    "localization": f"box of the map above {THRESHOLD} of its maximum, largest connected part: "
    f"intersection over union of at least {OVERLAP} with a box",
}


def evaluate_correctness(run, settings, several=(), data=None):
    """Measure a run's attention on a split whose data know boxes; prints a table.

    Writes `correctness.json`.

    Args:
        run: `Run`.
        settings: `EvaluationSettings`.
        several: Names of settings that have several values, which is refused.
        data: The data set, if it is read already.

    Returns:
        What `correctness.json` holds.

    Raises:
        UserError: a run that does not choose among regions, data without boxes; as `evaluate`.
    """
    if several:
        raise UserError(f"correctness: expected one value of {several[0]}, received several.")
    for member in run.members:
        check_attends(member.configuration, member.folder)
    folder = output_folder(run, settings)
    check_writable(folder)
    split, examples = open_split(run, settings, data)
    check_boxes(split, examples)
    captioner = run.load_captioner()
    generator = CaptionGenerator.from_configuration(
        captioner, run.vocabulary, run.configuration, settings
    )
    images = run.load_images(split, examples)
    generated = caption_split(generator, images, "captions", with_attention=False)
    captions = {
        place: [found.words, *map(tokenize, examples[place].captions)]
        for place, found in generated.items()
    }
    mentions = mentions_of(examples, captions)
    ids = encode(run.vocabulary, captions)
    batches = batches_for(generator, images)
    pictures = followed(captioner, generator.settings.get("stride"), batches, ids, images.windows)
    tallies = tally(pictures, mentions)
    content = {
        **measured_on(run, settings, split, generator.settings),
        "images": len(generated),
        "images_without_boxes": len(generated) - len(mentions),
        "conventions": CONVENTIONS,
        **{kind: tally.content() for kind, tally in tallies.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "correctness.json", json.dumps(content, indent=2) + "\n")
    print(report(content))
    print(f"{len(generated)} images of {split}; {folder / 'correctness.json'} has all measures.")
    return content


def check_attends(configuration, folder):
    """Refuse a run whose attention is the same everywhere, whatever it says.

    Raises:
        UserError: the variant `baseline`, or the regions `mean`.
    """
    setting = "variant 'baseline'" if configuration.variant == "baseline" else ""
    if configuration.regions == "mean":
        setting = "regions 'mean'"
    if setting:
        raise UserError(
            f"correctness: expected a run that chooses where to look, {folder} has {setting}: "
            "its attention is uniform; the table of any other run has a column for that."
        )


def check_boxes(split, examples):
    """Refuse data that know no boxes.

    Raises:
        UserError: no example has phrases or objects.
    """
    if not any(map(has_boxes, examples)):
        raise UserError(
            f"correctness: expected boxes of what captions name, the {len(examples)} images of "
            f"{split} have none; use scenes, COCO with its instances_*.json, or Flickr30k with "
            "Sentences/ and Annotations/ of Flickr30k Entities beside its captions."
        )


def has_boxes(example):
    """Whether it is known where anything is in an image."""
    return bool(example.phrases or example.objects)


def mentions_of(examples, captions):
    """What each caption's words name.

    Given captions follow their phrases where the data set has any, all others the objects' names.

    Args:
        examples: Examples by place.
        captions: Words of captions by place: the generated one, then the example's own.

    Returns:
        `{place: [mentions of a caption, ...]}` of the images that have boxes.
    """
    nouns, adjectives = naming_words(examples)
    return {
        place: [
            annotated_mentions(examples[place], number - 1)
            if number and examples[place].phrases
            else named_mentions(words, examples[place].objects, nouns, adjectives)
            for number, words in enumerate(texts)
        ]
        for place, texts in captions.items()
        if has_boxes(examples[place])
    }


def tally(pictures, mentions):
    """Measures of the given and of the generated captions: `{kind: Tally}`.

    Args:
        pictures: Place, attention and `Picture` of each image, as of `followed`.
        mentions: Of the generated caption and the given ones by place, as of `mentions_of`.
    """
    tallies = {kind: Tally() for kind in KINDS}
    for place, attention, picture in pictures:
        if place in mentions:
            generated, *given = mentions[place]
            tallies["generated"].add_captions(picture, attention[:1], [generated])
            tallies["ground_truth"].add_captions(picture, attention[1:], given)
    return tallies


def followed(captioner, stride, batches, ids, windows):
    """Feed captions of all images word by word: yields place, attention and `Picture` of each.

    Args:
        captioner: `Captioner`.
        stride: Steps between regions on the activation map, None where these are proposals.
        batches: As of `image_batches`.
        ids: Of captions by place, as of `encode`.
        windows: What the network sees of each image, by place, as of `images.window`.

    Yields:
        The attention is `(captions, t + 1, r)`: row i is of the state that predicts word i, so
        that the step after a caption's last word predicts STOP.
    """

    @tf.function(autograph=False)
    def attend(inputs, ids):
        encoded = captioner.encode(inputs, stride=stride)
        return teacher_forcing(captioner, encoded, ids).attention, encoded.boxes, encoded.mask

    with progress_bar(total=len(ids), desc="following captions", unit="image") as bar:
        for batch in batches:
            inputs = {name: batch[name] for name in (*VIEWS, "proposals") if name in batch}
            places = [int(place) for place in batch["index"]]
            rows = tf.constant(np.stack([ids[place] for place in places]))
            parts = (part.numpy() for part in attend(inputs, rows))
            for place, attention, corners, mask in zip(places, *parts, strict=True):
                yield place, attention, Picture(corners, mask, windows[place])
            bar.update(len(places))


def encode(vocabulary, captions):
    """Ids of all captions, START to STOP, in rows of one length: `{place: (count, t + 1)}`."""
    longest = max(len(words) for texts in captions.values() for words in texts)
    count = max(map(len, captions.values()))
    found = {}
    for place, texts in captions.items():
        found[place] = np.full((count, longest + 2), PAD, np.int32)
        for row, words in zip(found[place], texts, strict=False):
            row[: len(words) + 2] = vocabulary.encode_words(list(words), longest)
    return found


def report(content):
    """The measures for people, x 100, and what they are means of."""
    rows = [("captions", "measure", *HEADINGS)]
    lines = []
    for kind in KINDS:
        found, name = content[kind], kind.replace("_", "-")
        for measure in MEASURES:
            values = [found[column][measure] for column in COLUMNS]
            cells = ("-" if value is None else f"{100 * value:.1f}" for value in values)
            rows.append((name, measure, *cells))
        lines.append(
            f"{name}: {found['words']} words of {found['captions']} captions; "
            f"{found['captions_without_match']} captions name nothing with a box, "
            f"{found['nouns_not_in_image']} nouns are not in their image, "
            f"{found['words_out_of_view']} words lie outside of what the network sees."
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    if content["images_without_boxes"]:
        lines.append(f"{content['images_without_boxes']} images have no boxes and are left out.")
    return "\n".join([*table, *lines])
