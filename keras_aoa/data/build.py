"""From settings to data: the data set, the splits to use, and how images and proposals are made."""

import pathlib

from keras_aoa.data import readers, scenes


def load_data(
    data, images="", *, cache, restval=True, scenes_images=3000, scenes_seed=0, image_size=96
):
    """Read a data set; the drawn scenes are drawn first if they are missing.

    Args:
        data: `scenes`, or a folder or file that `readers.read` understands.
        images: Folder of the images, if it is not beside the captions.
        cache: Folder that keeps the drawn scenes.
        restval: Whether Karpathy's `restval` images join `train`.
        scenes_images: Number of training scenes.
        scenes_seed: Seed of the scenes.
        image_size: Side of the scenes, in pixels.

    Returns:
        `CaptionData`.

    Raises:
        UserError: as `readers.read` and `scenes.ScenesSettings`.
    """
    if data == "scenes":
        settings = scenes.ScenesSettings(seed=scenes_seed, train=scenes_images, size=image_size)
        return scenes.prepare(cache, settings)
    return readers.read(data, images or None, restval)


def read_data(configuration, folder, data="", images=""):
    """Read the data set of a configuration, or another in its place.

    Args:
        configuration: `Configuration`.
        folder: Folder of all runs; its folder `data` keeps the drawn scenes.
        data, images: A data set in place of the configuration's.

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
        count, seed = configuration.select_images, configuration.seed
        caption_data = readers.hold_out(caption_data, count, seed)
    return caption_data


def scored_split(configuration, data):
    """Choose the split that is scored at the end: the test split, or another if there is none.

    Args:
        configuration: `Configuration`.
        data: `CaptionData`.

    Returns:
        Its name, and a line to print if the choice may surprise, or "".
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
    """Return the `ImageSettings` of the images from which object proposals are pooled."""
    from keras_aoa.data.images.preprocessing import ImageSettings

    return ImageSettings(configuration.proposals_size, configuration.proposals_fit)


def proposal_view(configuration, folder, edge_model=None):
    """Return the `ProposalView` of a configuration; None for other kinds of regions.

    Args:
        configuration: `Configuration`.
        folder: Folder of all runs; its folder `data` caches proposals.
        edge_model: Edge model file in place of the configuration's.
    """
    if configuration.regions != "proposals":
        return None
    from keras_aoa.data.images.views import ProposalView
    from keras_aoa.data.proposals.cache import ProposalSettings

    return ProposalView(
        proposal_image_settings(configuration),
        ProposalSettings(edge_model=configuration.edge_model if edge_model is None else edge_model),
        pathlib.Path(folder) / "data",
    )
