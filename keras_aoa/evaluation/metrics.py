"""Computes BLEU, METEOR, ROUGE-L and CIDEr of captions with coco-caption's scorers.

Source: Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", 2015,
arXiv:1504.00325. The package pycocoevalcap contains the scorers. The CIDEr of pycocoevalcap is the
variant CIDEr-D.
"""

import errno
import inspect
import os
import pathlib
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import METEOR_JAR, Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer import ptbtokenizer

from keras_aoa.data.text.tokenizer import has_spaceless_script, separate_characters, tokenize
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import first_three

METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr")
TOKENIZERS = ("auto", "ptb", "python")
# In a locale with decimal commas or other digits, METEOR cannot read the numbers that it writes.
JAVA_OPTIONS = (
    "-Duser.language=en",
    "-Duser.country=US",
    "-Duser.language.format=en",
    "-Duser.country.format=US",
    "-Dfile.encoding=UTF-8",
)
# Error messages of a Java that is older than version 8, or not installed.
OTHER_JAVA = ("UnsupportedClassVersionError", "Unable to locate a Java Runtime")
GET_JAVA = "install one (Debian: apt-get install default-jre-headless)."
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
    except _JavaError as problem:
        if tokenizer == "ptb":
            raise UserError(f"The PTB tokenizer {problem}") from None
        if meteor:
            missing.setdefault("METEOR", f"METEOR {problem}")
        words = _words(references, captions, with_java=False)
        tokenizer_name = "python"

    results = {}
    with ThreadPoolExecutor(max_workers=1) as pool:  # METEOR runs in a process of its own
        waiting = pool.submit(_meteor, *words, meteor) if meteor and not missing else None
        overall, each = Bleu(4).compute_score(*words, verbose=0)
        results.update(zip(METRICS[:4], zip(overall, each, strict=True), strict=True))
        results["ROUGE_L"] = Rouge().compute_score(*words)
        results["CIDEr"] = Cider().compute_score(*words)
        if waiting:
            try:
                results["METEOR"] = waiting.result()
            except _JavaError as problem:
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


class _JavaError(Exception):
    """Java does not work.

    The message completes a sentence such as "METEOR needs Java 8 or newer, …".
    """


def _words(references, captions, with_java):
    """Tokenize references and captions into the format of pycocoevalcap's scorers."""
    texts = [text for image in references for text in (*references[image], captions[image])]
    if with_java:
        tokenized = iter(_ptb_tokens(list(map(separate_characters, texts))))
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


def _ptb_tokens(texts):
    """Tokenize like pycocoevalcap's `PTBTokenizer`.

    `PTBTokenizer` itself is not used, because it writes a file to the folder of its package.
    """
    jar = pathlib.Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    command = ["java", *JAVA_OPTIONS, "-cp", str(jar)]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    # Java reads one caption per line; a line break in a caption would shift all later captions.
    lines = "".join(" ".join(text.splitlines()) + "\n" for text in texts)
    try:
        java = subprocess.run(
            command,
            input=lines.encode(errors="replace"),
            capture_output=True,
            env=_java_environment(),
        )
    except OSError as error:
        raise _no_java(error) from None
    tokenized = java.stdout.decode(errors="replace").split("\n")[:-1]
    if java.returncode or len(tokenized) != len(texts):
        raise _broken_java(java.stderr)
    dropped = set(ptbtokenizer.PUNCTUATIONS)
    return [
        " ".join(word for word in line.rstrip().split(" ") if word not in dropped)
        for line in tokenized
    ]


class MeteorProcess(Meteor):
    """METEOR's Java process.

    The process first loads tables for several seconds. The process ends when this object is
    deleted. After an error, the method `__del__` of pycocoevalcap's class would wait forever.

    Raises:
        OSError: Java does not start.
    """

    def __init__(self):
        command = ["java", *JAVA_OPTIONS, "-jar", "-Xmx2G", METEOR_JAR]
        self.meteor_p = subprocess.Popen(
            [*command, "-", "-", "-stdio", "-l", "en", "-norm"],
            cwd=pathlib.Path(inspect.getfile(Meteor)).parent,
            env=_java_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lock = threading.Lock()

    def __del__(self):
        if process := getattr(self, "meteor_p", None):
            process.kill()
            process.communicate()


def start_meteor() -> MeteorProcess | bool:
    """Start METEOR in advance.

    If Java does not start, the result is True, so that `score` reports the reason.
    """
    try:
        return MeteorProcess()
    except OSError:
        return True


def _meteor(truths, answers, started):
    try:
        scorer = started if isinstance(started, MeteorProcess) else MeteorProcess()
    except OSError as error:
        raise _no_java(error) from None
    try:
        return scorer.compute_score(truths, answers)
    except (OSError, ValueError):
        scorer.meteor_p.kill()
        raise _broken_java(scorer.meteor_p.stderr.read()) from None


def _java_environment():
    """Return an environment that does not override `JAVA_OPTIONS`.

    If the current environment does not, the result is None.
    """
    name = "_JAVA_OPTIONS"  # it overrides the options of the command line
    if name not in os.environ:
        return None
    return {**os.environ, name: " ".join((os.environ[name], *JAVA_OPTIONS))}


def _no_java(error):
    if isinstance(error, FileNotFoundError):
        return _JavaError(f"needs Java 8 or newer, `java` was not found on PATH; {GET_JAVA}")
    if isinstance(error, PermissionError) or error.errno == errno.ENOEXEC:
        reason = f"`java` did not start: {error.strerror}"
        return _JavaError(f"needs Java 8 or newer, {reason}; {GET_JAVA}")
    return _JavaError(f"could not start `java`: {error.strerror}; remove the cause and try again.")


def _broken_java(output):
    lines = map(str.strip, output.decode(errors="replace").splitlines())
    # Lists of options and lines of a stack trace do not contain the reason.
    lines = [line for line in lines if not line.startswith(("Picked up ", "at "))]
    reason = " ".join(" ".join(lines).split())[:200] or "no error message"
    if any(text in reason for text in OTHER_JAVA):
        return _JavaError(f"needs Java 8 or newer, `java` failed: {reason}; {GET_JAVA}")
    return _JavaError(f"could not be run, `java` failed: {reason}; remove the cause and try again.")
