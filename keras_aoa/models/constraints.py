"""Constraints of a search: which words may follow at each step.

Letters in shapes: n image, k beam, t time step, w vocabulary word.
"""

from typing import NamedTuple

from keras import ops

from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP
from keras_aoa.models.choices import IMPOSSIBLE, Sampling
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import closest


class Constraints(NamedTuple):
    """Which captions a search may generate.

    A caption has at least `min_words` words. A caption contains no n-gram of `no_repeat` words
    twice; 0 allows repetitions. A caption begins with the word ids `prefix`, and contains none of
    the word ids `avoid` after the prefix.
    """

    min_words: int = 0
    no_repeat: int = 0
    prefix: tuple[int, ...] = ()
    avoid: tuple[int, ...] = ()


def search_arguments(settings, vocabulary):
    """Convert the search settings that `SearchSettings.of` returns to arguments of `search`.

    Args:
        settings: Dictionary of settings, in which `stride` and `proposals` are ignored.
        vocabulary: `Vocabulary`, which converts `prefix` and `avoid` to ids.

    Raises:
        UserError: `prefix` contains an unknown word or is too long, or `avoid` contains an entry
            that is not a single word.
    """
    settings = {name: settings[name] for name in settings if name not in ("stride", "proposals")}
    limits = {name: settings.pop(name, 0) for name in ("min_words", "no_repeat")}
    prefix = prefix_ids(settings.pop("prefix", ""), settings["max_words"], vocabulary)
    avoid = avoided_ids(settings.pop("avoid", ()), vocabulary)
    options = {name: settings.pop(name) for name in Sampling._fields if name in settings}
    if settings.pop("sample", False):
        settings["sampling"] = Sampling(**options)
    return {**settings, "constraints": Constraints(**limits, prefix=prefix, avoid=avoid)}


def prefix_ids(prefix, max_words, vocabulary):
    """Return the word ids of a caption's given beginning."""
    words = tokenize(prefix)
    if len(words) >= max_words:
        raise UserError(
            f"prefix: expected fewer than {max_words} words (max_words), received {len(words)}; "
            "shorten it."
        )
    _, *ids, _ = vocabulary.encode_words(words, max_words)
    for word, word_id in zip(words, ids, strict=True):
        if word_id == OOV:
            known = vocabulary.words[OOV + 1 :]
            raise UserError(
                f"prefix: expected words that the captioner knows, received {word!r}. "
                f"{closest(word, known)}"
            )
    return tuple(ids)


def avoided_ids(avoid, vocabulary):
    """Return the ids of the words in `avoid` that the captioner knows."""
    ids = []
    for entry in avoid:
        words = tokenize(entry)
        if len(words) != 1:
            raise UserError(f"avoid: expected single words, received {entry!r}; separate them.")
        ids.append(vocabulary.encode_words(words, 1)[1])
    return tuple(word_id for word_id in ids if word_id != OOV)


def restriction(constraints, words):
    """Return a function that sets the log-probabilities of forbidden words to -inf.

    The function's arguments are the step, the ids `(n, k, t)` of the words so far, and log p(w)
    `(n, k, w)` of the next word. PAD, START and OOV are always forbidden.
    """
    forbidden = {PAD, START, OOV, *constraints.avoid}
    never = [IMPOSSIBLE if word in forbidden else 0.0 for word in range(words)]
    only_words = ops.convert_to_tensor(never, dtype="float32")
    is_stop = ops.arange(words) == STOP
    prefix = constraints.prefix

    def restrict(step, ids, log_probs):
        allowed = log_probs + only_words
        if constraints.min_words:
            too_early = ops.logical_and(step < constraints.min_words, is_stop)
            allowed = ops.where(too_early, IMPOSSIBLE, allowed)
        if constraints.no_repeat:
            repeated = repeating_words(ids, step, constraints.no_repeat, words)
            allowed = ops.where(repeated, IMPOSSIBLE, allowed)
        if prefix:
            given = ops.take(ops.convert_to_tensor(prefix), ops.minimum(step, len(prefix) - 1))
            only_given = ops.where(ops.arange(words) == given, log_probs, IMPOSSIBLE)
            allowed = ops.where(step < len(prefix), only_given, allowed)
        return allowed

    return restrict


def repeating_words(ids, step, size, words):
    """Return which next words would repeat an n-gram of `size` words, as booleans `(n, k, w)`.

    Args:
        ids: Word ids `(n, k, t)`, of which the first `step` are known.
        step: Scalar.
        size: Number of words in an n-gram.
        words: Number of words in the vocabulary.
    """
    images, beam, time = ops.shape(ids)
    places = ops.arange(time)
    # Place p ends a known n-gram if the words before p equal the last words of the caption.
    matches = ops.logical_and(places >= size - 1, places < step)
    for back in range(1, size):
        last = ops.take(ids, ops.maximum(step - back, 0), axis=2)
        earlier = ops.take(ids, ops.maximum(places - back, 0), axis=2)
        matches = ops.logical_and(matches, earlier == last[:, :, None])
    matches = ops.broadcast_to(matches, ops.shape(ids))
    rows = ops.broadcast_to(ops.arange(images * beam)[:, None], (images * beam, time))
    flat = ops.stack([ops.reshape(rows, (-1,)), ops.reshape(ids, (-1,))], axis=1)
    counts = ops.scatter(
        flat, ops.cast(ops.reshape(matches, (-1,)), "float32"), (images * beam, words)
    )
    return ops.reshape(counts > 0, (images, beam, words))
