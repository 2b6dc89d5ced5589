"""`python -m keras_aoa.caption RUN photo.jpg folder/`: caption images of one's own.

With `--shards` collections of any size: tar archives or lists of paths in, json lines out.
"""

import pathlib
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from keras_aoa.collection.lines import caption_line
from keras_aoa.collection.shards import SUFFIXES, find_shards, worker_shards
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable
from keras_aoa.utils.text import printable


@dataclass(frozen=True)
class Arguments(SearchSettings):
    """Caption photographs with a trained run: one line each, caption and log-probability."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run; comma-separated runs form an ensemble."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")] = ()
    """Image files, or folders of them."""
    pictures: str = ""
    """Folder for pictures that show for each word where the model looked."""
    json: bool = False
    """One json object a line, with words, log-probability and the strongest region's corners."""
    shards: tuple[str, ...] = ()
    """In place of images: tar archives of them (.tar) or lists of their paths (.txt), or patterns
    of such files. Each gives a file of json lines; finished ones are not made again."""
    output: str = ""
    """Folder for what shards give."""
    batch_size: int = 32
    """Images of a shard that the network sees at once."""
    worker: str = ""
    """With shards: I/N does a part of them, the I-th of N from 0 on. Empty: all."""
    runner: str = ""
    """With shards: the Apache Beam runner that shares them out, as DirectRunner."""
    runner_options: tuple[str, ...] = ()
    """Beam's own, as direct_num_workers=2."""

    def __post_init__(self):
        super().__post_init__()
        if self.batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, received {self.batch_size}.")
        if not self.shards:
            given = [name for name in _OF_SHARDS if getattr(self, name)]
            if given:
                raise UserError(f"{given[0]}: is a setting of --shards; give some, or leave it.")
            return
        if self.images or self.pictures:
            given = "images" if self.images else "pictures"
            raise UserError(f"{given}: expected none beside --shards; caption them on their own.")
        if not self.output:
            raise UserError("output: expected the folder for what shards give, received none.")
        if self.worker and self.runner:
            raise UserError("worker: a runner has its own; leave --worker or --runner out.")
        if self.runner_options and not self.runner:
            raise UserError("runner_options: expected a --runner that they are for.")


_OF_SHARDS = ("output", "worker", "runner", "runner_options")


def main(arguments):
    """Caption what the arguments name."""
    settings = parse(Arguments, "keras_aoa.caption", arguments)
    if settings.shards:
        caption_shards(settings)
    else:
        caption_images(settings)


def caption_shards(settings):
    """Caption a collection, or this worker's part of it."""
    shards = worker_shards(find_shards(settings.shards), settings.worker)
    search_settings = SearchSettings(**settings.changes)
    work = (settings.run, shards, settings.output, search_settings, settings.batch_size)
    if not settings.runner:
        from keras_aoa.collection.work import caption_shards

        caption_shards(*work)
        return
    try:
        from keras_aoa.beam import caption_in_pipeline
    except ModuleNotFoundError as missing:
        if missing.name != "apache_beam":
            raise
        raise UserError(
            "runner: Apache Beam is not installed; pip install 'keras-aoa[train,beam]', in an "
            "environment of its own."
        ) from None
    caption_in_pipeline(*work, settings.runner, settings.runner_options)


def caption_images(settings):
    """Caption images one by one, and print a line for each."""
    files = image_files(settings.images)
    folder = pathlib.Path(settings.pictures) if settings.pictures else None
    if folder:
        check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
    from keras_aoa.inference.image_captioner import ImageCaptioner

    captioner = ImageCaptioner(settings.run, **settings.changes)
    unread = []
    for file in files:
        try:
            caption = captioner.caption(file)
        except UserError as mistake:
            unread.append(file)
            print(mistake, file=sys.stderr)
            continue
        line = as_line(file, caption)
        if settings.json:
            line = caption_line(str(file), caption)
        print(line, flush=True)
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


def free_name(folder, stem):
    """A PNG file's name that is not taken: nothing a user had is overwritten."""
    path, number = folder / f"{stem}.png", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.png"
    return path


if __name__ == "__main__":
    run(main, interrupted="With --shards the same command does what is missing.")
