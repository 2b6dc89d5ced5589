"""Generates varied English captions of a scene, which mention prominent objects first."""

import random

from keras_aoa.data.scenes import words
from keras_aoa.data.scenes.layout import Scene, Thing

FEWEST_WORDS, MOST_WORDS = 8, 16
Piece = str | tuple[int, str]  # words, or (index of an object, noun phrase that names it)


def _pick(choice: words.Choice, rng: random.Random) -> str:
    return rng.choices(list(choice), list(choice.values()))[0]


def _color_words(thing: Thing) -> words.Choice:
    return words.COLOR_WORDS.get(thing.color, {thing.color: 1})


def nouns(thing: Thing) -> frozenset[str]:
    """Return all words that may name an object."""
    return frozenset(words.NOUNS[thing.shape])


def adjectives(thing: Thing) -> frozenset[str]:
    """Return all words that may describe an object."""
    return frozenset(
        _color_words(thing) | words.SIZE_WORDS[thing.size] | words.TEXTURE_WORDS[thing.texture]
    )


def _noun_phrase(thing: Thing, scene: Scene, rng: random.Random, short: bool = False) -> str:
    is_only_one = sum(other.shape == thing.shape for other in scene.things) == 1
    phrase = []
    if thing.size != "medium" and rng.random() < (0.2 if short else 0.6):
        phrase.append(_pick(words.SIZE_WORDS[thing.size], rng))
    if rng.random() < 0.95 or not is_only_one:
        phrase.append(_pick(_color_words(thing), rng))
    if thing.texture != "plain" and rng.random() < (0.5 if short else 0.8):
        phrase.append(_pick(words.TEXTURE_WORDS[thing.texture], rng))
    phrase.append(_pick(words.NOUNS[thing.shape], rng))
    return f"{'an' if phrase[0][0] in 'aeiou' else 'a'} {' '.join(phrase)}"


def _position(thing: Thing, rng: random.Random) -> str:
    """Describe an object's position in the picture; return "" if no words fit well."""
    x, y = (thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2
    across = "left" if x < 0.34 else "right" if x > 0.66 else "middle"
    down = "top" if y < 0.34 else "bottom" if y > 0.66 else "middle"
    positions = words.POSITIONS.get((across, down))
    return _pick(positions, rng) if positions else ""


def _background(
    scene: Scene, textured: dict[str, words.Choice], tint: words.Choice, rng: random.Random
) -> str:
    return _pick(textured.get(scene.background, tint), rng).format(tint=scene.background)


def _sentence(scene: Scene, rng: random.Random) -> list[Piece]:
    longer = rng.random() < 0.35  # mention a third object and its position

    def mention(index: int) -> Piece:
        return index, _noun_phrase(scene.things[index], scene, rng, short=longer)

    opening = _pick(words.OPENINGS, rng)
    location = _background(scene, words.PLACES, words.ON_TINT, rng)
    third = 2 if rng.random() < 0.85 else rng.randrange(2, len(scene.things))

    form = rng.random()
    if form < 0.06:
        count = f"{words.NUMBERS[len(scene.things)]} {_pick(words.THINGS, rng)}"
        return [count, location, "including", mention(0), "and", mention(1)]
    if form < 0.16:
        return [opening, mention(0), ",", mention(1), "and", mention(third), location]

    one, relation = scene.first, scene.relation
    with_form = form < 0.3  # "a ring with a star inside it"
    # For the relations "left" and "above", captions usually mention the larger object first. For
    # other relations, the usual order is as in "a ball inside a ring".
    larger_is_second = (one == 0) == with_form
    swapped = relation in ("left", "above") and larger_is_second
    if swapped != (rng.random() < 0.2):
        one, relation = 1 - one, words.CONVERSE[relation]
    verb = not with_form and opening == "" and rng.random() < 0.5
    if with_form:
        core = [mention(1 - one), "with", mention(one), _pick(words.BESIDE_IT[relation], rng)]
    else:
        core = [mention(one), _pick(words.BETWEEN[relation], rng), mention(1 - one)]
    if verb:
        core.insert(1, _pick(words.VERBS[relation], rng))

    if longer:
        joint = ", with" if verb else "and"
        return [*core, joint, mention(third), _position(scene.things[third], rng)]
    if not verb and rng.random() < 0.3:
        if with_form or rng.random() < 0.5:
            return [location, "there is", *core]
        return [_background(scene, words.VIEWS, words.TINTED_VIEW, rng), "with", *core]
    return [opening, *core, location if rng.random() < 0.6 else ""]


def _spelled(sentence: list[Piece]) -> tuple[str, list[tuple[int, int, int]]]:
    """Return the caption and its phrases.

    A phrase is `(object index, first word, last word + 1)`.
    """
    texts, phrases, count = [], [], 0
    for piece in sentence:
        index, text = piece if isinstance(piece, tuple) else (None, piece)
        length = len(text.replace(",", "").split())
        if index is not None:
            phrases.append((index, count, count + length))
        count += length
        texts.append(text)
    caption = " ".join(" ".join(texts).split()).replace(" ,", ",")
    return f"{caption[0].upper()}{caption[1:]}.", phrases


def describe(
    scene: Scene, count: int, rng: random.Random
) -> list[tuple[str, list[tuple[int, int, int]]]]:
    """Generate distinct captions of a scene.

    Args:
        scene: The scene.
        count: Number of captions.
        rng: Source of all random choices.

    Returns:
        For each caption, the text and the phrases. A phrase is
        `(object index, first word, last word + 1)`.
    """
    captions: dict[str, list[tuple[int, int, int]]] = {}
    while len(captions) < count:
        caption, phrases = _spelled(_sentence(scene, rng))
        if FEWEST_WORDS <= len(caption.split()) <= MOST_WORDS:
            captions[caption] = phrases
    return list(captions.items())
