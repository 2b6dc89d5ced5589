"""Tokenizes sentences inside the graph, for exported models.

The words equal the words of `keras_aoa.data.text.tokenizer`, except in a few rare texts: web
addresses, times, dates, and abbreviations within a sentence. TensorFlow's regular expressions (RE2)
have no look-around and split some rare texts differently.
"""

import tensorflow as tf

from keras_aoa.data.text.vocabulary import OOV, PAD, START, STOP

MAX_WORDS = 100  # per sentence

# Patterns and replacements, applied in order to lower-case text. "\x01" marks a full stop that
# belongs to a word. "\x02" marks an apostrophe that begins a word.
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
    # Remove punctuation, except inside words and numbers.
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
    """Converts sentences to the word ids of a vocabulary.

    Args:
        words: All words of the vocabulary, in the order of their ids.
    """

    def __init__(self, words):
        super().__init__()
        initial = tf.lookup.KeyValueTensorInitializer(
            tf.constant(words[OOV + 1 :]), tf.range(OOV + 1, len(words), dtype=tf.int64)
        )
        # The table must be an attribute of the module, so that it is saved and loaded.
        self.ids = tf.lookup.StaticHashTable(initial, OOV)

    def __call__(self, sentences):
        """Convert sentences to ids: START, the words, STOP, then PAD.

        A sentence of more than `MAX_WORDS` words is truncated and has no STOP.

        Args:
            sentences: Strings, of any shape `(…)`.

        Returns:
            Int32 ids `(…, t + 2)`, where t is the number of words in the longest sentence.
        """
        flat = tf.reshape(sentences, [-1])
        words = tf.strings.split(separate_words(flat))
        lengths = words.row_lengths()
        words = words[:, :MAX_WORDS].to_tensor("")
        width = tf.shape(words)[1]
        ids = tf.cast(self.ids.lookup(words), tf.int32)
        ids = tf.pad(ids, [[0, 0], [1, 1]], constant_values=START)
        # START is at position 0, the words follow, then STOP unless the sentence was truncated.
        position = tf.range(width + 2, dtype=tf.int64)
        is_end = (position == lengths[:, None] + 1) & (lengths[:, None] <= MAX_WORDS)
        is_padding = position > tf.minimum(lengths, MAX_WORDS)[:, None]
        ids = tf.where(is_end, STOP, tf.where(is_padding, PAD, ids))
        return tf.reshape(ids, tf.concat([tf.shape(sentences), [width + 2]], 0))


def separate_words(sentences):
    """Lower-case sentences, remove punctuation, and separate all words by spaces."""
    text = tf.strings.lower(sentences, encoding="utf-8")
    for pattern, replacement in _RULES:
        text = tf.strings.regex_replace(text, pattern, replacement)
    return text
