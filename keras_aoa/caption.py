"""`python -m keras_aoa.caption RUN photo.jpg folder/`: caption your own images.

With `--shards`, the command captions a collection of any size. The shards are tar archives or lists
of image paths. The captions are written to files of json lines.
"""

import contextlib
import csv
import itertools
import os
import pathlib
import sys
from dataclasses import dataclass, replace
from typing import Annotated

import tyro

from keras_aoa.cli import start
from keras_aoa.collection.shards import find_shards, worker_shards
from keras_aoa.data.images.file_names import find_images
from keras_aoa.inference.entries import read_entries
from keras_aoa.inference.lines import COLUMNS, json_line, table_rows, text_lines
from keras_aoa.runs.named import refuse_file
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.command_line import parse
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable, on_disk
from keras_aoa.utils.keras_settings import use_keras_defaults
from keras_aoa.utils.progress import progress_bar
from keras_aoa.utils.text import printable


@dataclass(frozen=True)
class Arguments(SearchSettings):
    """Caption images with a trained run.

    Print each caption with its log-probability.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, or a captioner's name such as flickr8k; comma-separated runs form an
    ensemble."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")] = ()
    """Image files, or folders of images; - reads paths from standard input, one per line."""
    recursive: bool = False
    """Also caption the images in all subfolders of folders."""
    captions: int = 1
    """Number of captions per image, at most the beam. Without --beam, a beam smaller than the
    number of captions is increased to that number."""
    least_confidence: float = 0.0
    """Leave out captions whose confidence is below this number. The confidence of a caption is the
    geometric mean of the probabilities of its words, from 0 to 1."""
    pictures: str = ""
    """Folder for pictures that show each word's attended regions."""
    json: bool = False
    """Print one json object per image. The object contains each caption with its probability and
    confidence, and each word with its probability and the corners of its strongest region."""
    output: str = ""
    """Write the captions to this new file instead of printing them. FILE.jsonl contains one json
    object per image. FILE.csv contains one row per caption. With --shards: folder for the
    captions."""
    batch_size: int = 32
    """Number of images per batch."""
    shards: tuple[str, ...] = ()
    """Shards to caption instead of images: tar archives (.tar), lists of image paths (.txt), or
    patterns that match these files. The captions of each shard are written to one file of json
    lines. Finished shards are skipped."""
    worker: str = ""
    """With --shards: I/N captions only the shards of worker I out of N workers. Workers are counted
    from 0. By default, all shards are captioned."""
    runner: str = ""
    """With --shards: Apache Beam runner that distributes the shards, such as DirectRunner."""
    runner_options: tuple[str, ...] = ()
    """With --runner: Beam's pipeline options, such as direct_num_workers=2."""

    def __post_init__(self):
        super().__post_init__()
        if self.batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, received {self.batch_size}.")
        if self.captions < 1:
            raise UserError(f"captions: expected at least 1, received {self.captions}.")
        if self.beam is not None and self.captions > self.beam:
            raise UserError(
                f"captions: expected at most the beam {self.beam}, received {self.captions}; "
                "increase beam."
            )
        if not 0 <= self.least_confidence <= 1:
            raise UserError(
                f"least_confidence: expected a number from 0 to 1, received "
                f"{self.least_confidence}."
            )
        if not self.shards:
            given = [name for name in _SHARD_SETTINGS if getattr(self, name)]
            if given:
                raise UserError(
                    f"{given[0]}: applies only to --shards, which is missing; add --shards, or "
                    f"omit {given[0]}."
                )
            if self.output and not self.output.endswith((".jsonl", ".csv")):
                raise UserError(
                    f"output: expected FILE.jsonl or FILE.csv, received {self.output!r}; a folder "
                    "applies only to --shards."
                )
            if self.output and os.path.lexists(self.output):
                raise UserError(
                    f"output: {self.output} exists, and is not overwritten; choose another name."
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


_SHARD_SETTINGS = ("worker", "runner", "runner_options")


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
    from keras_aoa.collection.work import OutputSettings, caption_shards

    search_settings = SearchSettings(**search_changes(settings))
    output_settings = OutputSettings(settings.captions, settings.least_confidence)
    work = (settings.run, shards, settings.output, search_settings, settings.batch_size)
    work = (*work, output_settings)
    if not settings.runner:
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
    """Caption images in batches, and write or print the captions."""
    refuse_file(settings.run)
    if settings.avoid and not settings.images:
        raise UserError(
            "caption: expected image files or folders after the run, received none; write them "
            "before --avoid, because --avoid takes all later arguments as words."
        )
    files = image_files(settings.images, settings.recursive)
    folder = pathlib.Path(settings.pictures) if settings.pictures else None
    if folder:
        check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
    if settings.output:
        check_writable(pathlib.Path(settings.output).parent)
    changes = search_changes(settings)
    use_keras_defaults()
    from keras_aoa.inference.batches import BatchCaptioner
    from keras_aoa.inference.image_captioner import ImageCaptioner

    batches = BatchCaptioner(ImageCaptioner(settings.run, **changes), settings.batch_size)
    images = batches(read_entries(map(str, files)), settings.captions, settings.least_confidence)
    unread = captioned = 0
    with opened(settings) as write:
        # On a terminal, the captions themselves show the progress.
        shown = (not settings.output and sys.stdout.isatty()) or len(files) <= settings.batch_size
        for image in progress_bar(images, total=len(files), unit="image", disable=shown):
            write(image)
            captioned += bool(image.captions)
            if image.error:
                unread += 1
                print(f"{printable(image.name)}: {image.error}", file=sys.stderr)
            elif folder and image.captions:
                file = pathlib.Path(image.name)
                with new_file(folder, file.stem) as path:
                    replace(image.captions[0], source=file).picture(path, title=file.name)
    if settings.output:
        print(f"{settings.output}: captions of {captioned} of {len(files)} images.")
    if unread:
        raise UserError(f"caption: {unread} of {len(files)} images could not be read.")


def search_changes(settings):
    """Return the changed search settings, with a beam that is large enough for all captions."""
    changes = settings.changes
    if settings.captions > 1 and settings.beam is None:
        from keras_aoa.runs.ensemble import open_run

        beam = open_run(settings.run).configuration.beam
        # Groups have equal sizes.
        groups = settings.groups or 1
        changes["beam"] = -(-max(beam, settings.captions) // groups) * groups
    return changes


@contextlib.contextmanager
def opened(settings):
    """Open the output, and yield a function that writes a `CaptionedImage` to it."""
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if settings.output:
            file = stack.enter_context(
                # Not every file name is UTF-8.
                open(settings.output, "x", encoding="utf-8", errors="backslashreplace", newline="")
            )
        if settings.output.endswith(".csv"):
            table = csv.writer(file)
            table.writerow(COLUMNS)

        def write(image):
            if settings.output.endswith(".csv"):
                table.writerows(table_rows(image))
                file.flush()
            elif settings.json or settings.output:
                if settings.output or not image.error:
                    print(json_line(image), file=file, flush=True)
            elif not image.error:
                print(*text_lines(image), sep="\n", file=file, flush=True)

        yield write


def image_files(names, recursive=False):
    """Return image files, and the images in folders.

    The function prints a line about files in folders that are not images.

    Args:
        names: Paths of image files and of folders. "-" reads paths from standard input. If a path
            from standard input does not exist, its image counts as unreadable.
        recursive: Whether to include the images in subfolders.

    Raises:
        UserError: `names` is empty, or `find_images` raises a `UserError`.
    """
    if not names:
        raise UserError("caption: expected image files or folders after the run, received none.")
    given = [name for name in names if name != "-"]
    missing = []
    if len(given) < len(names):
        for line in filter(None, (line.rstrip("\r\n") for line in sys.stdin)):
            (given if os.path.lexists(on_disk(line)) else missing).append(line)
    found = find_images(given, recursive)
    found.files.extend(map(pathlib.Path, missing))
    if found.message:
        print(found.message, file=sys.stderr)
    if not found.files:
        raise UserError("caption: expected paths on standard input, received none.")
    return found.files


@contextlib.contextmanager
def new_file(folder, stem):
    """Create an empty PNG file with an unused name, and yield its path.

    The empty file reserves the name for this process. If the `with` block fails, the PNG file is
    removed.
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
    start("caption")
