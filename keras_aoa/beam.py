"""Captions shards in an Apache Beam pipeline; needs the extra `beam`.

    import apache_beam as beam
    from keras_aoa.beam import CaptionShards

    with beam.Pipeline() as pipeline:
        pipeline | beam.Create(paths) | CaptionShards("runs/mine", "captions")

The run, the shards and the output folder must have the same paths on every worker.
"""

import logging

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import create_runner
from apache_beam.utils.shared import Shared

from keras_aoa.collection.shards import Shard, ShardError
from keras_aoa.collection.work import ONE_CAPTION, load_captioner, open_folder, report
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest

log = logging.getLogger(__name__)


class CaptionShards(beam.PTransform):
    """Captions the shards in a `PCollection` of paths, and counts the images of each shard.

    The captions are written to the output folder. Shards whose captions are already complete in the
    output folder are skipped. The counts of a shard are a dictionary. In the counts of a shard,
    `shard` is the path of the shard, and `images`, `unreadable` and `left_out` are numbers of
    images. If a shard could not be read, its counts contain an error message as `error` instead of
    the numbers.

    Args:
        run: Folder of the run; comma-separated runs form an ensemble.
        output: Folder for the captions.
        search_settings: `SearchSettings`.
        batch_size: Number of images in a batch.
        output_settings: `OutputSettings`.

    Raises:
        UserError: the run or the output folder is invalid, which each worker checks when it starts.
    """

    def __init__(
        self, run, output, search_settings=None, batch_size=32, output_settings=ONE_CAPTION
    ):
        super().__init__()
        self._work = (run, output, search_settings or SearchSettings(), batch_size, output_settings)

    def expand(self, paths):
        # Without a reshuffle, Beam may give all shards to one worker. A shard may take an hour.
        return paths | beam.Reshuffle() | beam.ParDo(_CaptionShard(*self._work))


class _CaptionShard(beam.DoFn):
    def __init__(self, run, output, search_settings, batch_size, output_settings):
        self._run, self._output = run, output
        self._search_settings, self._batch_size = search_settings, batch_size
        self._output_settings = output_settings
        self._shared = Shared()

    def setup(self):
        self._folder = open_folder(
            self._run, self._output, self._search_settings, self._output_settings
        )
        # All threads of a process share one captioner, so that only one network is in memory.
        self._captioner = self._shared.acquire(self._load)

    def _load(self):
        return load_captioner(
            self._run, self._search_settings, self._batch_size, self._output_settings
        )

    def process(self, path):
        shard = Shard(path)
        counts = self._folder.record(shard)
        if counts is None:
            try:
                counts = self._captioner.caption(shard, self._folder)
            except ShardError as error:
                log.error("%s", error)
                counts = {"error": str(error)}
        yield {**counts, "shard": path}


def caption_in_pipeline(
    run, shards, output, search_settings, batch_size, output_settings, runner, options
):
    """Caption shards on the workers of a Beam runner.

    Args:
        run, shards, output, search_settings, batch_size, output_settings: Arguments of
            `caption_shards`.
        runner: Name of the runner, such as `DirectRunner`.
        options: Pipeline options of Beam, each `name=value` or `name`.

    Raises:
        UserError: Beam does not know the runner or an option, or `caption_shards` raises a
            `UserError`.
    """
    try:
        runner = create_runner(runner)
    except (ValueError, ImportError) as error:
        raise UserError(f"runner: {' '.join(str(error).split())}") from None
    known = PipelineOptions([]).get_all_options()
    for option in options:
        name = option.lstrip("-").split("=")[0]
        if name not in known:
            raise UserError(f"runner options: unknown option {option!r}. {closest(name, known)}")
    pipeline_options = PipelineOptions([f"--{option.lstrip('-')}" for option in options])
    folder = open_folder(run, output, search_settings, output_settings)
    unfinished = [shard for shard in shards if folder.record(shard) is None]
    if unfinished:
        with beam.Pipeline(runner, pipeline_options) as pipeline:
            paths = pipeline | beam.Create([shard.path for shard in unfinished])
            _ = paths | CaptionShards(run, output, search_settings, batch_size, output_settings)
    report(folder, shards, len(shards) - len(unfinished))
