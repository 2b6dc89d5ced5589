"""Computes BLEU, METEOR, ROUGE-L and CIDEr of captions with coco-caption's scorers.

Source: Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", 2015,
arXiv:1504.00325. The package pycocoevalcap contains the scorers. The CIDEr of pycocoevalcap is the
variant CIDEr-D.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from keras_aoa.data.text.tokenizer import has_spaceless_script, separate_characters, tokenize
from keras_aoa.evaluation.java import JavaError, MeteorProcess, meteor_scores, ptb_tokens
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import first_three

METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr")
TOKENIZERS = ("auto", "ptb", "python")
NO_SPACES = (
    "METEOR is left out: it compares English words and stems, but the captions are in a script "
    "without spaces between words."
)
ONE_IMAGE = (
    "CIDEr of a single image is 0 by definition, because CIDEr gives no weight to words "
    "that occur in all images."
)

Id = int | str


@dataclass(frozen=True)
class Scores:
    """Result of `score`.

    Attributes:
        metrics: Values by the names in `METRICS`, on coco-caption's scale (0.38, not 38).
        tokenizer: 'PTB' (a Java program) or 'python'.
        images: Number of images.
        missing: Metrics that could not be computed, each with the reason.
        notes: Remarks to print below the metrics.
        per_image: Metrics of each image, by image id.
        agreement: Result of the function `agreement`.
    """

    metrics: dict[str, float]
    tokenizer: str
    images: int
    missing: dict[str, str]
    notes: tuple[str, ...]
    per_image: dict[Id, dict[str, float]]
    agreement: dict[str, float]


def score(
    references: Mapping[Id, Sequence[str]],
    captions: Mapping[Id, str],
    tokenizer: str = "auto",
    meteor: "bool | MeteorProcess" = True,
) -> Scores:
    """Compute all metrics for one caption per image.

    Args:
        references: Human captions by image id.
        captions: A caption for each image in `references`.
        tokenizer: 'ptb' (needs Java), 'python' or 'auto'. 'auto' selects 'ptb' if Java works, and
            'python' otherwise.
        meteor: Whether to compute METEOR, which needs Java and takes 7 s to start. To save the
            start-up time, pass a `MeteorProcess` that was started earlier. METEOR is listed in
            `missing` if Java does not work, or if most captions have no spaces between words.

    Raises:
        UserError: the ids do not match (see `check_ids`), the references of an image contain no
            word, the tokenizer is unknown, or `tokenizer` is 'ptb' and Java does not work.
    """
    if tokenizer not in TOKENIZERS:
        raise UserError(f"tokenizer: expected {', '.join(TOKENIZERS)}, received {tokenizer!r}.")
    check_ids(references, captions)
    missing = {}
    if meteor and _mostly_spaceless(references):
        missing["METEOR"] = NO_SPACES
    try:
        words = _words(references, captions, tokenizer != "python")
        tokenizer_name = "python" if tokenizer == "python" else "PTB"
    except JavaError as problem:
        if tokenizer == "ptb":
            raise UserError(f"The PTB tokenizer {problem}") from None
        if meteor:
            missing.setdefault("METEOR", f"METEOR {problem}")
        words = _words(references, captions, with_java=False)
        tokenizer_name = "python"

    results = {}
    with ThreadPoolExecutor(max_workers=1) as pool:  # METEOR runs in a process of its own
        waiting = pool.submit(meteor_scores, *words, meteor) if meteor and not missing else None
        overall, each = Bleu(4).compute_score(*words, verbose=0)
        results.update(zip(METRICS[:4], zip(overall, each, strict=True), strict=True))
        results["ROUGE_L"] = Rouge().compute_score(*words)
        results["CIDEr"] = Cider().compute_score(*words)
        if waiting:
            try:
                results["METEOR"] = waiting.result()
            except JavaError as problem:
                missing["METEOR"] = f"METEOR {problem}"

    names = [name for name in METRICS if name in results]
    return Scores(
        metrics={name: float(results[name][0]) for name in names},
        tokenizer=tokenizer_name,
        images=len(references),
        missing=missing,
        notes=(ONE_IMAGE,) if len(references) == 1 else (),
        per_image={
            image: {name: float(results[name][1][index]) for name in names}
            for index, image in enumerate(references)
        },
        agreement=agreement(*words),
    )


def agreement(references, captions):
    """Compare the CIDEr of the captions with the CIDEr of human captions.

    Each reference of an image is held out in turn. The generated caption and the held-out reference
    are both scored against the remaining references. The scores are averaged over the turns.

    Args:
        references, captions: Tokenized texts by image id, in the format of the scorers.

    Returns:
        A dictionary: `CIDEr_leave_one_out` of the captions, `human_CIDEr_leave_one_out` of the
        references, and their ratio `share_of_human_CIDEr`. The dictionary is empty if there are
        fewer than two images, if the numbers of references differ between images, or if an image
        has fewer than three references.
    """
    counts = {len(texts) for texts in references.values()}
    if len(counts) != 1 or min(counts) < 3 or len(references) < 2:
        return {}
    caption_scores, human_scores = [], []
    for held_out in range(min(counts)):
        others = {
            image: texts[:held_out] + texts[held_out + 1 :] for image, texts in references.items()
        }
        held = {image: [texts[held_out]] for image, texts in references.items()}
        caption_scores.append(Cider().compute_score(others, captions)[0])
        human_scores.append(Cider().compute_score(others, held)[0])
    ours, human = float(np.mean(caption_scores)), float(np.mean(human_scores))
    shares = {"share_of_human_CIDEr": ours / human} if human else {}
    return {"CIDEr_leave_one_out": ours, "human_CIDEr_leave_one_out": human, **shares}


def cider(references: Mapping[Id, Sequence[str]], captions: Mapping[Id, str]) -> float:
    """Compute CIDEr without Java, for validation.

    The computation takes about a second for 1,000 images.
    """
    check_ids(references, captions)
    return float(Cider().compute_score(*_words(references, captions, with_java=False))[0])


def check_ids(
    references: Mapping[Id, Sequence[str]],
    captions: Mapping[Id, str],
    references_name: str = "the references",
    captions_name: str = "the captions",
) -> None:
    """Check that captions and references have the same image ids.

    Raises:
        UserError: the ids differ, or there are no captions.
    """
    if not captions:
        raise UserError(f"evaluate: expected captions to score in {captions_name}, received none.")
    unknown = [image for image in captions if image not in references]
    if unknown:
        other = {str(image) for image in references}
        mixed = any(str(image) in other for image in unknown)
        remedy = "; write ids as numbers in both or as text in both." if mixed else "."
        raise UserError(
            f"evaluate: {len(unknown)} of {len(captions)} image ids in {captions_name} are not "
            f"in {references_name}: {first_three(unknown)}{remedy}"
        )
    missing = [image for image in references if image not in captions]
    if missing:
        raise UserError(
            f"evaluate: {len(missing)} of {len(references)} images in {references_name} have no "
            f"caption in {captions_name}: {first_three(missing)}; caption these too, or score "
            "only the captioned images (--captioned-only)."
        )


def _words(references, captions, with_java):
    """Tokenize references and captions into the format of pycocoevalcap's scorers."""
    texts = [text for image in references for text in (*references[image], captions[image])]
    if with_java:
        tokenized = iter(ptb_tokens(list(map(separate_characters, texts))))
    else:
        tokenized = (" ".join(tokenize(text)) for text in texts)
    truths, answers = {}, {}
    for image in references:
        # Without this filter, ROUGE-L matches empty captions with empty references.
        truths[image] = list(filter(None, [next(tokenized) for _ in references[image]]))
        answers[image] = [next(tokenized)]
    wordless = [image for image in truths if not truths[image]]
    if wordless:
        raise UserError(
            f"evaluate: {len(wordless)} of {len(truths)} images have no reference with words: "
            f"{first_three(wordless)}; add a reference, or remove the image."
        )
    return truths, answers


def _mostly_spaceless(references):
    texts = [text for captions in references.values() for text in captions]
    return 2 * sum(map(has_spaceless_script, texts)) > len(texts)
