"""Captions the unfinished shards of a collection in one process."""

import contextlib
import sys

from keras_aoa.collection.folder import OutputFolder, describe
from keras_aoa.collection.shards import ShardError
from keras_aoa.runs.ensemble import open_run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.keras_settings import use_keras_defaults
from keras_aoa.utils.progress import progress_bar


def open_folder(run, output, search_settings):
    """Open or create the `OutputFolder` for the captions of a run.

    Raises:
        UserError: the run does not exist, or the folder's captions were made with other settings.
    """
    return OutputFolder(output, describe(open_run(run), search_settings))


def load_captioner(run, search_settings, batch_size):
    """Load a run as a `ShardCaptioner`.

    Raises:
        UserError: as raised by `ImageCaptioner`.
    """
    use_keras_defaults()
    from keras_aoa.collection.captioner import ShardCaptioner
    from keras_aoa.inference.image_captioner import ImageCaptioner

    return ShardCaptioner(ImageCaptioner(run, **search_settings.changes), batch_size)


def caption_shards(run, shards, output, search_settings, batch_size):
    """Caption the unfinished shards, then print a summary.

    Args:
        run: Folder of the run, or comma-separated folders of the runs of an ensemble.
        shards: List of `Shard`.
        output: Folder for the captions.
        search_settings: `SearchSettings`.
        batch_size: Number of images in a batch.

    Raises:
        UserError: the run is incomplete, the folder's captions were made with other settings, or
            some shards cannot be read. In the last case, the error is raised after all other shards
            are finished.
    """
    folder = open_folder(run, output, search_settings)
    unfinished = [shard for shard in shards if folder.record(shard) is None]
    if unfinished:
        captioner = load_captioner(run, search_settings, batch_size)
        with progress_bar(unit="image") as bar:
            for number, shard in enumerate(unfinished, 1):
                bar.set_description(
                    f"{shard.name}, {number} of {len(unfinished)} shards", refresh=False
                )
                with print_shard_errors():
                    captioner.caption(shard, folder, bar.update)
    report(folder, shards, len(shards) - len(unfinished))


@contextlib.contextmanager
def print_shard_errors():
    """Print a `ShardError` to stderr and continue, so that the other shards are captioned."""
    try:
        yield
    except ShardError as error:
        print(error, file=sys.stderr)


def report(folder, shards, finished_before):
    """Print a summary of the shards.

    Args:
        folder: `OutputFolder`.
        shards: List of `Shard`.
        finished_before: Number of shards that earlier commands finished.

    Raises:
        UserError: some shards are not finished.
    """
    records = [record for record in map(folder.record, shards) if record]
    images, unreadable, left_out = (
        sum(record[name] for record in records) for name in ("images", "unreadable", "left_out")
    )
    missing = len(shards) - len(records)
    line = (
        f"{folder.path}: {len(records)} of {len(shards)} shards are finished, {finished_before} "
        f"of them by earlier commands; {images} images"
    )
    if unreadable:
        line += f', {unreadable} of them unreadable (their lines have an "error")'
    if left_out:
        line += f"; {left_out} other files in archives, ignored"
    print(f"{line}.")
    if missing:
        raise UserError(
            f"caption: {missing} of {len(shards)} shards could not be read; fix these shards and "
            "run the same command again, which captions only the missing shards."
        )
