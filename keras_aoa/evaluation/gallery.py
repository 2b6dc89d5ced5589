"""`python -m keras_aoa.evaluation.gallery RUN PICTURE`: draws the picture in README.md."""

import pathlib
from dataclasses import dataclass
from typing import Annotated

import tyro

from keras_aoa.data.text.attributes import FUNCTION_WORDS
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_output

WORDS = 4


@dataclass(frozen=True)
class Arguments:
    """Draw captioned images, with attention at the words where it is most concentrated."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run."""
    picture: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE")]
    """PNG file to write."""
    images: tuple[int, ...] = (0, 1, 2)
    """Indices of the images in the split."""
    split: str = ""
    """Split of the run's data, by default the test split."""


def main(arguments):
    """Draw the picture that the arguments describe."""
    settings = parse(Arguments, "keras_aoa.evaluation.gallery", arguments)
    from keras_aoa.data.build import scored_split
    from keras_aoa.inference.image_captioner import ImageCaptioner
    from keras_aoa.runs.ensemble import open_run
    from keras_aoa.visualization.pictures import readme_picture

    opened = open_run(settings.run)
    data = opened.load_data()
    split = settings.split or scored_split(opened.configuration, data)[0]
    examples = data.splits.get(split, ())
    if not settings.images or not 0 <= min(settings.images) <= max(settings.images) < len(examples):
        raise UserError(
            f"gallery: expected image indices below {len(examples)}, the size of split {split!r}; "
            f"received {settings.images}."
        )
    check_output(settings.picture)
    captioner = ImageCaptioner(settings.run)
    items = []
    for index in settings.images:
        caption = captioner.caption(examples[index].path)
        items.append((caption.image, caption, sharpest(caption)))
    pathlib.Path(settings.picture).parent.mkdir(parents=True, exist_ok=True)
    readme_picture(items, settings.picture)
    print(f"{settings.picture}: {len(items)} images of {split}.")


def sharpest(caption):
    """Return the sorted indices of the content words with the most concentrated attention."""
    content = [index for index, word in enumerate(caption.words) if word not in FUNCTION_WORDS]
    ranked = sorted(content, key=lambda index: -caption.attention[index].max())
    return sorted(ranked[:WORDS])


if __name__ == "__main__":
    run(main)
