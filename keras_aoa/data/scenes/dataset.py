"""The drawn data set as files: PNG images, and one JSON file with captions and objects."""

import json
import pathlib
import random
import tempfile
from dataclasses import asdict, dataclass

from keras_aoa.data.examples import CaptionData, Example, NamedObject, Phrase
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import settings_digest
from keras_aoa.utils.progress import progress_bar

FORMAT_VERSION = 1  # increase it if the same settings would yield other images or captions
CAPTIONS = 5
SMALLEST_SIZE = 64
FILE = "scenes.json"


@dataclass(frozen=True)
class ScenesSettings:
    """Settings of the drawn data set.

    Example i of a split depends only on `seed`, `size`, the split and i. A larger data set thus
    begins with the examples of a smaller data set.

    Args:
        seed: Seed of the scenes, 0 or more.
        train: Number of images in the train split.
        val: Number of images in the val split.
        test: Number of images in the test split.
        size: Side of the images in pixels.

    Raises:
        UserError: `seed`, `size` or a number of images is too small.
    """

    seed: int = 0
    train: int = 3000
    val: int = 200
    test: int = 400
    size: int = 96

    def __post_init__(self):
        least = {"seed": 0, "train": 1, "val": 1, "test": 1, "size": SMALLEST_SIZE}
        for name, value in asdict(self).items():
            if value < least[name]:
                raise UserError(
                    f"scenes: expected {name} of {least[name]} or more; received {value}."
                )


def prepare(cache_folder: str | pathlib.Path, settings: ScenesSettings) -> CaptionData:
    """Read the data set from its folder in `cache_folder`; if the folder is missing, draw it."""
    digest = settings_digest({"format": FORMAT_VERSION, **asdict(settings)})
    folder = pathlib.Path(cache_folder) / f"scenes-{digest}"
    if not folder.exists():
        try:
            write(folder, settings)
        except UserError:
            # If another process has written the folder in the meantime, that folder is read.
            if not (folder / FILE).exists():
                raise
    return read(folder)


def write(folder: str | pathlib.Path, settings: ScenesSettings, progress: bool = True) -> None:
    """Draw the data set into a temporary folder, which is renamed to `folder` when complete.

    Args:
        folder: The new folder.
        settings: `ScenesSettings`.
        progress: Whether to show a progress bar.

    Raises:
        UserError: The folder exists and is not empty.
    """
    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    counts = {"train": settings.train, "val": settings.val, "test": settings.test}
    splits: dict[str, list[dict]] = {split: [] for split in counts}
    with (
        tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary,
        progress_bar(
            total=sum(counts.values()), desc="drawing scenes", unit="scene", disable=not progress
        ) as bar,
    ):
        complete = pathlib.Path(temporary) / "complete"
        for stream, (split, count) in enumerate(counts.items()):
            (complete / split).mkdir(parents=True)
            for index in range(count):
                png, entry = _draw_and_describe(settings, stream, index)
                file = f"{split}/{index:06d}.png"
                (complete / file).write_bytes(png)
                splits[split].append({"id": f"{split}-{index:06d}", "file": file, **entry})
                bar.update()
        content = {"format": FORMAT_VERSION, "settings": asdict(settings), "splits": splits}
        (complete / FILE).write_text(json.dumps(content))
        try:
            complete.rename(folder)
        except OSError as error:
            raise UserError(
                f"scenes: expected a new or empty folder; received {folder}; "
                "remove it or choose another folder."
            ) from error


def _draw_and_describe(settings: ScenesSettings, stream: int, index: int) -> tuple[bytes, dict]:
    """Return the PNG file of an example, and its JSON entry with objects and captions."""
    import cv2
    import numpy as np

    from keras_aoa.data.scenes import language
    from keras_aoa.data.scenes.layout import draw_scene

    rng = np.random.default_rng([settings.seed, stream, index])
    scene, picture = draw_scene(settings.size, rng)
    captions = language.describe(scene, CAPTIONS, random.Random(int(rng.integers(2**32))))
    objects = [
        {
            "nouns": sorted(language.nouns(thing)),
            "adjectives": sorted(language.adjectives(thing)),
            "box": thing.box,
        }
        for thing in scene.things
    ]
    entry = {
        "objects": objects,
        "captions": [{"text": text, "phrases": phrases} for text, phrases in captions],
    }
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes(), entry


def read(folder: str | pathlib.Path) -> CaptionData:
    """Read a data set that `write` has written.

    Raises:
        UserError: The folder has no drawn data set, or its format version differs.
    """
    folder = pathlib.Path(folder)
    try:
        content = json.loads((folder / FILE).read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"scenes: expected a drawn data set; received {folder}, which has no {FILE}; "
            "remove the folder to have it drawn."
        ) from error
    if content["format"] != FORMAT_VERSION:
        raise UserError(
            f"scenes: expected format {FORMAT_VERSION}; received format {content['format']} in "
            f"{folder}; remove the folder to have it drawn again."
        )
    return CaptionData(
        name="scenes",
        splits={
            split: tuple(_example(folder, entry) for entry in entries)
            for split, entries in content["splits"].items()
        },
    )


def _example(folder: pathlib.Path, entry: dict) -> Example:
    objects = tuple(
        NamedObject(frozenset(item["nouns"]), frozenset(item["adjectives"]), tuple(item["box"]))
        for item in entry["objects"]
    )
    return Example(
        image_id=entry["id"],
        path=str(folder / entry["file"]),
        captions=tuple(caption["text"] for caption in entry["captions"]),
        phrases=tuple(
            Phrase(number, first, last, objects[index].box)
            for number, caption in enumerate(entry["captions"])
            for index, first, last in caption["phrases"]
        ),
        objects=objects,
    )
