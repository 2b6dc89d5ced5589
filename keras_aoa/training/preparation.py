"""Prepares a training: data, run folder, backbone and images."""

import logging

import keras

from keras_aoa.data.build import image_settings, proposal_view, read_data
from keras_aoa.data.images.split_images import Images
from keras_aoa.data.proposals.edge_boxes import check_opencv
from keras_aoa.data.text.attributes import attribute_words
from keras_aoa.data.text.topics import check_content_words, check_scikit_learn
from keras_aoa.data.text.vocabulary import SPECIAL, Vocabulary
from keras_aoa.distribution.process import Process
from keras_aoa.models.backbone_parts import check_image_size
from keras_aoa.models.backbones import PRETRAINED_SCENES, make_backbone
from keras_aoa.models.build import backbone_settings, make_captioner
from keras_aoa.runs.data_record import data_changes, write_record
from keras_aoa.runs.run import Run
from keras_aoa.training.attention_supervision import check_boxes
from keras_aoa.training.pretraining import PretrainingSettings, pretrained_backbone
from keras_aoa.training.warm_start import WarmStart
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable, exclusive_lock, remove_leftovers
from keras_aoa.utils.progress import print_progress

log = logging.getLogger(__name__)


def prepare_run(configuration, held, process=None):
    """Create the run's folder, or open it if it exists.

    If the input is invalid, no folder is created.

    Args:
        configuration: `Configuration`.
        held: `contextlib.ExitStack` that keeps the chief's lock on the folder.
        process: `Process`; by default, a single process. The chief creates the folder, and the
            other processes open it.

    Returns:
        Tuple of the `Run`, its `CaptionData`, the readable `Images` for training, and the readable
        `Images` for selecting the best weights.

    Raises:
        UserError: data or settings are invalid, or the folder contains a run with other settings.
    """
    folder, process = configuration.folder, process or Process()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder, found a file; choose another --name.")
    if process.chief:
        check_writable(folder)
    if (folder / "config.json").exists():
        if process.chief:
            hold(folder, held)
        run = Run(folder)
        different = run.differences(configuration)
        if different:
            raise UserError(
                f"{folder}: contains a run with other settings ({', '.join(different)}); "
                "choose another --name, or remove the folder to start again."
            )
        print_progress(f"The run is in {folder}.")
        if configuration.start_from and not run.record["splits"]:
            log.warning(
                "%s: data.json is missing or damaged, so the order of images, their views and "
                "dropout may differ from those of an uninterrupted training.",
                folder,
            )
        data = run.load_data()
        check_splits(configuration, data)
        changes = data_changes(run.record, data) if run.record["splits"] else ()
        if changes:
            print_progress(
                f"{folder}: the data changed since the run was started or last resumed: "
                f"{'; '.join(changes)}."
            )
        if process.chief:
            earlier_runs = run.record["earlier_runs"]
            write_record(folder, run.located_configuration, data, earlier_runs)
        return run, data, *load_images(configuration, data, run.proposal_view)
    if not process.chief:
        raise UserError(
            f"{folder}: expected the run that worker 0 created, found none; set output to a "
            "folder that all workers share."
        )
    view = proposal_view(configuration, folder.parent)
    if view:
        check_opencv()  # now, because drawing scenes takes minutes
    if configuration.concepts == "topics":
        check_scikit_learn()
    start = WarmStart(configuration.start_from) if configuration.start_from else None
    if start:
        start.check_settings(configuration)
    data = read_data(configuration, folder.parent)
    check_splits(configuration, data)
    vocabulary = make_vocabulary(configuration, data)
    if configuration.attention_supervision:
        check_boxes(data.splits["train"])
    if configuration.concepts == "topics":
        check_content_words(data.splits["train"], vocabulary)
    if start:
        start.check_vocabulary(vocabulary)
    words = ()
    if configuration.concepts == "attributes":
        words = attribute_words(vocabulary, configuration.concept_count)
    if start:
        start.check_attributes(words)
    concept_ids = tuple(map(vocabulary.words.index, words))
    keras.utils.set_random_seed(configuration.seed)
    backbone = start_backbone(configuration)
    check_image_size(backbone, configuration.image_size)
    captioner = make_captioner(configuration, backbone, len(vocabulary), concept_ids)
    if start:
        start.load(captioner)
    # The captioner only loaded the other run's weights into the backbone and checked that they fit.
    del captioner
    images = load_images(configuration, data, view)
    folder.mkdir(parents=True, exist_ok=True)
    hold(folder, held)
    if (folder / "config.json").exists():
        raise UserError(
            f"{folder}: another training created this run meanwhile; choose another --name, or "
            "resume that training with its own command."
        )
    write_record(folder, configuration, data, start.earlier_runs if start else 0)
    run = Run.create(configuration, vocabulary, backbone)
    counts = {split: len(examples) for split, examples in data.splits.items()}
    print_progress(
        f"{folder}: {data.name}, images {counts}, vocabulary of {len(vocabulary)} words."
    )
    return run, data, *images


def hold(folder, held):
    """Lock a run's folder, and remove temporary files that killed processes left in it."""
    held.enter_context(exclusive_lock(folder))
    remove_leftovers(folder)


def start_backbone(configuration):
    """Return the configured backbone. If necessary, `scenes-pretrained` is pretrained first."""
    if configuration.backbone == PRETRAINED_SCENES:
        folder = configuration.folder.parent / "data"
        return pretrained_backbone(folder, PretrainingSettings.of(configuration))
    return make_backbone(backbone_settings(configuration))


def load_images(configuration, data, view):
    """Load the images of the training split and of the split that selects the best weights.

    Args:
        configuration: `Configuration`.
        data: `CaptionData`.
        view: `ProposalView` if the regions are object proposals, else None.

    Returns:
        List of two `Images`, without unreadable images.

    Raises:
        UserError: a split has no readable image.
    """
    settings = image_settings(configuration)
    return [
        Images(split, data.splits[split], settings, configuration.cache_gigabytes, view)
        for split in ("train", configuration.selecting_split)
    ]


def check_splits(configuration, data):
    """Check that the data has a training split and the split that selects the best weights.

    Raises:
        UserError: a split is missing.
    """
    remedies = {
        configuration.selecting_split: "set select_images to hold out training images, or set "
        "select_split to one of these splits",
        "train": "add training images and their captions",
    }
    for split, remedy in reversed(remedies.items()):
        if not data.splits.get(split):
            raise UserError(
                f"{data.name}: expected a split {split!r}, found {', '.join(data.splits)}; "
                f"{remedy}."
            )


def make_vocabulary(configuration, data):
    """Return the `Vocabulary` of the training captions.

    Raises:
        UserError: no word is frequent enough.
    """
    captions = [text for example in data.splits["train"] for text in example.captions]
    vocabulary = Vocabulary.from_captions(captions, configuration.minimum_count)
    if len(vocabulary) == len(SPECIAL):
        raise UserError(
            f"{data.name}: expected words that occur at least {configuration.minimum_count} times "
            f"in the training captions, found none in {len(captions)} captions; lower "
            "minimum_count, or add captions."
        )
    return vocabulary
