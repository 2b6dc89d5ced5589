"""A run: a folder with settings, vocabulary, backbone and best weights.

Captioning and export need only this folder. Training and evaluation also need the data set.
"""

import functools
import os
import pathlib
import shutil
from dataclasses import replace

from keras_aoa.data import build
from keras_aoa.runs.data_record import PATHS, differences, read_record
from keras_aoa.runs.named import is_packed
from keras_aoa.settings.configuration import Configuration
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import atomic_write, on_disk, require_local, write_text

NEXT_RUN_SEED = 100_357  # difference between the random seeds of two runs of a chain


class Run:
    """Opens an existing run.

    Args:
        folder: The run's folder.

    Raises:
        UserError: the folder contains no run, or one of its files is damaged.
    """

    def __init__(self, folder):
        from keras_aoa.data.text.vocabulary import Vocabulary

        require_local(folder)
        self.folder = on_disk(folder)
        if not self.config_file.is_file():
            raise UserError(
                f"{self.folder}: expected the folder of a run, found no config.json in it; "
                "train one: keras-aoa train."
            )
        self.configuration = Configuration.read(self.config_file)
        self.vocabulary = Vocabulary.load(self.vocabulary_file)

    @classmethod
    def create(cls, configuration, vocabulary, backbone):
        """Create a run's folder. `config.json` is written last, because it marks a complete run."""
        from keras_aoa.data.text.attributes import attribute_words, save_attributes

        folder = configuration.folder
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary.save(folder / "vocabulary.json")
        if configuration.concepts == "attributes":
            words = attribute_words(vocabulary, configuration.concept_count)
            save_attributes(folder / "concepts.json", words)
        if configuration.regions == "proposals" and configuration.edge_model:
            with atomic_write(edge_model_file(configuration)) as temporary:
                shutil.copyfile(configuration.edge_model, temporary)
        with atomic_write(folder / "backbone.keras") as temporary:
            backbone.save(temporary)
        write_text(folder / "config.json", configuration.to_json())
        return cls(folder)

    @property
    def members(self):
        """The runs that generate captions together: a list that contains only this run."""
        return [self]

    @property
    def results_folder(self):
        """Folder to which evaluations are written.

        Evaluations of a packed captioner are written to another folder, because a packed captioner
        never changes.
        """
        packed = is_packed(self.folder)
        return self.all_runs / f"captioner-{self.configuration.name}" if packed else self.folder

    @property
    def all_runs(self):
        """Folder that contains all runs, and `data` with drawn scenes, proposals and features."""
        packed = is_packed(self.folder)
        return pathlib.Path(self.configuration.output) if packed else self.folder.parent

    @property
    def config_file(self):
        return self.folder / "config.json"

    @property
    def vocabulary_file(self):
        return self.folder / "vocabulary.json"

    @property
    def backbone_file(self):
        return self.folder / "backbone.keras"

    @property
    def concepts_file(self):
        return self.folder / "concepts.json"

    @property
    def best_file(self):
        return self.folder / "best.npz"

    @property
    def last_file(self):
        return self.folder / "last.npz"

    @functools.cached_property
    def digests(self):
        """Digests of the vocabulary, the backbone and, if the run has them, the attributes.

        Every weights file of the run must contain these digests.
        """
        from keras_aoa.models.weights import file_digest

        return {
            "vocabulary": self.vocabulary.digest,
            "backbone": file_digest(self.backbone_file),
            **({"concepts": self._attributes[1]} if self._attributes else {}),
        }

    @property
    def concept_ids(self):
        """Word ids of the attributes that the run predicts. Without attributes, empty."""
        return self._attributes[0] if self._attributes else ()

    @functools.cached_property
    def _attributes(self):
        if self.configuration.concepts != "attributes":
            return None
        from keras_aoa.data.text.attributes import load_attributes

        return load_attributes(self.concepts_file, self.vocabulary)

    def check(self, metadata, source):
        """Refuse weights that were trained with another vocabulary, backbone or attributes.

        Raises:
            UserError: the vocabulary, backbone or attributes differ. The message names the part
                that differs.
        """
        for part, digest in self.digests.items():
            if metadata.get(part) != digest:
                raise UserError(
                    f"{source}: was trained with {part} {metadata.get(part)}, but the run has "
                    f"{part} {digest}; restore the run's {part} file."
                )

    def make_captioner(self, seed=None):
        """Return the captioner with the run's initial weights.

        Args:
            seed: Seed of dropout and samples, needed only for training.
        """
        from keras_aoa.models.backbones import check_floatx, load_backbone
        from keras_aoa.models.build import make_captioner

        if not self.backbone_file.is_file():
            raise UserError(
                f"{self.backbone_file}: expected the run's backbone, found no file; restore it."
            )
        backbone = load_backbone(self.backbone_file)
        check_floatx(backbone, self.folder)
        count = len(self.vocabulary)
        configuration = self.configuration
        if seed is not None:
            configuration = replace(configuration, seed=seed)
        return make_captioner(configuration, backbone, count, self.concept_ids)

    def load_captioner(self, for_inference=False):
        """Return the captioner with the run's best weights.

        Args:
            for_inference: Whether to return a captioner with faster networks, which cannot be
                trained.

        Raises:
            UserError: there are no trained weights, or the files belong to different runs.
        """
        from keras_aoa.models import weights
        from keras_aoa.models.folding import with_folded_networks

        if not self.best_file.is_file():
            raise UserError(
                f"{self.folder}: expected trained weights (best.npz), found none; train the run: "
                f"keras-aoa train --name {self.folder.name}."
            )
        arrays, metadata = weights.load_arrays(self.best_file)
        self.check(metadata, self.best_file)
        captioner = self.make_captioner()
        with_backbone = any(name.startswith("backbone/") for name in arrays)
        variables = weights.captioner_variables(captioner, with_backbone)
        weights.assign(variables, arrays, self.best_file)
        return with_folded_networks(captioner) if for_inference else captioner

    def load_data(self, data="", images=""):
        """Return the `CaptionData` of the run's data set, or of another data set."""
        return build.read_data(self.located_configuration, self.all_runs, data, images)

    @property
    def located_configuration(self):
        """The configuration, with each path setting replaced by the output of `located`."""
        return replace(self.configuration, **{name: self.located(name) for name in PATHS})

    def located(self, name):
        """Return the value of a path setting, or the path recorded at the start of training.

        The recorded path is absolute, and is used if the path in the setting does not exist. For
        example, a relative path in the setting does not exist in another working directory.
        """
        path = getattr(self.configuration, name)
        recorded = self.record["paths"].get(name)
        return recorded if recorded and not os.path.exists(path) else path

    @functools.cached_property
    def record(self):
        """Content of `data.json`, as returned by `read_record`."""
        return read_record(self.folder)

    @property
    def random_seed(self):
        """Seed of the order of images, views, dropout and samples.

        Initial weights depend on the setting `seed` alone, and held-out images on `select_seed`, or
        on `seed` if `select_seed` is -1. The runs in a chain of `start_from` have different random
        seeds. With equal seeds, each epoch would repeat random choices of an earlier run, to which
        the captioner has adapted. Runs that an earlier version started count as the first of their
        chain.
        """
        return self.configuration.seed + NEXT_RUN_SEED * self.record["earlier_runs"]

    def differences(self, configuration):
        """Return the names of the settings that differ.

        Different paths of the same file count as equal.
        """
        return differences(self.configuration, configuration, self.located)

    @property
    def image_settings(self):
        """`ImageSettings` for the network's input."""
        return build.image_settings(self.configuration)

    @property
    def proposal_view(self):
        """`ProposalView` of the run, or None if the run does not use object proposals."""
        copy = self.folder / edge_model_file(self.configuration).name
        edge_model = str(copy) if self.configuration.edge_model else ""
        return build.proposal_view(self.configuration, self.all_runs, edge_model)

    def load_images(self, split, examples, cache_gb=0.0):
        """Return the readable `Images` of a split, with object proposals if the run uses them."""
        from keras_aoa.data.images.split_images import Images

        return Images(split, examples, self.image_settings, cache_gb, self.proposal_view)


def edge_model_file(configuration):
    """Return the path at which a run's folder contains a copy of the edge model."""
    suffixes = pathlib.Path(configuration.edge_model).suffixes
    return configuration.folder / "".join(["edge_model", *suffixes])
