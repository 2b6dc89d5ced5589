"""Reads Flickr token files, with one caption per line: `image.jpg#0<TAB>A dog runs .`

Source: Hodosh, Young and Hockenmaier, "Framing Image Description as a Ranking Task", JAIR 2013
(Flickr8k); Young et al., "From image descriptions to visual denotations", TACL 2014 (Flickr30k).
"""

import io
import pathlib
import unicodedata

from keras_aoa.data.examples import CaptionData
from keras_aoa.data.readers.files import image_folders, inside, locate, make_example, read_text
from keras_aoa.data.readers.splits import split_by_name
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import clip, first_three, one_line

PUBLIC = {
    "Flickr8k.token.txt": "flickr8k",
    "results_20130124.token": "flickr30k",
    "results_20130124.token.gz": "flickr30k",
}
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
# The published archive spells its folder "Flicker8k".
IMAGE_FOLDERS = {
    "flickr8k": ("Flicker8k_Dataset", "Flickr8k_Dataset"),
    "flickr30k": ("flickr30k-images", "flickr30k_images"),
}


def is_token_file(name: str) -> bool:
    """Return whether a file name is that of a token file with original words instead of lemmas."""
    # Flickr8k includes a second file in which each word is replaced by its lemma.
    return name.endswith((".token", ".token.txt", ".token.gz")) and ".lemma." not in name


def read_captions(path: str | pathlib.Path) -> dict[str, list[str]]:
    """Read the captions of each image from a token file, in file order.

    The images need not exist.

    Raises:
        UserError: A line is not of the form `image.jpg#0<TAB>caption`, a caption is empty, or two
            captions of an image have the same number.
    """
    path = pathlib.Path(path)
    captions: dict[str, list[str]] = {}
    numbers: set[str] = set()
    for line_number, line in enumerate(io.StringIO(read_text(path)), start=1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, sharp, number = key.rpartition("#")
        caption = one_line(caption)
        where = f"{path} line {line_number}"
        if not (tab and sharp and number.isdecimal() and caption):
            raise UserError(
                f"{where}: expected 'image.jpg#0<TAB>caption', received {clip(line.rstrip())}; "
                "add what is missing or remove the line."
            )
        if key in numbers:
            raise UserError(
                f"{where}: expected each image's captions to have different numbers, "
                f"received {clip(key)} again; give the caption another number."
            )
        numbers.add(key)
        captions.setdefault(inside(name, where), []).append(caption)
    return captions


def read_flickr(path: pathlib.Path, images: str | None = None) -> CaptionData:
    """Read a token file, using Flickr8k's split lists if they are in the same folder.

    Images that are in none of the split lists are left out. If there are no split lists, as for
    Flickr30k, `split_by_name` decides the splits. An image's id is its file name.

    Raises:
        UserError: A listed image has no captions or is listed twice, or `read_captions` or `locate`
            fails.
    """
    name = PUBLIC.get(path.name, path.resolve().parent.name)
    captions = read_captions(path)
    listed = _read_split_lists(path.parent, captions)
    chosen = [image for names in listed.values() for image in names] or captions
    examples = {image: make_example(image, image, captions[image], str(path)) for image in chosen}
    if listed:
        splits = {split: tuple(examples[n] for n in names) for split, names in listed.items()}
    else:
        splits = split_by_name(examples.values(), path)
    return locate(
        CaptionData(name, splits),
        [pathlib.Path(images)]
        if images
        else image_folders(path.parent, *IMAGE_FOLDERS.get(name, ())),
        source=path,
        complete=path.name not in PUBLIC,
    )


def _read_split_lists(folder: pathlib.Path, captions: dict[str, list[str]]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    composed = {unicodedata.normalize("NFC", name): name for name in captions}
    for split, file_name in SPLIT_FILES.items():
        path = folder / file_name
        if not path.exists():
            continue
        names = [line.strip() for line in read_text(path).split("\n") if line.strip()]
        names = [
            name if name in captions else composed.get(unicodedata.normalize("NFC", name), name)
            for name in names
        ]
        for name in names:
            if name in seen:
                raise UserError(
                    f"{path}: expected each image once, received {clip(name)} again "
                    f"(also in {seen[name]}); remove one of the two."
                )
            seen[name] = file_name
        without_captions = [name for name in names if name not in captions]
        if without_captions:
            raise UserError(
                f"{path}: {len(without_captions)} of its {len(names)} images have no captions: "
                f"{first_three(without_captions)}; add captions, or remove the "
                "images from the list."
            )
        splits[split] = names
    return splits
