"""Measures the time to caption an image with each kind of region.

The captioner has VGG16 with random weights, 49 regions, a vocabulary of 6325 words and 512 units.
The search is greedy, and captions have 16 words. The kinds of regions alternate, so that other load
on the machine affects all kinds.
"""

import json
import time
from dataclasses import dataclass

import numpy as np

from keras_aoa.utils.command_line import parse, run

KINDS = ("grid", "transformer", "proposals")
WORDS, LENGTH, REGIONS = 6325, 16, 49


@dataclass(frozen=True)
class Arguments:
    """Time each part of captioning an image, with grid, transformer and proposal regions."""

    images: int = 20
    """Number of images to caption, one at a time. The results are medians."""
    photograph: str = ""
    """Image file; by default a drawn scene of 480 x 480 pixels."""
    json: bool = False
    """Print json."""


def main(arguments):
    """Measure and print the results."""
    settings = parse(Arguments, "benchmarks.regions", arguments)
    image = read(settings.photograph)
    parts = measure(image, settings.images)
    totals = {kind: sum(parts[kind].values()) for kind in KINDS}
    ratios = {kind: totals[kind] / totals["grid"] for kind in KINDS}
    if settings.json:
        print(json.dumps({"milliseconds": parts, "ratio_to_grid": ratios}))
        return
    for kind in KINDS:
        split = ", ".join(f"{name} {value:.1f}" for name, value in parts[kind].items())
        print(f"{kind:12} {totals[kind]:7.1f} ms per image, {ratios[kind]:.2f} x grid ({split})")


def read(photograph):
    """Read the pixels of a photograph. If `photograph` is empty, draw a scene."""
    if photograph:
        from keras_aoa.inference.image_captioner import read_pixels

        return read_pixels(photograph)
    from keras_aoa.data.scenes.layout import draw_scene

    return draw_scene(480, np.random.default_rng(0))[1]


def measure(image, count):
    """Measure the median milliseconds of each part of captioning, for each kind of region."""
    import tensorflow as tf

    from keras_aoa.data.images.preprocessing import ImageSettings, from_original, prepare, window
    from keras_aoa.data.proposals.cache import ProposalSettings, propose

    inputs = {"images": prepare(image, ImageSettings(224))[None]}
    padded = ImageSettings(300, "pad")
    covered = window(*image.shape[:2], padded).numpy()
    search = ProposalSettings()

    def boxes():
        return from_original(propose(image, search)[:REGIONS], covered)

    with_boxes = inputs | {
        "region_images": prepare(image, padded)[None],
        "proposals": tf.constant(boxes()[None]),
    }
    functions = {}
    for kind in KINDS:
        encode, decode = captioner_functions(kind)
        batch = with_boxes if kind == "proposals" else inputs
        encoded = encode(batch)
        functions[kind] = {
            **({"boxes": boxes} if kind == "proposals" else {}),
            "networks": lambda encode=encode, batch=batch: encode(batch),
            "search": lambda decode=decode, encoded=encoded: decode(encoded),
        }
    times = {kind: {name: [] for name in parts} for kind, parts in functions.items()}
    for turn in range(count + 2):
        for kind, parts in functions.items():
            for name, function in parts.items():
                started = time.perf_counter()
                function()
                if turn >= 2:
                    times[kind][name].append(1000 * (time.perf_counter() - started))
    return {
        kind: {name: float(np.median(values)) for name, values in parts.items()}
        for kind, parts in times.items()
    }


def captioner_functions(kind):
    """Return two compiled functions: the first encodes images, the second captions them."""
    import tensorflow as tf

    from keras_aoa.models.backbones import make_backbone
    from keras_aoa.models.build import backbone_settings, make_captioner
    from keras_aoa.models.search import search
    from keras_aoa.settings.configuration import Configuration

    configuration = Configuration(backbone="VGG16", backbone_weights="none", regions=kind)
    backbone = make_backbone(backbone_settings(configuration))
    captioner = make_captioner(configuration, backbone, WORDS)
    encode = tf.function(lambda inputs: captioner.encode(inputs), autograph=False)
    decode = tf.function(
        lambda encoded: search(captioner, encoded, beam=1, max_words=LENGTH), autograph=False
    )
    return encode, decode


if __name__ == "__main__":
    run(main)
