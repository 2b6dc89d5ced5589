"""Reads Flickr30k Entities: boxes of the objects that Flickr30k's captions mention.

Source: Plummer et al., "Flickr30k Entities: Collecting Region-to-Phrase Correspondences for
Richer Image-to-Sentence Models", ICCV 2015, arXiv:1505.04870. For `36979.jpg` there are
`Sentences/36979.txt`, with one caption per line, and `Annotations/36979.xml`:

    [/EN#1/people A man] throws [/EN#2/other a ball] .
    <object><name>1</name><bndbox><xmin>5</xmin>…</bndbox></object>

A `name` is an entity's number, here 1. A box may have several names, and a name may have several
boxes. The flags `scene` and `nobndbox` mark names that have no box.
"""

import logging
import pathlib
import re
import xml.etree.ElementTree as xml
from collections import defaultdict
from dataclasses import replace
from typing import NamedTuple

from keras_aoa.data.examples import Box, CaptionData, Example, NamedObject, Phrase
from keras_aoa.data.readers.files import read_text
from keras_aoa.data.readers.frames import Size, with_upright_boxes
from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import on_disk
from keras_aoa.utils.text import clip, first_three

logger = logging.getLogger(__name__)

SENTENCES, ANNOTATIONS = "Sentences", "Annotations"
NOT_VISUAL = "0"  # entity number in phrases such as "who" and "each other"
FLICKR8K_NAME = re.compile(r"^(\d+)_[0-9a-f]{10}$")
MARKED = re.compile(r"\[/EN#(\w+)/\S+\s+([^\[\]]*)\]")


class Mark(NamedTuple):
    """A phrase that names an entity: words `first` to `last - 1` of a sentence."""

    entity: str
    first: int
    last: int


class Problems:
    """Collects a data set's problems with entities, and logs one line per kind of problem."""

    def __init__(self) -> None:
        self._cases: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, case: object) -> None:
        self._cases[kind].append(str(case))

    def log(self, folder: pathlib.Path) -> None:
        for kind, cases in self._cases.items():
            logger.warning("%s: %d %s: %s.", folder, len(cases), kind, first_three(cases))


def has_entities(folder: pathlib.Path) -> bool:
    """Return whether a folder contains Flickr30k Entities."""
    return (folder / SENTENCES).is_dir() and (folder / ANNOTATIONS).is_dir()


def with_entities(data: CaptionData, folder: pathlib.Path) -> CaptionData:
    """Add the phrases and objects of Flickr30k Entities to a data set.

    For each box of a phrase's entity, one `Phrase` is added. An object's nouns are the last words
    (heads) of all phrases that name the object. Unusable data is left out and counted in a warning:
    images without entity files, damaged files, captions that match no sentence of the image, and
    phrases whose entity has neither a box nor a flag.
    """
    problems = Problems()
    sizes: dict[int | str, Size] = {}
    splits = {
        split: tuple(_with_entities(example, folder, problems, sizes) for example in examples)
        for split, examples in data.splits.items()
    }
    problems.log(folder)
    return with_upright_boxes(CaptionData(data.name, splits), sizes, folder / ANNOTATIONS)


def _with_entities(
    example: Example, folder: pathlib.Path, problems: Problems, sizes: dict[int | str, Size]
) -> Example:
    stem = entity_stem(example.path)
    sentences = on_disk(folder / SENTENCES / f"{stem}.txt")
    annotations = on_disk(folder / ANNOTATIONS / f"{stem}.xml")
    missing = [path for path in (sentences, annotations) if not path.is_file()]
    if missing:
        problems.add("images have no entity file and so no boxes", missing[0].name)
        return example
    try:
        boxes, sizes[example.image_id] = _read_annotations(annotations)
        marks = [read_sentence(line) for line in read_text(sentences).splitlines()]
    except UserError as error:
        problems.add("images have a damaged entity file and so no boxes", error)
        return example
    marks_by_sentence = dict(marks)
    phrases, heads = [], defaultdict(set)
    for number, caption in enumerate(example.captions):
        words = tuple(tokenize(caption))
        if words not in marks_by_sentence:
            problems.add("captions match no sentence of their image", f"{stem} {clip(caption)}")
            continue
        for entity, first, last in marks_by_sentence[words]:
            if entity not in boxes:
                problems.add(
                    "phrases name an entity without a box", f"{stem} #{entity} {words[last - 1]!r}"
                )
                continue
            heads[entity].add(words[last - 1])
            phrases += [Phrase(number, first, last, box) for box in boxes[entity]]
    objects = tuple(
        NamedObject(frozenset(nouns), frozenset(), box)
        for entity, nouns in heads.items()
        for box in boxes[entity]
    )
    return replace(example, phrases=tuple(phrases), objects=objects)


