"""Reads the data set of a configuration, and builds its image and proposal settings."""

import pathlib

from keras_aoa.data import readers, scenes


def load_data(
    data, images="", *, cache, restval=True, scenes_images=3000, scenes_seed=0, image_size=96
):
    """Read a data set; the built-in scenes are drawn if they do not exist yet.

    Args:
        data: `scenes`, or a folder or file that `readers.read` understands.
        images: Folder of the images, if they are not beside the captions.
        cache: Folder in which the drawn scenes are stored.
        restval: Whether to add Karpathy's `restval` images to the split `train`.
        scenes_images: Number of training scenes.
        scenes_seed: Seed of the scenes.
        image_size: Height and width of the scenes in pixels.

    Returns:
        `CaptionData`.

    Raises:
        UserError: `readers.read` or `scenes.ScenesSettings` fails.
    """
    if data == "scenes":
        settings = scenes.ScenesSettings(seed=scenes_seed, train=scenes_images, size=image_size)
        return scenes.prepare(cache, settings)
    return readers.read(data, images or None, restval)


def read_data(configuration, folder, data="", images=""):
    """Read the data set `data`, or the configuration's data set if `data` is empty.

    If the setting `select_images` is above 0, that many training images are moved to a new split,
    `select`. `select_seed` chooses them. Images are moved only in the configuration's own data set.

    Args:
        configuration: `Configuration`.
        folder: Output folder of all runs; drawn scenes are stored in its subfolder `data`.
        data: As for `load_data`. If `data` is empty, the configuration's data set is read.
        images: As for `load_data`. If `images` and `data` are both empty, the configuration's
            folder of images is used.

    Returns:
        `CaptionData`.
    """
    caption_data = load_data(
        data or configuration.data,
        images or ("" if data else configuration.images),
        cache=pathlib.Path(folder) / "data",
        restval=configuration.restval,
        scenes_images=configuration.scenes_images,
        scenes_seed=configuration.scenes_seed,
        image_size=configuration.image_size,
    )
    if configuration.select_images and not data:
        seed = configuration.seed if configuration.select_seed < 0 else configuration.select_seed
        caption_data = readers.hold_out(caption_data, configuration.select_images, seed)
    return caption_data


def scored_split(configuration, data):
    """Choose the split to score: the configured test split, or a fallback if it is missing.

    Args:
        configuration: `Configuration`.
        data: `CaptionData`.

    Returns:
        The split's name and a note for the user. If the configured test split exists, the note is
        "".
    """
    selecting = configuration.selecting_split
    wanted = (configuration.test_split, "test", "val", selecting)
    split = next((name for name in wanted if name in data.splits), configuration.test_split)
    note = ""
    if split != configuration.test_split:
        note = f"{data.name} has no split {configuration.test_split!r}; scoring {split!r} instead."
    if split == selecting:
        note += f" {split!r} also selects the checkpoint, so its scores are optimistic."
    return split, note.strip()


def image_settings(configuration):
    """Return the `ImageSettings` of the network's input."""
    from keras_aoa.data.images.preprocessing import ImageSettings

    return ImageSettings(configuration.image_size, configuration.fit)


def proposal_image_settings(configuration):
    """Return the `ImageSettings` of the input from which features of proposals are pooled."""
    from keras_aoa.data.images.preprocessing import ImageSettings

    return ImageSettings(configuration.proposals_size, configuration.proposals_fit)


def proposal_view(configuration, folder, edge_model=None):
    """Return a configuration's `ProposalView`, or None if the regions are not proposals.

    Args:
        configuration: `Configuration`.
        folder: Output folder of all runs; proposals are cached in its subfolder `data`.
        edge_model: Path of a model that detects edges, or None for the configuration's path.
    """
    if configuration.regions != "proposals":
        return None
    from keras_aoa.data.images.views import ProposalView
    from keras_aoa.data.proposals.cache import ProposalSettings

    return ProposalView(
        proposal_image_settings(configuration),
        ProposalSettings(
            edge_model=configuration.edge_model if edge_model is None else edge_model,
            method=configuration.proposal_method,
        ),
        pathlib.Path(folder) / "data",
    )
