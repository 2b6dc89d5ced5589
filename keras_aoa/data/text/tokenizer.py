"""Splits captions into words, like the tokenizer of the COCO metrics, but without Java.

The rules reproduce the observed output of Stanford's PTBTokenizer with pycocoevalcap's options.
Tokens are in lower case, and punctuation is dropped. The rules cover contractions, common
abbreviations, initials, numbers, hyphens, slashes, quotes and brackets (which become `-lrb-` and
`-rrb-`). For text that is rare in captions, tokens may differ from Stanford's: web and mail
addresses, #tags, @names, emoticons, foreign currencies, fraction signs, "no. 5", rare contractions
and abbreviations.

In scripts without spaces between words, such as Chinese and Thai, each character is a token. A
character and its combining marks are one token.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

# These abbreviations keep their period; others, such as "oz." and "Sat.", do not.
_TITLES = "Mr Mrs Ms Dr Prof Rev Gen Sgt Lt Col Capt Gov Sen Rep Jr Sr"
_COMPANIES = "Inc Co Corp Ltd Bros Dept Univ"
_PLACES = "St Ave Blvd Rd Sq Ct Bldg Mt Ft"
_MONTHS = "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
_WEEKDAYS = "Mon Tue Tues Wed Thu Thurs Fri"
_OTHERS = "etc vs"
# Case matters here: in lower case, some of these are ordinary words ("ill.", "wash.").
_STATES = (
    "Ala Ariz Ark Calif Colo Conn Del Fla Ga Ill Ind Kan Ky La Mass Md Mich Minn Miss Mo Mont Neb "
    "Nev Okla Ore Pa Penn Tenn Tex Va Vt Wash Wis Wyo"
)
_ANY_CASE = " ".join([_TITLES, _COMPANIES, _PLACES, _MONTHS, _WEEKDAYS, _OTHERS]).replace(" ", "|")

# In order: Thai, Lao and Tibetan; Myanmar; Tagalog to Tagbanwa and Khmer; Tai scripts; Tai Tham;
# Balinese and Batak; Myanmar and Javanese extensions.
_SYLLABLES = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f"
    "\u1bc0-\u1bff\ua980-\ua9ff\uaa60-\uaadf"
)
# Ideographs and their radicals, kana, Bopomofo, Yi, compatibility forms.
_IDEOGRAPHS = (
    "\u2e80-\u2fff\u3000-\u312f\u3190-\u4dbf\u4e00-\ua4cf\uf900-\ufaff\uff66-\uff9f"
    "\U00016fe0-\U00018dff\U0001aff0-\U0001b2ff\U00020000-\U0003ffff"
)
_SPACELESS = f"[{_SYLLABLES}{_IDEOGRAPHS}]"
_MARKS = "".join(
    chr(code)
    for code in (
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
        *range(0x300, 0x370),
        *range(0xE00, 0x1C00),
        *range(0x3099, 0x309B),
        *range(0xA980, 0xAAE0),
    )
    if unicodedata.category(chr(code))[0] == "M"
)
# The Khmer sign U+17D2 and the Myanmar virama U+1039 join the next consonant to the character.
_CHARACTER = rf"(?={_SPACELESS})\w(?:[{_MARKS}]|(?<=[\u17d2\u1039])\w)*"

_LETTER = rf"(?!{_SPACELESS})[^\W\d_]"
# \w does not match the combining marks of Indian scripts.
_WORD = rf"(?:(?!{_SPACELESS})[\w\u0300-\u036f\u0900-\u0dff])+"

_CONTRACTION = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))(?!\w)", re.IGNORECASE)
# The first alternative that matches is used; punctuation matches none and is dropped.
_TOKEN = re.compile(
    "|".join(
        [
            r"(?i:n't|'(?:s|m|d|re|ve|ll|em|til))(?!\w)",
            r"(?i:can(?=not(?!\w))|(?:gon|wan)(?=na(?!\w))|got(?=ta(?!\w)))",  # can not, gon na
            r"'n(?!\w)'?|(?<!\w)'\d\ds?(?!['\w])",  # rock 'n' roll, the '90s
            rf"{_LETTER}'{_WORD}",  # o'clock
            r"[A-Z]+(?:&[A-Z]+)+",  # AT&T, but "at & t"
            rf"(?:{_LETTER}\.)+(?!\w)",  # U.S., p.m., J. Smith
            rf"(?:(?i:{_ANY_CASE})|{_STATES.replace(' ', '|')})\.",
            rf"\d*(?:[.,:]\d+)+(?:-{_WORD})*",  # 1,000, .5, 7:30, 3.5-inch
            rf"{_WORD}(?:[-/]{_WORD}|\.(?!\d){_WORD})*",  # t-shirt, and/or, foo.com, end.The
            _CHARACTER,
            r"[!?]{2,}|</?\w+>",  # what?!, <b>
            # Signs such as &, $ and brackets. Control characters are dropped because they affect
            # terminals, and lone UTF-16 surrogates because files cannot contain them. Punctuation
            # of scripts without spaces is dropped like other punctuation.
            rf"(?!{_SPACELESS}|[\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65])"
            r"[^\w\s.,:;!?'\"`\u2013\u2014\u2018\u2019\u201c\u201d\u2026\0-\x1f\x7f-\x9f\ud800-\udfff-]",
        ]
    )
)
_SIGNS = {"&amp;": "&", "&quot;": '"', "&nbsp;": " ", "\u2019": "'"}
_NAMES = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def tokenize(caption: str) -> list[str]:
    """Return the words of a caption; any text is accepted."""
    tokens = [token for chunk in caption.split() for token in _tokens(chunk)]
    # A letter with a period is an initial, but not at the end of a caption: PTBTokenizer also reads
    # the next caption, which usually begins with "A", and concludes that the sentence ends.
    if tokens and len(tokens[-1]) == 2 and tokens[-1].endswith("."):
        tokens[-1] = tokens[-1][0]
    return tokens


def has_spaceless_script(text: str) -> bool:
    """Return whether a text has words in a script that has no spaces between words."""
    return not text.isascii() and re.search(rf"(?={_SPACELESS})\w", text) is not None


def join_words(words: Iterable[str]) -> str:
    """Join words with spaces, except between two words of scripts that do not use spaces."""
    text, before = "", False
    for word in words:
        spaceless = has_spaceless_script(word)
        text += word if not text or (spaceless and before) else f" {word}"
        before = spaceless
    return text


def separate_characters(text: str) -> str:
    """Put spaces around each character of scripts that have no spaces between words."""
    return text if text.isascii() else re.sub(f"({_CHARACTER})", r" \1 ", text)


@lru_cache(maxsize=2**16)  # Most chunks occur often.
def _tokens(chunk):
    for written, sign in _SIGNS.items():
        chunk = chunk.replace(written, sign)
    tokens = _TOKEN.findall(_CONTRACTION.sub(r" \1", chunk))
    return [_NAMES.get(token, token.lower()) for token in tokens]
