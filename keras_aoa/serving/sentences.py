"""Given sentences to words and ids, in the graph.

`keras_aoa.data.text.tokenizer` defines a word. RE2, which the graph has, has no look-around, so a
few rare texts are cut differently here: web addresses, times, dates, abbreviations in the middle.
"""

import tensorflow as tf

from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP

MOST_WORDS = 100  # of a sentence that are read

# Pattern and what takes its place, in turn; all is in lower case. "\x01" stands for a full stop
# that is part of its word, "\x02" for an apostrophe that begins one.
_RULES = (
    (r"&amp;", "&"),
    (r"&quot;", '"'),
    (r"&nbsp;|[\x01\x02]", " "),
    (r"[\x{2018}\x{2019}]", "'"),
    (r"([\pL\pN_])n't($|[^\pL\pN_])", r"\1 n't \2"),
    (r"'(s|m|d|re|ve|ll)($|[^\pL\pN_])", " \x02\\1 \\2"),
    (r"\b(can)(not)\b", r"\1 \2"),
    (r"\b(gon|wan)(na)\b", r"\1 \2"),
    (r"\b(got)(ta)\b", r"\1 \2"),
    (r"\b(mr|mrs|ms|dr|prof|jr|sr|st|ave|blvd|mt|ft|etc|vs)\.", "\\1\x01"),
    (r"\b((?:[a-z]\.)+[a-z])\.", "\\1\x01"),
    (r"([#$%*+=<>@^|~]|\B&|&\B)", r" \1 "),
    # Signs of punctuation go, but for those inside of words and numbers.
    (r"[\x22`;!?\x{201c}\x{201d}\x{2013}\x{2014}\x{2026}]|--+|\.\.+", " "),
    (r"([^\pN\s])[,:]", r"\1 "),
    (r"[,:]([^\pN]|$)", r" \1"),
    (r"[.,:'/-]+(\s|[()\[\]]|$)", r" \1"),
    (r"(\s|[()\[\]]|^)[./'-]+(\pL|\s|[()\[\]]|$)", r"\1 \2"),
    (r"\(", " -lrb- "),
    (r"\)", " -rrb- "),
    (r"\[", " -lsb- "),
    (r"\]", " -rsb- "),
    (r"\x01", "."),
    (r"\x02", "'"),
)


class SentenceReader(tf.Module):
    """Sentences as a vocabulary's words.

    Args:
        words: Every word by id.
    """

    def __init__(self, words):
        super().__init__()
        initial = tf.lookup.KeyValueTensorInitializer(
            tf.constant(words[OOV + 1 :]), tf.range(OOV + 1, len(words), dtype=tf.int64)
        )
        # Held here, so that it is saved and loaded with the module.
        self.ids = tf.lookup.StaticHashTable(initial, OOV)

    def __call__(self, sentences):
        """Ids from START on, then PAD, of sentences `(…)`, strings: `(…, t + 2)`, int32.

        One longer than `MOST_WORDS` is cut there and has no STOP.
        """
        flat = tf.reshape(sentences, [-1])
        words = tf.strings.split(spaced(flat))
        lengths = words.row_lengths()
        words = words[:, :MOST_WORDS].to_tensor("")
        width = tf.shape(words)[1]
        ids = tf.cast(self.ids.lookup(words), tf.int32)
        ids = tf.pad(ids, [[0, 0], [1, 1]], constant_values=START)
        # A sentence's words are at 1, 2, ..., its STOP follows; of a longer one there is none.
        place = tf.range(width + 2, dtype=tf.int64)
        is_end = (place == lengths[:, None] + 1) & (lengths[:, None] <= MOST_WORDS)
        is_padding = place > tf.minimum(lengths, MOST_WORDS)[:, None]
        ids = tf.where(is_end, STOP, tf.where(is_padding, PAD, ids))
        return tf.reshape(ids, tf.concat([tf.shape(sentences), [width + 2]], 0))


def spaced(sentences):
    """Sentences in lower case with a space between all words, and none of the punctuation."""
    text = tf.strings.lower(sentences, encoding="utf-8")
    for pattern, instead in _RULES:
        text = tf.strings.regex_replace(text, pattern, instead)
    return text
