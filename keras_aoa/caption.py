"""`python -m keras_aoa.caption RUN photo.jpg folder/`: caption your own images.

With `--shards`, the command captions a collection of any size. The shards are tar archives or lists
of image paths. The captions are written to files of json lines.
"""

import contextlib
import itertools
import pathlib
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from keras_aoa.collection.lines import caption_line
from keras_aoa.collection.shards import SUFFIXES, find_shards, is_image_name, worker_shards
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable, on_disk
from keras_aoa.utils.keras_settings import use_keras_defaults
from keras_aoa.utils.text import printable


@dataclass(frozen=True)
class Arguments(SearchSettings):
    """Caption images with a trained run, and print each caption with its log-probability."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, or a captioner's name such as flickr8k; comma-separated runs form an
    ensemble."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")] = ()
    """Image files, or folders of images."""
    pictures: str = ""
    """Folder for pictures that show each word's attended regions."""
    json: bool = False
    """Print one json object per image: words, log-probability, and the corners of each word's
    strongest region."""
    shards: tuple[str, ...] = ()
    """Shards to caption instead of images: tar archives (.tar), lists of image paths (.txt), or
    patterns of such files. The captions of each shard are written to one file of json lines.
    Finished shards are skipped."""
    output: str = ""
    """With --shards: folder for the captions."""
    batch_size: int = 32
    """With --shards: number of images per batch."""
    worker: str = ""
    """With --shards: I/N captions only the shards of worker I. N is the number of workers, which
    are counted from 0. By default all shards are captioned."""
    runner: str = ""
    """With --shards: Apache Beam runner that distributes the shards, such as DirectRunner."""
    runner_options: tuple[str, ...] = ()
    """With --runner: Beam's pipeline options, such as direct_num_workers=2."""

    def __post_init__(self):
        super().__post_init__()
        if self.batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, received {self.batch_size}.")
        if not self.shards:
            given = [name for name in _SHARD_SETTINGS if getattr(self, name)]
            if given:
                raise UserError(
                    f"{given[0]}: applies only to --shards, which is missing; add --shards, or "
                    f"omit {given[0]}."
                )
            return
        if self.images or self.pictures:
            given = "images" if self.images else "pictures"
            raise UserError(
                f"{given}: cannot be combined with --shards; use a separate command for images."
            )
        if not self.output:
            raise UserError(
                "output: expected a folder for the captions, received none; add --output."
            )
        if self.worker and self.runner:
            raise UserError(
                "worker: cannot be combined with --runner, which distributes the shards itself; "
                "omit --worker or --runner."
            )
        if self.runner_options and not self.runner:
            raise UserError("runner_options: expected a --runner, received none; add --runner.")


_SHARD_SETTINGS = ("output", "worker", "runner", "runner_options")


def main(arguments):
    """Caption the images or shards that the arguments name."""
    settings = parse(Arguments, "keras_aoa.caption", arguments)
    if settings.shards:
        caption_shards(settings)
    else:
        caption_images(settings)


def caption_shards(settings):
    """Caption all shards of a collection, or only this worker's shards."""
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
            "runner: Apache Beam is not installed; run pip install 'keras-aoa[train,beam]' in a "
            "separate environment."
        ) from None
    caption_in_pipeline(*work, settings.runner, settings.runner_options)


def caption_images(settings):
    """Caption images one at a time, and print one line per image."""
    files = image_files(settings.images)
    folder = pathlib.Path(settings.pictures) if settings.pictures else None
    if folder:
        check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
    use_keras_defaults()
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
            with new_file(folder, file.stem) as path:
                caption.picture(path, title=file.name)
    if unread:
        raise UserError(f"caption: {len(unread)} of {len(files)} images could not be read.")


def image_files(names):
    """Return image files, and the images in folders.

    Args:
        names: Paths of image files and of folders.

    Raises:
        UserError: there are no names, a file does not exist, or a folder contains no images.
    """
    if not names:
        raise UserError("caption: expected image files or folders after the run, received none.")
    files = []
    for name in map(on_disk, names):
        if name.is_dir():
            images = sorted(file for file in name.iterdir() if is_image_name(file))
            if not images:
                raise UserError(
                    f"{name}: expected a folder of images ({' '.join(SUFFIXES)}), found none."
                )
            files += images
        elif name.exists():
            files.append(name)
        else:
            raise UserError(f"{name}: expected an image or a folder of images, found nothing.")
    return files


def as_line(file, caption):
    """Return the line of text to print for a caption."""
    return f"{printable(file)}: {caption.text} ({caption.log_prob:.2f})"


@contextlib.contextmanager
def new_file(folder, stem):
    """Create an empty PNG file with an unused name, and yield its path.

    The empty file reserves the name, so that no other process uses the same name. If the block
    fails, the file is removed.
    """
    for number in itertools.count(1):
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        try:
            path.touch(exist_ok=False)
            break
        except FileExistsError:
            continue
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    run(main, interrupted="With --shards, the same command resumes.")
