"""A run's folder: its settings, vocabulary, backbone and best weights.

With the data set it is enough to evaluate; alone to resume, caption and export.
"""

import functools
import pathlib
import shutil

from keras_aoa.settings.configuration import Configuration
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import atomic_write, write_text


class Run:
    """An existing run.

    Args:
        folder: The run's folder.

    Raises:
        UserError: no run there, or one with a damaged file.
    """

    def __init__(self, folder):
        from keras_aoa.data.text.vocabulary import Vocabulary

        self.folder = pathlib.Path(folder)
        if not self.config_file.is_file():
            raise UserError(
                f"{self.folder}: expected the folder of a run, found no config.json in it; "
                "train one: python train.py."
            )
        self.configuration = Configuration.read(self.config_file)
        self.vocabulary = Vocabulary.load(self.vocabulary_file)

    @classmethod
    def create(cls, configuration, vocabulary, backbone):
        """Make a run's folder; the configuration is written last and makes it a run."""
        folder = configuration.folder
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary.save(folder / "vocabulary.json")
        if configuration.regions == "proposals" and configuration.edge_model:
            with atomic_write(edge_model_file(configuration)) as temporary:
                shutil.copyfile(configuration.edge_model, temporary)
        with atomic_write(folder / "backbone.keras") as temporary:
            backbone.save(temporary)
        write_text(folder / "config.json", configuration.to_json())
        return cls(folder)

    @property
    def members(self):
        """The runs that speak: itself."""
        return [self]

    @property
    def results_folder(self):
        """Where evaluations are written."""
        return self.folder

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
    def best_file(self):
        return self.folder / "best.npz"

    @property
    def last_file(self):
        return self.folder / "last.npz"

    @functools.cached_property
    def digests(self):
        """Digests of the vocabulary and the backbone, which every weights file must match."""
        from keras_aoa.models.weights import file_digest

        return {
            "vocabulary": self.vocabulary.digest,
            "backbone": file_digest(self.backbone_file),
        }

    def check(self, metadata, source):
        """Refuse weights that were trained with another vocabulary or backbone.

        Raises:
            UserError: naming which of the two differs.
        """
        for part, digest in self.digests.items():
            if metadata.get(part) != digest:
                raise UserError(
                    f"{source}: was trained with {part} {metadata.get(part)}, but the run's {part} "
                    f"is {digest}; put the run's own {part} file back."
                )

    def make_captioner(self):
        """The captioner with the weights that the run started from."""
        from keras_aoa.models.backbones import load_backbone
        from keras_aoa.models.build import make_captioner

        if not self.backbone_file.is_file():
            raise UserError(f"{self.backbone_file}: expected the run's backbone, found no file.")
        backbone = load_backbone(self.backbone_file)
        return make_captioner(self.configuration, backbone, len(self.vocabulary))

    def load_captioner(self):
        """The captioner with the run's best weights.

        Raises:
            UserError: nothing trained yet, or files that do not belong together.
        """
        from keras_aoa.models import weights

        if not self.best_file.is_file():
            raise UserError(
                f"{self.folder}: has no trained weights yet (best.npz); train it: "
                f"python train.py --name {self.folder.name}."
            )
        arrays, metadata = weights.load_arrays(self.best_file)
        self.check(metadata, self.best_file)
        captioner = self.make_captioner()
        with_backbone = any(name.startswith("backbone/") for name in arrays)
        variables = weights.captioner_variables(captioner, with_backbone)
        weights.assign(variables, arrays, self.best_file)
        return captioner

    def load_data(self, data="", images=""):
        """The run's data set, or another in its place."""
        return read_data(self.configuration, self.folder.parent, data, images)

    @property
    def image_settings(self):
        """How images are brought to the network's input."""
        return image_settings(self.configuration)

    @property
    def proposal_view(self):
        """How proposals are found and seen, a `ProposalView`; None for other kinds of regions."""
        kept = self.folder / edge_model_file(self.configuration).name
        edge_model = str(kept) if self.configuration.edge_model else ""
        return proposal_view(self.configuration, self.folder.parent, edge_model)

    def load_images(self, split, examples, cache_gb=0.0):
        """The readable `Images` of a split, and their proposals where they are the regions."""
        from keras_aoa.data.images.split_images import Images

        return Images(split, examples, self.image_settings, cache_gb, self.proposal_view)


def edge_model_file(configuration):
    """Where a run keeps its own copy of the file that finds its proposals' edges."""
    suffixes = pathlib.Path(configuration.edge_model).suffixes
    return configuration.folder / "".join(["edge_model", *suffixes])


def image_settings(configuration):
    """How images are brought to the network's input."""
    from keras_aoa.data.images.preprocessing import ImageSettings

    return ImageSettings(configuration.image_size, configuration.fit)


def proposal_view(configuration, folder, edge_model=None):
    """How proposals are found and seen: a `ProposalView`; None for other kinds of regions.

    Args:
        configuration: `Configuration`.
        folder: Of all runs; proposals are kept in its folder `data`.
        edge_model: In place of the configuration's.
    """
    if configuration.regions != "proposals":
        return None
    from keras_aoa.data.images.preprocessing import ImageSettings
    from keras_aoa.data.images.split_images import ProposalView
    from keras_aoa.data.proposals.cache import ProposalSettings

    edge_model = configuration.edge_model if edge_model is None else edge_model
    return ProposalView(
        ImageSettings(configuration.proposals_size, configuration.proposals_fit),
        ProposalSettings(edge_model=edge_model),
        pathlib.Path(folder) / "data",
    )


def scored_split(configuration, data):
    """The split that is scored at the end: the test split, or another where data have none.

    Args:
        configuration: `Configuration`.
        data: `CaptionData`.

    Returns:
        Its name, and a line to tell where that may surprise, or "".
    """
    selecting = configuration.selecting_split
    wanted = (configuration.test_split, "test", "val", selecting)
    split = next((name for name in wanted if name in data.splits), configuration.test_split)
    missing = f"{data.name} has no split {configuration.test_split!r}; "
    note = "" if split == configuration.test_split else f"{missing}scored is {split!r}."
    if split == selecting:
        note += f" {split!r} selects the checkpoint too, which flatters its scores."
    return split, note.strip()


def read_data(configuration, folder, data="", images=""):
    """The data set of a configuration, or another in its place.

    Args:
        configuration: `Configuration`.
        folder: Where drawn scenes are kept, in a folder `data`.
        data, images: A data set in place of the configuration's.

    Returns:
        `CaptionData`.
    """
    from keras_aoa.data.build import load_data
    from keras_aoa.data.readers import hold_out

    found = load_data(
        data or configuration.data,
        images or ("" if data else configuration.images),
        cache=pathlib.Path(folder) / "data",
        restval=configuration.restval,
        scenes_images=configuration.scenes_images,
        scenes_seed=configuration.scenes_seed,
        image_size=configuration.image_size,
    )
    if configuration.select_images and not data:
        found = hold_out(found, configuration.select_images, configuration.seed)
    return found
