"""Captions to words: the Penn Treebank tokens that the COCO metrics count, in plain Python.

Gives what Stanford's PTBTokenizer 3.4.1 gives as pycocoevalcap runs it: lower case, punctuation
dropped. Brackets stay, as `-lrb-` and `-rrb-`: pycocoevalcap drops only the upper case forms.
"""

import re
from functools import lru_cache

_ENTITIES = {
    "&amp;": "&",
    "&apos;": "'",
    "&quot;": '"',
    "&nbsp;": " ",
    "&mdash;": "--",
    "&ndash;": "--",
}
_DROPPED = frozenset(["'", "''", "--", "---", "----", "...", "....", "....."])
_NAMES = (
    {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
    | {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "&lt;": "<", "&gt;": ">"}
    | {"¢": "cents", "£": "#", "€": "$", "¤": "$", "\x80": "$", "\u20a0": "$"}
)
_ROUND_BRACKETS = str.maketrans({"(": "-lrb-", ")": "-rrb-"})  # inside a smiley or a number
_STRAIGHT_QUOTES = str.maketrans("\u2019\x92\u2018\u201b\x91", "''```")

# Python's \w has numerals such as ½ and lacks the marks that some scripts combine with letters.
_NUMERALS = r"²³¹¼-¾\u2070-\u208e\u2150-\u218b\u2460-\u24ff\u3220-\u32bf"
_LETTER = (
    rf"(?:[^\W\d_{_NUMERALS}]|[\u02c2-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065e"
    r"\u06d6-\u06ed\u0900-\u0963\u0970-\u0d48\u0e31-\u0e4e\u0eb1-\u0ecd]"
    r"|&[aeiou](?:acute|grave|uml);)"
)
_ALNUM = rf"[^\W_{_NUMERALS}]"
_LETTERS = rf"{_LETTER}(?:{_LETTER}|\d)*"
_WORD = rf"{_LETTERS}(?:[.!?]{_LETTERS})*"
_NUMBER = r"(?:\d*(?:[.:,]\d+)+|\d+)"
_QUOTE = r"['\u2019\x92]"
_INNER_QUOTE = r"['`\u2019\u2018\u201b\x91\x92]"
_CLITIC = rf"{_QUOTE}(?:[msd]|re|ve|ll)"
_PART = rf"(?:[dol]{_INNER_QUOTE}{_ALNUM})?{_ALNUM}+"  # d'Avignon
_JOINED = rf"{_PART}(?:[-_\u058a\u2010\u2011]{_PART})*"
_ACRONYM = r"[a-z](?:\.[a-z])+"
_HYPHENATED = rf"[a-z0-9][a-z0-9.,]*(?:-(?:{_ACRONYM}\.|[a-z0-9]+))+"
_PATH = r"[^\s\"<>|()]+[^\s\"<>|.!?(){},-]"
_ABBREVIATION = (
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu(?:rs)?|fri"
    r"|ala|ariz|(?-i:A)rk|calif|colo|conn|dak|del|fla|ga|(?-i:I)ll|ind|kans?|ky|la|(?-i:M)ass|md"
    r"|mich|minn|(?-i:M)iss|mo|mont|neb|nev|okla|(?-i:O)re|pa|penn|tenn|tex|va|vt|(?-i:W)ash"
    r"|wisc?|wyo|inc|cos?|corp|pp?tys?|ltd|plc|bancorp|dept|bhd|assn|univ|intl|sys|(?:ed|ph)\.d|ph"
    r"|tel|est|ext|sq|ft|jr|sr|bros|blvd|rd|esq|etc|al|seq|mr|mrs|ms|drs?|profs?|sens?|reps?"
    r"|attys?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|cpl|pvt|mt|capt|ste?|ave|pres|lieut|hon|brig"
    r"|co?mdr|pfc|spc|supts?|det|vs|alex|wm|jos|cie|cf|treas|invt|elec|natl|m[ft]g"
)
_SENTENCE_START = r"(?-i:An?|As|At|He|Her|In|It|One|Our|She|Some|The|There|They|This|We|You)"

# At each place the longest match wins, the first of equals; what follows a group counts in the
# length but is read again. A character that nothing matches is dropped.
_KINDS = (
    r"(can)not|(gon|wan)na|(got)ta|(lem|gim)me|('t)(?:is|was)",
    rf"({_WORD}){_CLITIC}",
    rf"([a-z]*[a-mo-z])n{_INNER_QUOTE}t|n{_INNER_QUOTE}t|({_CLITIC})(?:[^a-z]|$)",
    _WORD,
    # Words that begin or end with an apostrophe or hold one.
    rf"{_QUOTE}(?:n{_QUOTE}?|em|till?|cause|[2-9]0s)|(?:[ldj]|ol|dunkin|somethin){_QUOTE}",
    rf"(y{_QUOTE}){_LETTER}|({_QUOTE}\d\d)(?:\s|$)",
    rf"(?-i:[A-HJ-XZn]){_INNER_QUOTE}{_LETTER}{{2,}}",
    rf"{_LETTER}+[aeiouy]{_INNER_QUOTE}(?-i:[aeiouA-Z]){_LETTER}*",
    rf"cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|cap{_QUOTE}n|c{_QUOTE}est",
    # Abbreviations keep their full stop; so does a single letter, but not to end a sentence.
    rf"(?:{_ACRONYM}|{_ABBREVIATION})\.|({_ACRONYM})(?:\s|$)",
    rf"[a-z]\.(?! ?$| {_SENTENCE_START} )",
    rf"((?:nos?|prop)\.) ?\d|((?:{_WORD}|{_JOINED}|{_HYPHENATED})\.)[,;:]",
    # Hyphens, strokes and other joints.
    _JOINED,
    _HYPHENATED,
    r"[a-z0-9]+(?:-[a-z]+){0,2}(?:\\?/[a-z0-9]+(?:-[a-z]+){0,2}){1,2}",
    r"(?-i:[A-Z]+(?:[+&][A-Z]+)+)|pro-|anti-|c\+\+|[cf]#",
    # Numbers: with sign and separators, fractions, area codes, raised and lowered.
    rf"[-+]?{_NUMBER}",
    r"(?:\d{1,4}-)?\d{1,4}(?:\\?/|\u2044)\d{1,4}",
    r"\(\d{2,3}\) ?\d{3,4}[- ]?\d{3,5}",
    r"[\u207a\u207b\u208a\u208b]?(?:[⁰¹²³\u2074-\u2079]+|[\u2080-\u2089]+)",
    # Addresses, tags, marked-up text. In the host's name `,-_` is a range.
    rf"https?://{_PATH}",
    r"(?:www\.(?:[^\s\"<>|.!?(){},]+\.)+[a-z]{2,4}"
    rf"|(?:[^\s\"'`<>|!?(){{}},-_$]+\.)+(?:com|net|org|edu))(?:/{_PATH})?",
    r"[a-z0-9][^\s\"<>|()]*@(?:[^\s\"<>|().]+\.)*[^\s\"<>|().]+",
    rf"@[a-z_]\w*|#{_LETTER}+|&#\d+;",
    r"<(?:[!?][a-z-][^>\r\n]*|/?[a-z][\w:.-]*"
    r"(?: +[a-z][\w:.-]*(?: *= *(?:'[^']*'|\"[^\"]*\"|\w+))?)* */?) *>",
    # Signs; an opening quote has the first claim on what follows it.
    r"(')[a-z]\S|''|-{2,4}|\.{3,5}",
    _CLITIC,
    r"([<>]?[:;=][-o*']?(?:[()\\{@|[\]]|(?-i:[DPdpO])))(?:[^a-z0-9]|$)",
    r"(?-i:[A-Z]*)\$|#+|@+|_+|\*+|[?!]{2,}|-{5,}|<<|>>|&[lg]t;",
    rf"[][(){{}}<>+%&~^|\\=/\x80\xa1-\xa9\xac\xae-\xba\xbf\xd7\xf7{_NUMERALS}\u201a\u201e-\u2023"
    r"\u2030-\u2038\u203b-\u2044\u20a0-\u20ac\u2100-\u2bff\u3001-\u3012\u30fb\uff01-\uff65]",
)
_KINDS = tuple(re.compile(kind, re.IGNORECASE) for kind in _KINDS)
_CLITIC_TOKEN = re.compile(rf"n{_INNER_QUOTE}t|{_CLITIC}", re.IGNORECASE)
# Only these make a token depend on what stands beyond the next space.
_WIDE = re.compile(r"[<(]|\b(?:[a-z]|nos?|prop)\.(?:\s|$)", re.IGNORECASE)


def tokenize(caption: str) -> list[str]:
    """Lower-case Penn Treebank tokens of a caption, punctuation dropped.

    Any text is accepted; no token holds white space. Source: the rules of Stanford's PTBTokenizer,
    written anew and compared with it in `tests/test_tokenizer.py`.
    """
    caption = caption.replace("\xad", "")  # soft hyphen
    if "&" in caption:
        for entity, character in _ENTITIES.items():
            caption = caption.replace(entity, character)
    if _WIDE.search(caption):
        return _tokens(" ".join(caption.split()))
    return [token for chunk in caption.split() for token in _chunk_tokens(chunk)]


def _tokens(text):
    tokens = []
    place = 0
    while place < len(text):
        matches = filter(None, (kind.match(text, place) for kind in _KINDS))
        match = max(matches, key=re.Match.end, default=None)
        if match is None:
            place += 1
        else:
            group = match.lastindex or 0
            tokens += _spell(match[group]).split()
            place = match.end(group)
    return tokens


_chunk_tokens = lru_cache(maxsize=1 << 16)(_tokens)


def _spell(token):
    if token in _DROPPED:
        return ""
    if _CLITIC_TOKEN.fullmatch(token):
        token = token.translate(_STRAIGHT_QUOTES)
    return _NAMES.get(token, token.translate(_ROUND_BRACKETS)).lower()
