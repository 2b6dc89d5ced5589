"""Reads your own photographs: a folder with `captions.csv`, one caption per line.

Kaggle's Flickr8k has the same format in `captions.txt`.

image,caption,split          the column `split` is optional
beach/1.jpg,"a dog, running",train
"""

import csv
import io
import pathlib

from keras_aoa.data.examples import CaptionData, Example
from keras_aoa.data.readers.files import image_folders, inside, locate, make_example, read_text
from keras_aoa.data.readers.splits import split_by_name
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import clip, one_line, printable

COLUMNS = ["image", "caption", "split"]
SPLITS = {"train": "train", "val": "val", "dev": "val", "test": "test"}


def read_own(path: pathlib.Path, images: str | None = None) -> CaptionData:
    """Read `captions.csv`; its images are in the same folder, in `images/` or in another subfolder.

    An image may have several lines, one for each caption. Without the column `split`,
    `split_by_name` decides the splits. An image's id is its name in the file. Each image must
    exist.

    Raises:
        UserError: The header is missing, a line has too many or too few columns, a caption is
            empty, a split is unknown, an image is in two splits, or `locate` fails.
    """
    captions: dict[str, list[str]] = {}
    split_of: dict[str, str] = {}
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(rows, [])]
        if header not in (COLUMNS[:2], COLUMNS):
            raise UserError(
                f"{path} line 1: expected the header 'image,caption' or 'image,caption,split', "
                f"received {clip(','.join(header))}; write it as the first line."
            )
        for row in rows:
            if row:
                where = f"{path} line {rows.line_num}"
                _add_row([cell.strip() for cell in row], header, where, captions, split_of)
    except csv.Error as error:
        raise UserError(
            f"{path} line {rows.line_num}: expected comma-separated values, received '{error}'; "
            'quote a caption as "a ""quoted"" word".'
        ) from None

    examples = [make_example(name, name, texts, str(path)) for name, texts in captions.items()]
    if "split" in header:
        parts: dict[str, list[Example]] = {}
        for example in examples:
            parts.setdefault(split_of[example.path], []).append(example)
        splits = {split: tuple(part) for split, part in parts.items()}
    else:
        splits = split_by_name(examples, path)
    return locate(
        CaptionData(path.resolve().parent.name, splits),
        [pathlib.Path(images)] if images else image_folders(path.parent),
        source=path,
        complete=True,
    )


def _add_row(
    row: list[str],
    header: list[str],
    where: str,
    captions: dict[str, list[str]],
    split_of: dict[str, str],
) -> None:
    if len(row) != len(header) or not one_line(row[1]):
        raise UserError(
            f"{where}: expected '{','.join(header)}', received {clip(','.join(row))}; "
            "add what is missing, quote a caption that has a comma, or remove the line."
        )
    name = inside(row[0], where)
    captions.setdefault(name, []).append(row[1])
    if len(row) == 2:
        return
    if row[2] not in SPLITS:
        raise UserError(f"{where}: expected a split {', '.join(SPLITS)}, received {clip(row[2])}.")
    if split_of.setdefault(name, SPLITS[row[2]]) != SPLITS[row[2]]:
        raise UserError(
            f"{where}: expected {printable(name)} in one split, received {split_of[name]} and "
            f"{SPLITS[row[2]]}; choose one."
        )
