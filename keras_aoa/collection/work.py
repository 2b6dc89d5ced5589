"""Captions the unfinished shards of a collection in one process."""

import contextlib
import sys
from dataclasses import dataclass, fields

from keras_aoa.collection.folder import OutputFolder, describe
from keras_aoa.collection.shards import ShardError
from keras_aoa.runs.ensemble import open_run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.keras_settings import use_keras_defaults
from keras_aoa.utils.progress import progress_bar


@dataclass(frozen=True)
class OutputSettings:
    """Which captions of an image are written.

    `captions` is the maximum number of captions per image. Captions with less confidence than
    `least_confidence` are left out.
    """

    captions: int = 1
    least_confidence: float = 0.0

    @property
    def changes(self):
        """Dictionary of the settings that are not the defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }


ONE_CAPTION = OutputSettings()


def open_folder(run, output, search_settings, output_settings=ONE_CAPTION):
    """Open or create the `OutputFolder` for the captions of a run.

    Raises:
        UserError: the run does not exist, or the folder's captions were made with other settings.
    """
    settings = describe(open_run(run), search_settings) | output_settings.changes
    return OutputFolder(output, settings)


def load_captioner(run, search_settings, batch_size, output_settings=ONE_CAPTION):
    """Load a run as a `ShardCaptioner`.

    Raises:
        UserError: `ImageCaptioner` fails.
    """
    use_keras_defaults()
    from keras_aoa.collection.captioner import ShardCaptioner
    from keras_aoa.inference.batches import BatchCaptioner
    from keras_aoa.inference.image_captioner import ImageCaptioner

    batches = BatchCaptioner(ImageCaptioner(run, **search_settings.changes), batch_size)
    return ShardCaptioner(batches, **vars(output_settings))


def caption_shards(run, shards, output, search_settings, batch_size, output_settings=ONE_CAPTION):
    """Caption the unfinished shards, then print a summary.

    Args:
        run: Folder of the run, or comma-separated folders of the runs of an ensemble.
        shards: List of `Shard`.
        output: Folder for the captions.
        search_settings: `SearchSettings`.
        batch_size: Number of images in a batch.
        output_settings: `OutputSettings`.

    Raises:
        UserError: the run is incomplete, the folder's captions were made with other settings, or
            some shards cannot be read. An error for unreadable shards is raised after all other
            shards are finished.
    """
    folder = open_folder(run, output, search_settings, output_settings)
    unfinished = [shard for shard in shards if folder.record(shard) is None]
    if unfinished:
        captioner = load_captioner(run, search_settings, batch_size, output_settings)
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
