"""Eight clients of the server at once, with each kind of regions, without KServe."""

import asyncio
import base64
import concurrent.futures

import numpy as np
import pytest
from bright_square import make_run, settings
from kserve_stand_in import server_module
from pictures_of_all_kinds import bad_files, good_files

from keras_aoa.data.proposals.cache import propose
from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.models.backbones import BackboneSettings, make_backbone
from keras_aoa.serving.save import export_run
from keras_aoa.settings.search import SearchSettings

pytestmark = pytest.mark.slow

CLIENTS, REQUESTS = 8, 96


def make_random(captioner):
    random = np.random.default_rng(0)
    for weight in (*captioner.cell.weights, *captioner.image_projection.weights):
        weight.assign(random.normal(0, 0.7, weight.shape))


@pytest.fixture(scope="module", params=["grid", "transformer", "proposals"])
def served(request, tmp_path_factory):
    """A served export, and the request row and the live captions of each image."""
    folder = tmp_path_factory.mktemp(request.param)
    configuration = settings(
        folder, regions=request.param, image_size=48, proposals_size=48, beam=2, max_words=3
    )
    run = make_run(configuration, make_backbone(BackboneSettings("scenes", 48)), make_random)
    live = ImageCaptioner(run.folder)
    export_run(run, folder / "out", SearchSettings())
    rows = []
    for file in good_files().values():
        row = {"image_bytes": {"b64": base64.b64encode(file).decode()}}
        captions = live.captions(file)
        if request.param == "proposals":
            boxes = propose(captions[0].image, live.proposal_settings)[:4].tolist()
            row["proposals"] = boxes + [[0.0] * 4] * (4 - len(boxes))
            shown = {**row, "proposals": boxes}
            captions = captions_of_boxes(live, captions[0].image, shown["proposals"])
        rows.append((row, captions))
    with server_module() as server:
        model = server.ServedModel("captioner", folder / "out" / "1", batch=8, wait=2.0)
        model.load()
        yield model, rows


def captions_of_boxes(live, image, boxes):
    """Caption an image with only these object proposals."""
    from keras_aoa.data.images.preprocessing import from_original

    inputs = {name: np.asarray(view)[None] for name, view in live.views(image).items()}
    inputs["proposals"] = from_original(np.float32(boxes), inputs["window"][0])[None]
    return live.generator.hypotheses(inputs)[0]


def test_eight_clients_get_the_captions_of_their_own_images(served):
    model, rows = served
    bad = [base64.b64encode(file).decode() for file in bad_files().values()]
    more = {"proposals": [[0.0] * 4] * 4} if "proposals" in rows[0][0] else {}

    def ask(number):
        chosen = [rows[(number + step) % len(rows)] for step in range(1 + number % 3)]
        broken = {"image_bytes": {"b64": bad[number % len(bad)]}, **more}
        answer = asyncio.run(model.predict({"instances": [row for row, _ in chosen] + [broken]}))
        *answers, last = answer["predictions"]
        assert not last["valid"]
        for given, (_, captions) in zip(answers, chosen, strict=True):
            assert given["captions"] == [caption.text for caption in captions]
            log_probs = [caption.log_prob for caption in captions]
            np.testing.assert_allclose(given["log_probs"], log_probs, atol=1e-4)
            np.testing.assert_allclose(
                np.float32(given["boxes"])[: len(captions[0].boxes)], captions[0].boxes, atol=1e-4
            )
        return True

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        assert list(clients.map(ask, range(REQUESTS))) == [True] * REQUESTS


def test_the_images_have_different_captions(served):
    _, rows = served
    assert len({round(captions[0].log_prob, 3) for _, captions in rows}) > 5
