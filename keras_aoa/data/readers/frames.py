"""Compares pictures with the sizes that annotation files state, and turns boxes upright.

Boxes refer to one of two frames. The first frame is the stored pixels, as in COCO. The second frame
is the upright picture, to which the EXIF orientation has been applied. The size that an annotation
file states shows which frame the file uses.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from keras_aoa.data.examples import Box, CaptionData, Example
from keras_aoa.utils.text import first_three

logger = logging.getLogger(__name__)

Size = tuple[float, float]  # width and height
_HEADER = 2**16  # bytes; in most files, they include the size and EXIF data


def with_upright_boxes(
    data: CaptionData, sizes: Mapping[int | str, Size], source: object
) -> CaptionData:
    """Turn the boxes of rotated pictures upright; leave out boxes that fit no frame.

    Boxes are turned if the stated size has the aspect ratio of the stored pixels. Only aspect
    ratios are compared, because a picture may have been resized. If the stated aspect ratio fits
    neither frame, the boxes belong to another picture and are left out with a warning. Boxes of
    unreadable pictures are unchanged.

    Args:
        data: Data set whose image paths are resolved.
        sizes: Dictionary from image ids to the stated width and height.
        source: The file or folder that states the sizes, for messages.
    """
    others: list[str] = []

    def upright(example: Example) -> Example:
        layout = _layout(example.path) if example.image_id in sizes and _boxed(example) else None
        if layout is None:
            return example
        width, height, orientation = layout
        stated = sizes[example.image_id]
        if _same_shape(stated, (width, height)):
            turn = functools.partial(_turned, orientation=orientation)
            return example if orientation == 1 else _with_boxes(example, turn)
        if orientation >= 5 and _same_shape(stated, (height, width)):
            return example
        others.append(f"{example.path} is {width} x {height}, not {stated[0]:g} x {stated[1]:g}")
        return replace(example, objects=(), phrases=())

    parts = data.splits.values()
    if any(example.image_id in sizes and _boxed(example) for part in parts for example in part):
        _reader()  # before the threads, each of which would make its own
    with ThreadPoolExecutor(8) as pool:
        splits = {split: tuple(pool.map(upright, part)) for split, part in data.splits.items()}
    if others:
        logger.warning(
            "%s: %d pictures do not have the stated aspect ratio, so their boxes are left out: %s.",
            *(source, len(others), first_three(sorted(others))),
        )
    return CaptionData(data.name, splits)


def _boxed(example: Example) -> bool:
    return bool(example.objects or example.phrases)


def _same_shape(stated: Size, pixels: Size) -> bool:
    """Return whether two sizes have the same aspect ratio, up to rounding to whole pixels."""
    return abs(stated[0] * pixels[1] - stated[1] * pixels[0]) <= sum(stated)


def _with_boxes(example: Example, change: Callable[[Box], Box]) -> Example:
    return replace(
        example,
        objects=tuple(replace(thing, box=change(thing.box)) for thing in example.objects),
        phrases=tuple(replace(phrase, box=change(phrase.box)) for phrase in example.phrases),
    )


def _turned(box: Box, orientation: int) -> Box:
    """Turn a box in the way `decoding` turns an image with this EXIF orientation."""
    x0, y0, x1, y1 = box
    if orientation >= 5:
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in (2, 3, 6, 7):
        x0, x1 = 1 - x1, 1 - x0
    if orientation in (3, 4, 7, 8):
        y0, y1 = 1 - y1, 1 - y0
    return x0, y0, x1, y1


def _layout(path: str) -> tuple[int, int, int] | None:
    """Return stored width, stored height and EXIF orientation, or None for an unreadable file."""
    import tensorflow as tf

    from keras_aoa.data.images.preprocessing import is_small_file

    read = _reader()
    try:
        if not is_small_file(path):
            return None
        with open(path, "rb") as file:
            data = file.read(_HEADER)
            # Formats other than JPEG are decoded, which needs the whole file.
            if data[:3] != b"\xff\xd8\xff":
                data += file.read()
            try:
                layout = read(data)
            except tf.errors.OpError:
                layout = read(data + file.read())
    except (OSError, tf.errors.OpError):
        return None
    width, height, orientation = layout.numpy().tolist()
    return width, height, orientation


@functools.cache
def _reader():
    import tensorflow as tf

    from keras_aoa.data.images import decoding, exif

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def read(data):
        with tf.device("CPU:0"):  # otherwise, each file would be copied to the GPU and back
            orientation = exif.orientation(data)

            height_and_width = tf.cond(
                tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff",
                lambda: tf.image.extract_jpeg_shape(data)[:2],
                lambda: tf.shape(decoding.decode_as_stored(data))[:2],
            )
            return tf.concat([height_and_width[::-1], [orientation]], 0)

    # The first call optimizes the graph for a second; threads that start together would all do it.
    with contextlib.suppress(tf.errors.OpError):
        read(b"")
    return read
