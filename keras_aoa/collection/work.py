"""One process's work on a collection: shard after shard, those that are not finished."""

import contextlib
import sys

from keras_aoa.collection.folder import OutputFolder, describe
from keras_aoa.collection.shards import ShardError
from keras_aoa.runs.ensemble import open_run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.progress import progress_bar


def open_folder(run, output, search_settings):
    """The `OutputFolder` of captions by a run.

    Raises:
        UserError: no run there, or captions there that were made otherwise.
    """
    return OutputFolder(output, describe(open_run(run), search_settings))


def load_captioner(run, search_settings, batch_size):
    """The `ShardCaptioner` of a run.

    Raises:
        UserError: as of `ImageCaptioner`.
    """
    from keras_aoa.collection.captioner import ShardCaptioner
    from keras_aoa.inference.image_captioner import ImageCaptioner

    return ShardCaptioner(ImageCaptioner(run, **search_settings.changes), batch_size)


def caption_shards(run, shards, output, search_settings, batch_size):
    """Caption what is not finished of shards, and tell what was done.

    Args:
        run: The run's folder, or several with commas between.
        shards: `Shard`s.
        output: Folder of the captions.
        search_settings: `SearchSettings`.
        batch_size: Images that the network sees at once.

    Raises:
        UserError: a run that is not whole, captions that were made otherwise, or shards that
            could not be read, once all others are finished.
    """
    folder = open_folder(run, output, search_settings)
    todo = [shard for shard in shards if folder.record(shard) is None]
    if todo:
        captioner = load_captioner(run, search_settings, batch_size)
        with progress_bar(unit="image") as bar:
            for number, shard in enumerate(todo, 1):
                bar.set_description(f"{shard.name}, {number} of {len(todo)} shards", refresh=False)
                with told():
                    captioner.caption(shard, folder, bar.update)
    report(folder, shards, len(shards) - len(todo))


@contextlib.contextmanager
def told():
    """A shard that cannot be read is told, and does not stop the others."""
    try:
        yield
    except ShardError as mistake:
        print(mistake, file=sys.stderr)


def report(folder, shards, before):
    """Print what became of shards.

    Args:
        folder: `OutputFolder`.
        shards: `Shard`s.
        before: How many of them were finished before.

    Raises:
        UserError: some are not finished.
    """
    records = [record for record in map(folder.record, shards) if record]
    images, unreadable, left_out = (
        sum(record[name] for record in records) for name in ("images", "unreadable", "left_out")
    )
    missing = len(shards) - len(records)
    line = (
        f"{folder.path}: {len(records)} of {len(shards)} shards are finished, {before} of them "
        f"were before; {images} images"
    )
    if unreadable:
        line += f', {unreadable} of them unreadable (their lines have an "error")'
    if left_out:
        line += f"; {left_out} files in archives that are no images by their names"
    print(f"{line}.")
    if missing:
        raise UserError(
            f"caption: {missing} of {len(shards)} shards could not be read; put them right, and "
            "the same command does them alone."
        )
