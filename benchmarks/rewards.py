"""Measures a step of stage 3 (self-critical training), a step of stage 1, and the reward.

Both steps train the full model on the same image features. The number of sampled captions in stage
3 equals the number of captions in stage 1. Captions have 16 random words of a vocabulary of 6325.
The captioner is untrained, so its samples are long, which is the slowest case. The reward, CIDEr-D,
is compared with pycocoevalcap's scorer on the same captions.
"""

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.decoder import Size, make_captioner, random_batch
from benchmarks.measure import in_new_process, median_seconds, print_row
from keras_aoa.utils.command_line import parse, run

MODULE = "benchmarks.rewards"
REFERENCED = 1000  # images that have references


@dataclass(frozen=True)
class Arguments:
    """Time steps of stages 1 and 3, each in a new process, and the reward of one batch."""

    images: int = 10
    """Number of images in a batch."""
    captions: int = 5
    """Captions per image, and sampled captions per image."""
    regions: int = 49
    """Regions per image."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    """Dtypes of matrix products to measure."""
    temperature: float = 1.0
    """Temperature of the samples in stage 3."""
    turns: int = 10
    """Number of timed steps. The results are medians."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, MODULE, arguments)
    size = Size(settings.images, settings.captions, settings.regions)
    for dtype in settings.dtypes:
        first, third = (
            in_new_process(
                MODULE,
                "measure",
                size=asdict(size),
                dtype=dtype,
                stage=stage,
                temperature=settings.temperature,
                turns=settings.turns,
            )
            for stage in (1, 3)
        )
        if "failed" in first or "failed" in third:
            print_row(
                {"dtype": dtype, "stage 1": first, "stage 3": third},
                f"{dtype}: failed: {first.get('failed') or third['failed']}",
                settings.json,
            )
            continue
        times, memory = (third[name] / first[name] for name in ("milliseconds", "peak_gigabytes"))
        share, speed = third["reward"] / third["milliseconds"], third["library"] / third["reward"]
        print_row(
            {"dtype": dtype, "stage 1": first, "stage 3": third},
            f"{dtype}: stage 1 {first['milliseconds']:.0f} ms, stage 3 "
            f"{third['milliseconds']:.0f} ms ({times:.2f} times), peak memory {memory:.2f} times; "
            f"reward {third['reward']:.2f} ms ({100 * share:.1f} % of the step), pycocoevalcap "
            f"{third['library']:.1f} ms ({speed:.0f} times)",
            settings.json,
        )


def measure(size, dtype, stage, temperature, turns):
    """Return the milliseconds of a step and, in stage 3, of both reward functions."""
    from keras_aoa.data.text.vocabulary import Vocabulary
    from keras_aoa.settings.configuration import Configuration
    from keras_aoa.training.reward import CaptionReward
    from keras_aoa.training.trainer import Trainer

    size = Size(**size)
    words = [f"w{number}" for number in range(size.words - 4)]
    random = np.random.default_rng(0)
    # Common words are more frequent, as in real captions.
    chosen = random.zipf(1.3, (REFERENCED, size.captions, size.steps - 1)) % len(words)
    references = [[" ".join(words[i] for i in text) for text in texts] for texts in chosen]
    reward = CaptionReward(references, Vocabulary(words))
    settings = Configuration(
        average=0.0,
        reward_epochs=1,
        reward_samples=size.captions,
        reward_temperature=temperature,
        max_words=size.steps,
    )
    trainer = Trainer(make_captioner(size.words, dtype), settings, 1000, reward=reward)
    index = np.arange(size.images, dtype=np.int32)
    batch = {**random_batch(size), "index": index}
    result = {"milliseconds": 1e3 * median_seconds(lambda: trainer.step(batch, stage), turns)}
    if stage == 1:
        return result
    captions = np.asarray(batch["captions"])[:, :, 1:].reshape(-1, size.steps)
    rows = np.repeat(index, size.captions)
    ours = median_seconds(lambda: reward(rows, captions), 50)
    return {
        **result,
        "reward": 1e3 * ours,
        "library": 1e3 * median_seconds(library(references, rows, captions), 10),
    }


def library(references, rows, captions):
    """Return a function that scores captions with pycocoevalcap."""
    from pycocoevalcap.cider.cider import Cider

    truths = {number: references[row] for number, row in enumerate(rows)}
    answers = {number: [" ".join(f"w{i}" for i in ids)] for number, ids in enumerate(captions)}
    return lambda: Cider().compute_score(truths, answers)


if __name__ == "__main__":
    run(main)
