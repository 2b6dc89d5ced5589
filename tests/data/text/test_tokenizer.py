"""Tests of the tokenizer: hard cases, arbitrary text, and comparison with Stanford's."""

import gzip
import json
import shutil
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_aoa.data.text.tokenizer import join_words, tokenize
from keras_aoa.evaluation.java import ptb_tokens

# Output of Stanford's PTBTokenizer 3.4.1, as run by pycocoevalcap.
HARD_CASES = {
    "A man's dog doesn't run.": "a man 's dog does n't run",
    "The DOG'S bowl isn\u2019t full": "the dog 's bowl is n't full",
    "They're here; we've won, she'll see, I'm 'it'": "they 're here we 've won she 'll see i 'm it",
    "can't he'd A bird's-eye man's/woman's": "ca n't he 'd a bird 's eye man 's / woman 's",
    "cannot gonna Wanna gotta cannots": "can not gon na wan na got ta cannots",
    "the dogs' day, rock 'n' roll, goin' 'til": "the dogs day rock 'n' roll goin 'til",
    "in the '90s, 1990's '93'": "in the '90s 1990 's 93",
    "o'clock O'Neil d'oeuvres L'Oreal's": "o'clock o'neil d'oeuvres l'oreal 's",
    "Mr. Smith of St. Louis, U.S.A. (Inc.)": "mr. smith of st. louis u.s.a. -lrb- inc. -rrb-",
    "at 5 p.m. on Oct. 3rd etc.": "at 5 p.m. on oct. 3rd etc.",
    "Sen. Ill. Wash. D.C. ill. wash. may.": "sen. ill. wash. d.c. ill wash may",
    "Main st. vs. 6 ft. 5 oz. Sat. Fri.": "main st. vs. 6 ft. 5 oz sat fri.",
    "J. Smith, J.K. Rowling hold the letter P.": "j. smith j.k. rowling hold the letter p",
    # Comes after a final letter "P.": the "A" shows PTBTokenizer that it is not an initial.
    "A black-and-white t-shirt - X-ray -- now": "a black-and-white t-shirt x-ray now",
    "a 3.5-inch, 9-year-old AK-47": "a 3.5-inch 9-year-old ak-47",
    "1,000 people, $5.00 at 7:30pm, 50% off #1": "1,000 people $ 5.00 at 7:30 pm 50 % off # 1",
    "1/2 of 09-09-2007 and/or 3 1/2 b/w w/": "1/2 of 09-09-2007 and/or 3 1/2 b/w w /",
    "6'2\" tall, 4x4, 2nd, 10am .99 :11 8+": "6 2 tall 4x4 2nd 10am .99 :11 8 +",
    "12/25/10 5-1/2 555-1234": "12/25/10 5-1/2 555-1234",
    "a 'Native American' 'Reduce Speed' B'Gosh": "a native american reduce speed b'gosh",
    "A&M a&m, R&amp;B, AT&T's &nbsp; Q & A": "a&m a & m r&b at&t 's q & a",
    "\"White out\" ``said'' \u201che\u201d \u2018now\u2019": "white out said he now",
    "Stop... what?! no!! a...b, etc..": "stop what ?! no !! a. b etc.",
    "[red] {x} man(s) a=b *": "-lsb- red -rsb- -lcb- x -rcb- man -lrb- s -rrb- a = b *",
    "<b>bold</b> < 3": "<b> bold </b> < 3",
    "see foo.com or www.foo.co.uk": "see foo.com or www.foo.co.uk",
    "end.The road.an end of,it a:b a;b": "end.the road.an end of it a b a b",
    "café, naïve; 5° • हिन्दी": "café naïve 5 ° • हिन्दी",
    "snow_board _ a_b": "snow_board _ a_b",
    "A dog.\nA\u2028cat\r\n\truns .": "a dog a cat runs",
    "grey colour": "grey colour",
    " .,;:?-'\"` ": "",
    "": "",
}


# PTBTokenizer does not cut these.
SPACELESS_CASES = {
    "一只狗跑0米\uff0c很快。": "一 只 狗 跑 0 米 很 快",
    "iPhone手机「好」\uff08世\uff09\uff01\uff1f": "iphone 手 机 好 世",
    "犬が走る": "犬 が 走 る",
    "か\u3099葛\U000e0100": "か\u3099 葛\U000e0100",
    "น้ำวิ่ง": "น้ ำ วิ่ ง",
    "ខ្មែរ។": "ខ្មែ រ",
    "မြန်မာ": "မြ န် မာ",
    "ཁྱི་རྒྱུག": "ཁྱི རྒྱུ ག",
    "강아지가 달린다": "강아지가 달린다",
}


@pytest.mark.parametrize(("caption", "expected"), (HARD_CASES | SPACELESS_CASES).items())
def test_hard_cases_give_the_expected_tokens(caption, expected):
    assert tokenize(caption) == expected.split()


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_gives_lower_case_tokens_without_space_or_punctuation(text):
    for token in tokenize(text):
        assert token.split() == [token]
        assert token == token.lower()
        assert token not in {".", ",", ":", ";", "!", "?", "-", "--", "...", "'", "''", "`", "``"}


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["a dog", "x's", "'til", "$5.00", "etc.,", "(no)", "J.", "1/2", "“"]))
)
def test_line_breaks_are_treated_as_blanks(pieces):
    assert tokenize("\n".join(pieces)) == tokenize(" ".join(pieces))


@pytest.mark.parametrize("piece", ["a", "1", "a.", "1,", "A&", "a-", "n't", "'s", "!", "<a", "St."])
def test_the_time_of_a_caption_without_blanks_is_linear_in_its_length(piece):
    begin = time.process_time()
    tokenize(piece * 100_000 + "~")
    assert time.process_time() - begin < 10


@pytest.fixture(scope="module")
def java():
    if shutil.which("java") is None:
        pytest.skip("no Java, which Stanford's tokenizer needs")


@pytest.mark.usefixtures("java")
def test_hard_cases_match_stanfords_tokenizer():
    received = [tokens.split() for tokens in ptb_tokens(list(HARD_CASES))]
    assert received == [expected.split() for expected in HARD_CASES.values()]


@pytest.mark.usefixtures("java")
def test_real_captions_match_stanfords_tokenizer(shared):
    captions = []
    with gzip.open(
        shared / "data/flickr30k/results_20130124.token.gz", "rt", encoding="utf-8"
    ) as f:
        captions += [line.split("\t")[1].strip() for line in f]
    for line in (shared / "data/flickr8k/Flickr8k.token.txt").read_text("utf-8").splitlines():
        captions.append(line.split("\t")[1])
    for split in ("train", "val"):
        path = shared / f"data/coco/annotations/captions_{split}2017.json"
        captions += [note["caption"] for note in json.loads(path.read_text())["annotations"]]
    differ = [
        caption
        for caption, tokens in zip(captions, ptb_tokens(captions), strict=True)
        if tokenize(caption) != tokens.split()
    ]
    assert len(captions) > 149_000
    assert len(differ) < len(captions) / 10_000, differ


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a", "red", "dog"], "a red dog"),
        (["\u4e00", "\u53ea", "\u72d7"], "\u4e00\u53ea\u72d7"),
        (["\u4e00", "dog", "\u72d7", "\u72d7"], "\u4e00 dog \u72d7\u72d7"),
        (["\u0e2b\u0e21\u0e32", "\u0e19\u0e49\u0e33"], "\u0e2b\u0e21\u0e32\u0e19\u0e49\u0e33"),
        ([], ""),
    ],
)
def test_words_are_joined_with_spaces_except_in_scripts_without_them(words, text):
    assert join_words(words) == text
