"""Captions a split with a run, which is the first step of all evaluations."""

import functools
import json
import pathlib
from dataclasses import asdict, dataclass, replace

from keras_aoa.data.build import scored_split
from keras_aoa.data.images.split_images import image_batches
from keras_aoa.distribution.process import Process
from keras_aoa.evaluation.diversity import diversity
from keras_aoa.evaluation.grounding import ground
from keras_aoa.inference.generator import CaptionGenerator, generate
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable, write_text

BATCH = 32  # images per batch; affects only memory
REGIONS = 6400  # maximum per batch; batches have fewer images if there are many proposals
KEPT_GB = 0.5  # if the pixels of a split take no more, they stay in memory after the first decoding


@dataclass(frozen=True)
class EvaluationSettings(SearchSettings):
    """What to evaluate, and how to search.

    An empty `split` selects the run's test split. `data` and `images` replace the run's data set.
    `output` is the folder of the results. If `output` is empty, results are written to the run's
    folder. If `output` is empty and another data set is used, results are written to
    `evaluations/DATA` in the run's folder.
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
        data: `CaptionData`, or None to load the data.
        process: `Process`, needed only if several processes share the work.

    Attributes:
        folder: Folder of the results, which `write` creates.
        split: Name of the split.
        examples: Examples of the split, each with at least one caption.

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
            return self.run.load_captioner(for_inference=True)

    @functools.cached_property
    def images(self):
        """The readable `Images` of the split."""
        keep = kept_gb(self.run, self.examples)
        return self.process.chief_first(
            lambda: self.run.load_images(self.split, self.examples, keep)
        )

    def generator(self, **changes):
        """Return a `CaptionGenerator` with the search settings.

        The settings in `changes` replace the settings of the evaluation.
        """
        with self.process.strategy.scope():
            return CaptionGenerator.from_configuration(
                self.captioner,
                self.run.vocabulary,
                self.run.configuration,
                replace(self.settings, **changes),
            )

    def captions(self, generator, progress="captions", with_attention=True):
        """Caption all readable images, and return `{index: Caption}`."""
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

    def diversity(self, texts):
        """Return `{"diversity": ...}` for `scores.json`.

        Novelty needs the run's own training captions, which another data set does not contain.
        """
        training = () if self.settings.data else self.data.splits.get("train", ())
        known = (caption for example in training for caption in example.captions)
        return {"diversity": asdict(diversity(texts.values(), known))}

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
    """Return the memory limit `cache_gb` for the images of a split.

    `cache_gb` is 0 if the images take more than `KEPT_GB`. If `cache_gb` is 0, images are decoded
    twice. The images of smaller splits stay in memory and are decoded once. Images in memory also
    need no graph that reads files, which TensorFlow takes a second to optimize.
    """
    view = run.proposal_view
    sides = [run.image_settings.side, *([view.settings.side] if view else [])]
    gigabytes = len(examples) * sum(3 * side**2 for side in sides) / 1e9
    return KEPT_GB if gigabytes <= KEPT_GB else 0.0


def output_folder(run, settings):
    """Return the folder of the results.

    By default, results for another data set have their own folder, so that they do not overwrite
    the run's own scores.
    """
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
        name: Name of the split. An empty name selects the run's test split.

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
            f"its splits are {', '.join(data.splits)}."
        )
    uncaptioned = [str(example.image_id) for example in examples if not example.captions]
    if uncaptioned:
        raise UserError(
            f"evaluate: {len(uncaptioned)} of {len(examples)} images of {split} have no "
            f"caption to score against: {', '.join(uncaptioned[:3])}; add captions; to "
            "generate captions without scores, use keras-aoa caption."
        )
    return split, examples


def caption_split(generator, images, progress, with_attention=True):
    """Caption all readable images, and return `{index: Caption}`.

    `with_attention` has the same meaning as in `generate`.
    """
    batches = batches_for(generator, images)
    captions = generate(generator, batches, len(images.readable), progress, with_attention)
    return dict(sorted(captions.items()))


def batches_for(generator, images):
    """Return this process's batches of readable images.

    If there are many proposals, the batches contain fewer images.
    """
    proposals = generator.settings.get("proposals")
    batch_size = min(BATCH, max(1, REGIONS // proposals)) if proposals else BATCH
    return image_batches(images, batch_size, proposals, generator.process.replicas)
