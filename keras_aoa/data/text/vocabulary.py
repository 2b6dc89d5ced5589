"""The vocabulary, which converts words to ids and back and is stored in a file."""

import hashlib
import json
import pathlib
from collections import Counter

from keras_aoa.data.text.tokenizer import join_words, tokenize
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import write_text

PAD, START, STOP, OOV = range(4)
SPECIAL = ("<pad>", "<start>", "<stop>", "<unk>")
FORMAT = 1


class Vocabulary:
    """The words of a captioner; a word's id is its index in `words`.

    Args:
        words: The known words, without the special words. No word occurs twice.

    Attributes:
        words: All words in the order of their ids, beginning with the four special words.
        digest: 12 hexadecimal digits that identify the vocabulary.

    Raises:
        UserError: An entry is not a single word or occurs twice.
    """

    def __init__(self, words):
        self.words = (*SPECIAL, *words)
        for word in self.words:
            if not isinstance(word, str) or word.split() != [word] or not _is_unicode(word):
                raise UserError(f"vocabulary: expected words without spaces, received {word!r}.")
        if len(set(self.words)) < len(self.words):
            repeated, _ = Counter(self.words).most_common(1)[0]
            raise UserError(f"vocabulary: expected each word once, received {repeated!r} twice.")
        # Special words have no entry, so that the text "<stop>" in a caption does not end it.
        self._ids = {word: word_id for word_id, word in enumerate(self.words) if word_id > OOV}
        self.digest = hashlib.sha256("\n".join(self.words).encode()).hexdigest()[:12]

    @classmethod
    def from_captions(cls, captions, minimum_count):
        """Build a vocabulary of the words that occur at least `minimum_count` times.

        The words are sorted by decreasing count, then alphabetically.
        """
        counts = Counter(word for caption in captions for word in tokenize(caption))
        common = (item for item in counts.items() if item[1] >= minimum_count)
        ranked = sorted(common, key=lambda item: (-item[1], item[0]))
        return cls([word for word, _ in ranked if word not in SPECIAL])

    def __len__(self):
        return len(self.words)

    def encode(self, caption, max_words):
        """Convert a caption to the ids of START, the caption's words, and STOP.

        A caption with more than `max_words` words is cut and has no STOP.
        """
        return self.encode_words(tokenize(caption), max_words)

    def encode_words(self, words, max_words):
        """Convert words to ids like `encode`, but from the output of `tokenize`."""
        ids = [self._ids.get(word, OOV) for word in words[:max_words]]
        # No STOP after a cut caption, so that the model does not learn to end there.
        return [START, *ids] if len(words) > max_words else [START, *ids, STOP]

    def decode(self, ids):
        """Convert the ids before the first STOP to a caption."""
        words = []
        for word_id in map(int, ids):
            if word_id == STOP:
                break
            if word_id not in (PAD, START):
                words.append(self.words[word_id])
        return join_words(words)

    def save(self, path):
        """Save the vocabulary as JSON, atomically."""
        content = {"format": FORMAT, "digest": self.digest, "words": self.words}
        write_text(path, json.dumps(content, ensure_ascii=False, indent=0))

    @classmethod
    def load(cls, path):
        """Load a vocabulary that `save` wrote.

        Raises:
            UserError: The file is missing, is not a vocabulary, has another format, or was edited.
        """
        remedy = "use the file of a run, or train again."
        try:
            content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot read it ({error.strerror}); {remedy}") from None
        except (ValueError, RecursionError):
            raise UserError(f"{path}: expected a vocabulary in JSON; {remedy}") from None
        if not isinstance(content, dict) or not isinstance(content.get("words"), list):
            raise UserError(f"{path}: expected a vocabulary with its 'words'; {remedy}")
        if content.get("format") != FORMAT:
            raise UserError(
                f"{path}: expected format {FORMAT}, received {content.get('format')!r}; {remedy}"
            )
        words = content["words"]
        if tuple(words[: len(SPECIAL)]) != SPECIAL:
            raise UserError(
                f"{path}: expected the words to begin with {', '.join(SPECIAL)}, "
                f"received {words[: len(SPECIAL)]!r}; {remedy}"
            )
        try:
            vocabulary = cls(words[len(SPECIAL) :])
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        if vocabulary.digest != content.get("digest"):
            raise UserError(f"{path}: its words were edited (the digest differs); {remedy}")
        return vocabulary


def _is_unicode(word):
    """Return whether a word is free of lone UTF-16 surrogates, which UTF-8 files cannot contain."""
    return not any("\ud800" <= letter <= "\udfff" for letter in word)
