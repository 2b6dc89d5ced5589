"""Splits captions into words, like the tokenizer of the COCO metrics, but without Java.

The rules reproduce the observed output of Stanford's PTBTokenizer as pycocoevalcap runs it on
captions: tokens in lower case, without punctuation. They cover contractions, common abbreviations,
initials, numbers, hyphens, slashes, quotes and brackets (which become `-lrb-` and `-rrb-`). Tokens
may differ from Stanford's for text that is rare in captions: web and mail addresses, #tags,
@names, emoticons, foreign currencies, fraction signs, "no. 5", rare contractions and abbreviations.
"""

import re
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

_LETTER = r"[^\W\d_]"
# \w lacks the combining marks of Indian and Thai scripts.
_WORD = r"[\w\u0300-\u036f\u0900-\u0eff]+"

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
            r"[!?]{2,}|</?\w+>",  # what?!, <b>
            # &, $ and brackets, but no control characters, which terminals obey, and no lone UTF-16
            # surrogates, which files cannot hold.
            r"[^\w\s.,:;!?'\"`\u2013\u2014\u2018\u2019\u201c\u201d\u2026\0-\x1f\x7f-\x9f\ud800-\udfff-]",
        ]
    )
)
_SIGNS = {"&amp;": "&", "&quot;": '"', "&nbsp;": " ", "\u2019": "'"}
_NAMES = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def tokenize(caption: str) -> list[str]:
    """Return the words of a caption; any text is accepted."""
    tokens = [token for chunk in caption.split() for token in _tokens(chunk)]
    # A letter with a period is an initial, except at the end of a caption: PTBTokenizer reads on
    # into the next caption, which usually begins with "A", and detects the end of a sentence.
    if tokens and len(tokens[-1]) == 2 and tokens[-1].endswith("."):
        tokens[-1] = tokens[-1][0]
    return tokens


@lru_cache(maxsize=2**16)  # Most chunks are frequent.
def _tokens(chunk):
    for written, sign in _SIGNS.items():
        chunk = chunk.replace(written, sign)
    tokens = _TOKEN.findall(_CONTRACTION.sub(r" \1", chunk))
    return [_NAMES.get(token, token.lower()) for token in tokens]
