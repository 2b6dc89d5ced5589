"""Captions a split with a run, the first step of all evaluations."""

import functools
import json
import pathlib
from dataclasses import asdict, dataclass, replace

from keras_aoa.data.build import scored_split
from keras_aoa.data.images.split_images import image_batches
from keras_aoa.distribution.process import Process
from keras_aoa.evaluation.grounding import ground
from keras_aoa.inference.generator import CaptionGenerator, generate
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable, write_text

BATCH = 32  # images per batch; affects only memory
REGIONS = 6400  # maximum per batch; batches have fewer images if there are many proposals
KEPT_GB = 0.5  # pixels of a split that stay in memory after the check that they can be decoded


@dataclass(frozen=True)
class EvaluationSettings(SearchSettings):
    """What to evaluate, and how to search.

    An empty `split` selects the run's test split. `data` and `images` replace the run's data set.
    `output` is the folder of the results. By default, this is the run's folder, or its subfolder
    `evaluations/DATA` for another data set.
    """

    split: str = ""
    data: str = ""
    images: str = ""
    tokenizer: str = "auto"
    pictures: int = 12
    output: str = ""


class SplitCaptioner:
    """Captions a split of the data with a run, for an evaluation.

    Args:
        run: `Run`.
        settings: `EvaluationSettings`.
        data: `CaptionData`; loaded if None.
        process: `Process`, if several processes share the work.

    Attributes:
        folder: Folder of the results; `write` creates it.
        split: Name of the split.
        examples: Examples of the split; each has at least one caption.

    Raises:
        UserError: the folder is not writable, the split does not exist, images have no captions,
            or the data cannot be read.
    """

    def __init__(self, run, settings, data=None, process=None):
        self.run, self.settings = run, settings
        self.process = process or Process()
        self.folder = output_folder(run, settings)
        if self.process.chief:
            check_writable(self.folder)
        self.data = data or run.load_data(settings.data, settings.images)
        self.split, self.examples = open_split(self.data, run.configuration, settings.split)

    @functools.cached_property
    def captioner(self):
        """The run's captioner with its best weights."""
        with self.process.strategy.scope():
            return self.run.load_captioner()

    @functools.cached_property
    def images(self):
        """The readable `Images` of the split."""
        keep = kept_gb(self.run, self.examples)
        return self.process.chief_first(
            lambda: self.run.load_images(self.split, self.examples, keep)
        )

    def generator(self, **changes):
        """Return a `CaptionGenerator` with the search settings; `changes` replace some of them."""
        with self.process.strategy.scope():
            return CaptionGenerator.from_configuration(
                self.captioner,
                self.run.vocabulary,
                self.run.configuration,
                replace(self.settings, **changes),
            )

    def captions(self, generator, progress="captions", with_attention=True):
        """Caption all readable images: `{index: Caption}`."""
        return caption_split(generator, self.images, progress, with_attention)

    def references(self, captions):
        """Return the reference captions and the generated texts, both by image id."""
        ids = {index: self.examples[index].image_id for index in captions}
        references = {ids[index]: self.examples[index].captions for index in captions}
        return references, {ids[index]: caption.text for index, caption in captions.items()}

    def grounding(self, captions):
        """Return `{"grounding": ...}` for `scores.json`, or `{}` if the data have no objects."""
        grounding = ground(captions, self.examples)
        return {"grounding": asdict(grounding)} if grounding else {}

    def metadata(self, search):
        """Return the entries of a results file that describe how the results were computed.

        Args:
            search: Search settings by name.

        Returns:
            A dictionary. `default_split` is true if the settings name no split.
        """
        return {
            "run": str(self.run.results_folder),
            "data": self.settings.data or self.run.configuration.data,
            "split": self.split,
            "default_split": not self.settings.split,
            "search": search,
        }

    def write(self, content, *names):
        """Write `content` as json to each of the named files in the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            write_text(self.folder / name, json.dumps(content, indent=2) + "\n")


def kept_gb(run, examples):
    """Return `cache_gb` for the images of a split: 0 if they take more than `KEPT_GB`.

    Images in memory are decoded once, and need no graph that reads files, which TensorFlow
    optimizes for a second. Larger splits are decoded twice instead.
    """
    view = run.proposal_view
    sides = [run.image_settings.side, *([view.settings.side] if view else [])]
    gigabytes = len(examples) * sum(3 * side**2 for side in sides) / 1e9
    return KEPT_GB if gigabytes <= KEPT_GB else 0.0


def output_folder(run, settings):
    """Return the folder of the results; other data never overwrite the run's own scores."""
    if settings.output:
        return pathlib.Path(settings.output)
    if settings.data:
        return run.results_folder / "evaluations" / pathlib.Path(settings.data).resolve().stem
    return run.results_folder


def open_split(data, configuration, name=""):
    """Return the name of the split to evaluate, and its examples.

    Args:
        data: `CaptionData`.
        configuration: `Configuration` of the run.
        name: Name of the split; if empty, the run's test split is used.

    Raises:
        UserError: the split does not exist, or images have no captions.
    """
    scored, note = scored_split(configuration, data)
    split = name or scored
    if note and split == scored:
        print(note)
    examples = data.splits.get(split)
    if not examples:
        raise UserError(
            f"evaluate: expected a split of {data.name}, received {split!r}; "
            f"there are {', '.join(data.splits)}."
        )
    uncaptioned = [str(example.image_id) for example in examples if not example.captions]
    if uncaptioned:
        raise UserError(
            f"evaluate: {len(uncaptioned)} of {len(examples)} images of {split} have no "
            f"caption to score against: {', '.join(uncaptioned[:3])}; add captions; to "
            "generate captions without scores, use python -m keras_aoa.caption."
        )
    return split, examples


def caption_split(generator, images, progress, with_attention=True):
    """Caption all readable images: `{index: Caption}`; `with_attention` as in `generate`."""
    batches = batches_for(generator, images)
    captions = generate(generator, batches, len(images.readable), progress, with_attention)
    return dict(sorted(captions.items()))


def batches_for(generator, images):
    """Return this process's batches of readable images, smaller if there are many proposals."""
    proposals = generator.settings.get("proposals")
    batch_size = min(BATCH, max(1, REGIONS // proposals)) if proposals else BATCH
    return image_batches(images, batch_size, proposals, generator.process.replicas)