def entity_stem(path: str | pathlib.Path) -> str:
    """Return the name of an image's entity files, without suffix.

    Flickr8k's images are also in Flickr30k, but their names in Flickr8k contain a second number.

    >>> entity_stem("images/1000268201_693b08cb0e.jpg"), entity_stem("36979.jpg")
    ('1000268201', '36979')
    """
    stem = pathlib.Path(path).stem
    return FLICKR8K_NAME.sub(r"\1", stem)


def read_sentence(line: str) -> tuple[tuple[str, ...], tuple[Mark, ...]]:
    """Split a sentence into its words and the phrases that name visible entities.

    >>> read_sentence("[/EN#7/people A man] runs .")
    (('a', 'man', 'runs'), (Mark(entity='7', first=0, last=2),))
    """
    words: list[str] = []
    marks = []
    end = 0
    for match in MARKED.finditer(line):
        words += tokenize(line[end : match.start()])
        named = tokenize(match[2])
        if named and match[1] != NOT_VISUAL:
            marks.append(Mark(match[1], len(words), len(words) + len(named)))
        words += named
        end = match.end()
    return (*words, *tokenize(line[end:])), tuple(marks)


def read_boxes(path: pathlib.Path) -> dict[str, tuple[Box, ...]]:
    """Read the boxes of each entity of an image, in 0..1.

    An entity with the flag `scene` or `nobndbox` has an empty tuple. Boxes with zero area are left
    out.

    Raises:
        UserError: The file is not XML, or lacks the image's size or a coordinate of a box.
    """
    return _read_annotations(path)[0]


def _read_annotations(path: pathlib.Path) -> tuple[dict[str, tuple[Box, ...]], Size]:
    """Read the boxes of each entity of an image, and the image's width and height."""
    boxes: dict[str, list[Box]] = {}
    try:
        root = xml.fromstring(read_text(path))
        width, height = (_number(root, f"size/{name}") for name in ("width", "height"))
        if width <= 0 or height <= 0:
            raise ValueError(f"a size of {width:g} x {height:g}")
        for thing in root.iter("object"):
            box = None
            if thing.find("bndbox") is not None:
                corners = [_number(thing, f"bndbox/{n}") for n in ("xmin", "ymin", "xmax", "ymax")]
                sides = (width, height, width, height)
                box = tuple(
                    min(max(c / side, 0.0), 1.0) for c, side in zip(corners, sides, strict=True)
                )
            flagged = any(
                thing.findtext(flag, "0").strip() == "1" for flag in ("scene", "nobndbox")
            )
            for name in thing.iter("name"):
                if box and box[0] < box[2] and box[1] < box[3]:
                    boxes.setdefault((name.text or "").strip(), []).append(box)
                elif flagged:
                    boxes.setdefault((name.text or "").strip(), [])
    except (xml.ParseError, ValueError) as error:
        raise UserError(
            f"{path.name}: expected boxes of Flickr30k Entities, received {error}; "
            "unpack the file again"
        ) from None
    return {entity: tuple(listed) for entity, listed in boxes.items()}, (width, height)


def _number(element: xml.Element, path: str) -> float:
    text = element.findtext(path)
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"{path} {clip(text)}") from None
