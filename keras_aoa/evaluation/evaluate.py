"""Score a run on a split: captions, metrics, what they name and look at, pictures."""

import json
import pathlib
from dataclasses import asdict, dataclass

from keras_aoa.data.images.preprocessing import read_image, to_original
from keras_aoa.data.images.split_images import image_batches
from keras_aoa.distribution.process import Process
from keras_aoa.evaluation.grounding import ground
from keras_aoa.evaluation.metrics import score, start_meteor
from keras_aoa.evaluation.results import format_scores, score_content, write_results
from keras_aoa.inference.generator import CaptionGenerator, generate
from keras_aoa.runs.run import scored_split
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable, write_text
from keras_aoa.visualization.pictures import attention_picture, contact_sheet, curves_picture

BATCH = 32  # images; a matter of memory alone
REGIONS = 6400  # of a batch of images with many proposals
PICTURES = "pictures"


@dataclass(frozen=True)
class EvaluationSettings(SearchSettings):
    """What to score, and how to search.

    `split` is the run's test split if empty; `data` and `images` are another data set in place of
    the run's; `output` a folder in place of the run's, or of its folder `evaluations/DATA` for
    another data set.
    """

    split: str = ""
    data: str = ""
    images: str = ""
    tokenizer: str = "auto"
    pictures: int = 12
    output: str = ""


def evaluate(run, settings, data=None, history=(), process=None):
    """Caption a split with a run's best weights and score it.

    Writes `scores.json` (the last evaluation), `scores_SPLIT.json`, `captions_SPLIT.json` and
    pictures, and prints one metric a line.

    Args:
        run: `Run`.
        settings: `EvaluationSettings`.
        data: The data set, if it is read already.
        history: Facts of each epoch of the training, for the curves.
        process: `Process`, where others share the work.

    Returns:
        What `scores.json` holds; None where that is the chief's to write.

    Raises:
        UserError: no such split, nothing trained, unreadable data.
    """
    process, folder = process or Process(), output_folder(run, settings)
    if process.chief:
        check_writable(folder)
    split, examples = open_split(run, settings, data)
    with process.strategy.scope():
        captioner = run.load_captioner()
        generator = CaptionGenerator.from_configuration(
            captioner, run.vocabulary, run.configuration, settings
        )
    images = process.chief_first(lambda: run.load_images(split, examples))
    meteor = start_meteor() if process.chief else None
    found = caption_split(generator, images, "captions")
    if not process.chief:
        return None
    references, captions = references_of(found, examples)
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / f"captions_{split}.json", captions)
    scores = score(references, captions, settings.tokenizer, meteor)
    content = {
        **score_content(scores),
        **measured_on(run, settings, split, generator.settings),
        **scores.agreement,
        **grounding_content(found, examples, images),
    }
    text = json.dumps(content, indent=2) + "\n"
    write_text(folder / f"scores_{split}.json", text)
    write_text(folder / "scores.json", text)
    draw(folder / PICTURES, found, images, settings.pictures, history)
    report(folder, split, scores, content)
    return content


def open_split(run, settings, data=None):
    """The split to score, and its examples, all with captions.

    Args:
        run: `Run`.
        settings: `EvaluationSettings`.
        data: The data set, if it is read already.

    Raises:
        UserError: no such split, or images without captions.
    """
    data = data or run.load_data(settings.data, settings.images)
    scored, note = scored_split(run.configuration, data)
    split = settings.split or scored
    if note and split == scored:
        print(note)
    examples = data.splits.get(split)
    if not examples:
        raise UserError(
            f"evaluate: expected a split of {data.name}, received {split!r}; "
            f"there are {', '.join(data.splits)}."
        )
    uncaptioned = [str(example.image_id) for example in examples if not example.captions]
    if uncaptioned:
        raise UserError(
            f"evaluate: {len(uncaptioned)} of {len(examples)} images of {split} have no "
            f"caption to score against: {', '.join(uncaptioned[:3])}; add some, or caption "
            "them with python -m keras_aoa.caption."
        )
    return split, examples


def measured_on(run, settings, split, search):
    """What every file of measures says of where they come from.

    `default_split`: whether nobody asked for this split, the run's own choice.
    """
    return {
        "run": str(run.results_folder),
        "data": settings.data or run.configuration.data,
        "split": split,
        "default_split": not settings.split,
        "search": search,
    }


def caption_split(generator, images, progress, with_attention=True):
    """Captions of all readable images by place, `{index: Generated}`; attention as `generate`."""
    batches = batches_for(generator, images)
    found = generate(generator, batches, len(images.readable), progress, with_attention)
    return dict(sorted(found.items()))


def batches_for(generator, images):
    """Batches of all readable images for this process, as large as a search's memory allows."""
    regions = generator.settings.get("regions")
    together = min(BATCH, max(1, REGIONS // regions)) if regions else BATCH
    return image_batches(images, together, regions, generator.process.replicas)


def references_of(found, examples):
    """References and captions of captioned images, by image id."""
    ids = {index: examples[index].image_id for index in found}
    references = {ids[index]: examples[index].captions for index in found}
    return references, {ids[index]: generated.caption for index, generated in found.items()}


def output_folder(run, settings):
    """Where an evaluation is written: another data set never replaces the run's own scores."""
    if settings.output:
        return pathlib.Path(settings.output)
    if settings.data:
        return run.results_folder / "evaluations" / pathlib.Path(settings.data).resolve().stem
    return run.results_folder


def grounding_content(found, examples, images):
    """Grounding of the captions, as numbers for `scores.json`; empty where data have no objects."""

    def original_boxes(boxes, index):
        return to_original(boxes, images.windows[index])

    grounding = ground(found, examples, original_boxes)
    return {"grounding": asdict(grounding)} if grounding else {}


def draw(folder, found, images, count, history):
    """Pictures of where the model looked, a sheet of captions, the training's curves."""
    (folder / images.name).mkdir(parents=True, exist_ok=True)
    shown = list(found)[:count]
    pixels = {index: read_image(images.examples[index].path) for index in shown}
    for index in shown:
        name = f"{images.examples[index].image_id}".replace("/", "_")
        attention_picture(
            pixels[index],
            found[index],
            images.windows[index],
            folder / images.name / f"{name}.png",
        )
    if shown:
        sheet = [
            (pixels[index], found[index].caption, images.examples[index].captions)
            for index in shown
        ]
        contact_sheet(sheet, folder / f"{images.name}.png")
    if history:
        curves_picture(list(history), folder / "curves.png")


def report(folder, split, scores, content):
    """Print the metrics for people, x 100, and where the rest is."""
    print(format_scores(scores))
    if "CIDEr_of_a_reference" in content:
        ours, reference = content["CIDEr_one_reference_fewer"], content["CIDEr_of_a_reference"]
        print(f"CIDEr_of_a_reference {100 * reference:.1f}")
        print(f"CIDEr_one_reference_fewer {100 * ours:.1f}")
        if reference:
            print(f"share_of_a_reference {100 * ours / reference:.1f}")
    for name, value in content.get("grounding", {}).items():
        if value is not None:
            print(f"grounding_{name} {value if name == 'phrases' else f'{100 * value:.1f}'}")
    for line in (*scores.notes, *scores.missing.values()):
        print(line)
    print(
        f"{scores.images} images of {split}, tokenizer {scores.tokenizer}; captions, "
        f"scores and pictures are in {folder}."
    )
