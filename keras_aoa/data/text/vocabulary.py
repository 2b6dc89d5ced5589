"""Words to ids and back, and the file that keeps them."""

import hashlib
import json
import pathlib
from collections import Counter

from keras_aoa.data.text.tokenizer import tokenize
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import write_text

PAD, START, STOP, OOV = range(4)
SPECIAL = ("<pad>", "<start>", "<stop>", "<unk>")
FORMAT = 1


class Vocabulary:
    """The words a captioner knows. A word's id is its place in `words`.

    Args:
        words: The known words, without the special ones, each once.

    Attributes:
        words: Every word by id, the four special ones first.
        digest: 12 hexadecimal digits that tell this vocabulary from another.

    Raises:
        UserError: A word that is no word, or comes twice.
    """

    def __init__(self, words):
        self.words = (*SPECIAL, *words)
        for word in self.words:
            if not isinstance(word, str) or word.split() != [word] or not _is_unicode(word):
                raise UserError(f"vocabulary: expected words without spaces, received {word!r}.")
        if len(set(self.words)) < len(self.words):
            twice, _ = Counter(self.words).most_common(1)[0]
            raise UserError(f"vocabulary: expected each word once, received {twice!r} twice.")
        # A caption that says "<stop>" does not end there: special words cannot be written.
        self._ids = {word: place for place, word in enumerate(self.words) if place > OOV}
        self.digest = hashlib.sha256("\n".join(self.words).encode()).hexdigest()[:12]

    @classmethod
    def from_captions(cls, captions, minimum_count):
        """Words that occur `minimum_count` times or more: the commonest first, then by alphabet."""
        counts = Counter(word for caption in captions for word in tokenize(caption))
        common = (item for item in counts.items() if item[1] >= minimum_count)
        ranked = sorted(common, key=lambda item: (-item[1], item[0]))
        return cls([word for word, _ in ranked if word not in SPECIAL])

    def __len__(self):
        return len(self.words)

    def encode(self, caption, max_words):
        """Ids of a caption: START, its words, STOP; of a longer one the first words, no STOP."""
        return self.encode_words(tokenize(caption), max_words)

    def encode_words(self, words, max_words):
        """As `encode`, of a caption's tokens."""
        ids = [self._ids.get(word, OOV) for word in words[:max_words]]
        # A caption that was cut does not end there, and must not teach that it does.
        return [START, *ids] if len(words) > max_words else [START, *ids, STOP]

    def decode(self, ids):
        """The caption that `ids` say, up to STOP."""
        words = []
        for word_id in map(int, ids):
            if word_id == STOP:
                break
            if word_id not in (PAD, START):
                words.append(self.words[word_id])
        return " ".join(words)

    def save(self, path):
        """Writes the vocabulary as json; a run that breaks off leaves no half file."""
        content = {"format": FORMAT, "digest": self.digest, "words": self.words}
        write_text(path, json.dumps(content, ensure_ascii=False, indent=0))

    @classmethod
    def load(cls, path):
        """The vocabulary that `save` wrote.

        Raises:
            UserError: No such file, no vocabulary, of another format, or edited by hand.
        """
        remedy = "take the file of a run, or train again."
        try:
            content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot read it ({error.strerror}); {remedy}") from None
        except (ValueError, RecursionError):
            raise UserError(f"{path}: expected a vocabulary in json; {remedy}") from None
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
    """Whether a word can be written to a file: json may hold halves of pairs of UTF-16."""
    return not any("\ud800" <= letter <= "\udfff" for letter in word)
