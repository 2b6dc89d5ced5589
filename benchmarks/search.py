"""Measures how many captions per second greedy search and beam search find.

The input is image features. The captioner has 49 regions and a vocabulary of 6325 words. Captions
have 16 words, because a captioner with random weights almost never predicts STOP earlier.
"""

from dataclasses import dataclass

from benchmarks.decoder import Size, make_captioner, random_batch
from benchmarks.measure import median_seconds, print_row
from keras_aoa.utils.command_line import parse, run

LENGTH = 16


@dataclass(frozen=True)
class Arguments:
    """Time the search without the image networks."""

    images: tuple[int, ...] = (1, 8, 64)
    """Batch sizes to measure, in images."""
    beams: tuple[int, ...] = (1, 3, 5, 10)
    """Beam sizes. Beam size 1 (greedy search) is always included."""
    groups: int = 5
    """Beam size and number of groups of the diverse beam search. 1 leaves this search out."""
    turns: int = 5
    """Number of timed searches. The results are medians."""
    json: bool = False
    """Print json lines."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.search", arguments)
    import tensorflow as tf

    from keras_aoa.models.search import search

    captioner = make_captioner(Size().words)
    greedy = {}
    cases = [(beam, 1) for beam in sorted({1, *settings.beams})]
    if settings.groups > 1:
        cases.append((settings.groups, settings.groups))
    for beam, groups in cases:

        def caption(features, beam=beam, groups=groups):
            encoded = captioner.encode_features(features)
            return tuple(search(captioner, encoded, beam, LENGTH, groups=groups))

        compiled = tf.function(caption, autograph=False, reduce_retracing=True)
        for images in settings.images:
            features = random_batch(Size(images=images))["features"]
            seconds = median_seconds(lambda: compiled(features)[0].numpy(), settings.turns)  # noqa: B023
            greedy.setdefault(images, seconds)
            row = {
                "images": images, "beam": beam, "groups": groups,
                "captions_a_second": images / seconds, "over_greedy": seconds / greedy[images],
            }  # fmt: skip
            text = (
                f"beam {beam:2}, {groups} groups, {images:2} images: {1000 * seconds:6.0f} ms, "
                f"{images / seconds:6.1f} captions/s, "
                f"{seconds / greedy[images]:.2f} times greedy"
            )
            print_row(row, text, settings.json)


if __name__ == "__main__":
    run(main)
