"""`python -m keras_aoa.caption RUN photo.jpg folder/`: caption images of one's own."""

import json
import pathlib
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from keras_aoa.command_line import parse, run
from keras_aoa.data.readers.files import printable
from keras_aoa.errors import UserError
from keras_aoa.search_settings import SearchSettings

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")


@dataclass(frozen=True)
class Arguments(SearchSettings):
    """Caption photographs with a trained run: one line each, caption and log-probability."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run; several with commas between speak together, as an ensemble."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    """Image files, or folders of them."""
    pictures: str = ""
    """Folder for pictures that show for each word where the model looked."""
    json: bool = False
    """One json object a line, with words, log-probability and the strongest region's corners."""


def main(arguments):
    """Caption what the arguments name."""
    settings = parse(Arguments, "keras_aoa.caption", arguments)
    files = image_files(settings.images)
    folder = pathlib.Path(settings.pictures) if settings.pictures else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    from keras_aoa.captioning import ImageCaptioner

    captioner = ImageCaptioner(settings.run, **settings.changes)
    unread = []
    for file in files:
        try:
            caption = captioner.caption(file)
        except UserError as mistake:
            unread.append(file)
            print(mistake, file=sys.stderr)
            continue
        print(as_json(file, caption) if settings.json else as_line(file, caption), flush=True)
        if folder:
            caption.picture(free_name(folder, file.stem), title=file.name)
    if unread:
        raise UserError(f"caption: {len(unread)} of {len(files)} images could not be read.")


def image_files(names):
    """The files named, and the images in the folders named, in order.

    Raises:
        UserError: nothing named, something that does not exist, a folder without images.
    """
    if not names:
        raise UserError("caption: expected image files or folders after the run, received none.")
    files = []
    for name in map(pathlib.Path, names):
        if name.is_dir():
            inside = sorted(file for file in name.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(
                    f"{name}: expected a folder of images ({' '.join(SUFFIXES)}), found none."
                )
            files += inside
        elif name.exists():
            files.append(name)
        else:
            raise UserError(f"{name}: expected an image or a folder of images, found nothing.")
    return files


def as_line(file, caption):
    """A line for people."""
    return f"{printable(file)}: {caption.text} ({caption.log_prob:.2f})"


def as_json(file, caption):
    """A line for programs."""
    strongest = caption.attention.argmax(axis=1) if len(caption.words) else []
    regions = [
        {"word": word, "weight": float(weights[region]), "corners": caption.boxes[region].tolist()}
        for word, weights, region in zip(caption.words, caption.attention, strongest, strict=True)
    ]
    return json.dumps(
        {
            "image": str(file),
            "caption": caption.text,
            "log_prob": caption.log_prob,
            "words": regions,
        }
    )


def free_name(folder, stem):
    """A PNG file's name that is not taken: nothing a user had is overwritten."""
    path, number = folder / f"{stem}.png", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.png"
    return path


if __name__ == "__main__":
    run(main)
