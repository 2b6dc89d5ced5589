"""A data set by name or path: the drawn scenes, or files of captioned photographs."""

import pathlib

from keras_aoa.data import readers, scenes


def load_data(
    data, images="", *, cache, restval=True, scenes_images=3000, scenes_seed=0, image_size=96
):
    """Read a data set, drawing it first if it is `scenes`.

    Args:
        data: `scenes`, or a folder or file that `readers.read` understands.
        images: Folder of images, where it is not beside the captions.
        cache: Folder where drawn scenes are kept.
        restval: Whether Karpathy's `restval` joins train.
        scenes_images: Number of training scenes.
        scenes_seed: Their seed.
        image_size: Their side, pixels.

    Returns:
        `CaptionData`.

    Raises:
        UserError: as `readers.read` and `scenes.ScenesSettings`.
    """
    if data == "scenes":
        settings = scenes.ScenesSettings(seed=scenes_seed, train=scenes_images, size=image_size)
        return scenes.prepare(cache, settings)
    return readers.read(pathlib.Path(data), images or None, restval)
