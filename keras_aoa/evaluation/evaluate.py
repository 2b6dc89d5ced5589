"""Score a run on a split: captions, metrics, what they name and look at, pictures."""

import json
from dataclasses import asdict, dataclass

import numpy as np

from keras_aoa.data.images import read_image, to_original
from keras_aoa.data.pipeline import Images, image_batches
from keras_aoa.errors import UserError
from keras_aoa.evaluation.generate import Generator, generate
from keras_aoa.evaluation.grounding import ground
from keras_aoa.evaluation.metrics import cider, score
from keras_aoa.evaluation.pictures import attention_picture, contact_sheet, curves_picture
from keras_aoa.evaluation.results import format_scores, score_content, write_results
from keras_aoa.files import write_text

BATCH = 32  # images; a matter of memory alone
PICTURES = "pictures"


@dataclass(frozen=True)
class EvaluationSettings:
    """What to score, and how to search; None is the run's own setting."""

    split: str = "test"
    beam: int | None = None
    length_penalty: float | None = None
    stride: int | None = None
    data: str = ""
    images: str = ""
    tokenizer: str = "auto"
    pictures: int = 12


def evaluate(run, settings, data=None, history=()):
    """Caption a split with a run's best weights and score it.

    Writes `scores.json` (the last evaluation), `scores_SPLIT.json`, `captions_SPLIT.json` and
    pictures into the run's folder, and prints one metric a line.

    Args:
        run: `Run`.
        settings: `EvaluationSettings`.
        data: The data set, if it is read already.
        history: Facts of each epoch of the training, for the curves.

    Returns:
        What `scores.json` holds.

    Raises:
        UserError: no such split, nothing trained, unreadable data.
    """
    data = data or run.load_data(settings.data, settings.images)
    examples = data.splits.get(settings.split)
    if not examples:
        raise UserError(
            f"evaluate: expected a split of {data.name}, received {settings.split!r}; "
            f"there are {', '.join(data.splits)}."
        )
    uncaptioned = [str(example.image_id) for example in examples if not example.captions]
    if uncaptioned:
        raise UserError(
            f"evaluate: {len(uncaptioned)} of {len(examples)} images of {settings.split} have no "
            f"caption to score against: {', '.join(uncaptioned[:3])}; add some, or caption "
            "them with python -m keras_aoa.caption."
        )
    captioner = run.load_captioner()
    generator = Generator.of(
        captioner,
        run.vocabulary,
        run.configuration,
        beam=settings.beam,
        length_penalty=settings.length_penalty,
        stride=settings.stride,
    )
    images = Images(settings.split, examples, run.image_settings, cache_gb=0)
    found = generate(
        generator, image_batches(images, BATCH), len(images.readable), "captions", True
    )
    found = dict(sorted(found.items()))
    ids = {index: examples[index].image_id for index in found}
    captions = {ids[index]: generated.caption for index, generated in found.items()}
    references = {ids[index]: examples[index].captions for index in found}
    write_results(run.folder / f"captions_{settings.split}.json", captions)
    scores = score(references, captions, settings.tokenizer)
    content = {**score_content(scores), "split": settings.split}
    content |= agreement(references, captions)
    content |= grounding_content(found, examples, images)
    text = json.dumps(content, indent=2) + "\n"
    write_text(run.folder / f"scores_{settings.split}.json", text)
    write_text(run.folder / "scores.json", text)
    draw(run, found, images, settings, history)
    report(run, settings, scores, content)
    return content


def agreement(references, captions):
    """How well the captions and a held-out reference agree with the other references.

    Each reference in turn is held out; both are scored against the rest, and CIDEr is averaged
    over the choices. Empty where images have fewer than three captions or different numbers.
    """
    counts = {len(texts) for texts in references.values()}
    if len(counts) != 1 or min(counts) < 3 or len(references) < 2:
        return {}
    of_captions, of_references = [], []
    for held_out in range(min(counts)):
        others = {
            image: texts[:held_out] + texts[held_out + 1 :] for image, texts in references.items()
        }
        held = {image: texts[held_out] for image, texts in references.items()}
        of_captions.append(cider(others, captions))
        of_references.append(cider(others, held))
    return {
        "CIDEr_one_reference_fewer": float(np.mean(of_captions)),
        "CIDEr_of_a_reference": float(np.mean(of_references)),
    }


def grounding_content(found, examples, images):
    """Grounding of the captions, as numbers for `scores.json`; empty where data have no objects."""

    def original_boxes(boxes, index):
        return to_original(boxes, images.windows[index])

    grounding = ground(found, examples, original_boxes)
    return {"grounding": asdict(grounding)} if grounding else {}


def draw(run, found, images, settings, history):
    """Pictures of where the model looked, a sheet of captions, the training's curves."""
    folder = run.folder / PICTURES / settings.split
    folder.mkdir(parents=True, exist_ok=True)
    shown = list(found)[: settings.pictures]
    pixels = {index: read_image(images.examples[index].path) for index in shown}
    for index in shown:
        name = f"{images.examples[index].image_id}".replace("/", "_")
        attention_picture(
            pixels[index], found[index], images.windows[index], folder / f"{name}.png"
        )
    if shown:
        sheet = [
            (pixels[index], found[index].caption, images.examples[index].captions)
            for index in shown
        ]
        contact_sheet(sheet, run.folder / PICTURES / f"{settings.split}.png")
    if history:
        curves_picture(list(history), run.folder / PICTURES / "curves.png")


def report(run, settings, scores, content):
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
        f"{scores.images} images of {settings.split}, tokenizer {scores.tokenizer}; captions, "
        f"scores and pictures are in {run.folder}."
    )
