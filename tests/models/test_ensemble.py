"""An ensemble averages its members' distributions; comma-separated runs form an ensemble."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny

from keras_aoa import evaluate
from keras_aoa.data.images.preprocessing import read_image
from keras_aoa.evaluation import report
from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.models.ensemble import Ensemble
from keras_aoa.models.search import search
from keras_aoa.runs.ensemble import open_run
from keras_aoa.serving.save import export_run
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError

IMAGES = tiny.make_images(3)


def decode_step(captioner, ids):
    """Decode the same words for each image, and return log p(w) and p(r) of the next word."""
    encoded = captioner.encode(IMAGES)
    state, attended = encoded.state, encoded.attended
    for word in ids:
        inputs = np.full((3, 1), word)
        state, attended, log_probs, regions = captioner.decode_step(
            inputs, state, attended, encoded.memory
        )
    return np.asarray(log_probs), np.asarray(regions)


@pytest.mark.parametrize("variant", [*tiny.VARIANTS, "semantic"])
def test_the_distribution_is_the_mean_over_the_members(variant):
    members = [
        tiny.kept_captioner(variant, weights=1),
        tiny.kept_captioner(variant, weights=2, units=5),
    ]
    log_probs, region_probs = decode_step(Ensemble(members), [1, 4, 6])
    separate = [decode_step(member, [1, 4, 6]) for member in members]
    expected = np.mean([np.exp(words) for words, _ in separate], axis=0)
    np.testing.assert_allclose(np.exp(log_probs), expected, atol=1e-6)
    for number, (_, regions) in enumerate(separate):
        own = region_probs[..., number * tiny.REGIONS : (number + 1) * tiny.REGIONS]
        np.testing.assert_allclose(own, regions / 2, atol=1e-6)
    np.testing.assert_allclose(region_probs.sum(axis=-1), 1, atol=1e-5)


def test_an_ensemble_of_one_member_equals_the_member():
    captioner = tiny.kept_captioner(weights=1)
    single = search(captioner, captioner.encode(IMAGES), beam=3, max_words=3)
    ensemble = Ensemble([captioner])
    result = search(ensemble, ensemble.encode(IMAGES), beam=3, max_words=3)
    for value, expected in zip(result, single, strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)


def test_boxes_of_all_members_are_concatenated():
    members = [tiny.kept_captioner(weights=seed) for seed in (1, 2)]
    encoded = Ensemble(members).encode(IMAGES)
    own = members[0].encode(IMAGES)
    assert encoded.boxes.shape == (3, 2 * tiny.REGIONS, 4, 2)
    np.testing.assert_array_equal(encoded.boxes[:, : tiny.REGIONS], own.boxes)
    np.testing.assert_array_equal(encoded.boxes[:, tiny.REGIONS :], own.boxes)


# --- Runs -----------------------------------------------------------------------------------------


@pytest.fixture
def runs(trained, tmp_path):
    """Folders of two runs that differ in their weights."""
    from keras_aoa.models import weights

    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        shutil.copytree(trained.folder, folder)
    arrays, metadata = weights.load_arrays(folders[1] / "best.npz")
    noise = np.random.default_rng(0)
    arrays = {
        name: value + noise.normal(scale=0.05, size=value.shape).astype(value.dtype)
        for name, value in arrays.items()
    }
    weights.save_arrays(folders[1] / "best.npz", arrays, metadata)
    return folders


def test_comma_separated_runs_caption_and_export_as_an_ensemble(runs, squares, tmp_path):
    names = ",".join(map(str, runs))
    file = squares / "03.png"
    ensemble = ImageCaptioner(names)
    captions, inputs = ensemble.captions(file), ensemble.inputs(read_image(file))
    members = [open_run(folder).load_captioner(for_inference=True) for folder in runs]
    separate = [search(each, each.encode(inputs), beam=2, max_words=5) for each in members]
    assert captions[0].attention.shape[1] == sum(each.attention.shape[3] for each in separate)
    separate = [float(each.log_probs[0, 0]) for each in separate]
    assert len({*np.round([captions[0].log_prob, *separate], 4)}) == 3
    exported = export_run(open_run(names), tmp_path / "out", SearchSettings())
    model = tf.saved_model.load(str(exported.folder)).signatures["serving_default"]
    outputs = model(image_bytes=tf.constant([file.read_bytes()]))
    texts = [text.decode() for text in outputs["captions"].numpy()[0]]
    assert texts == [caption.text for caption in captions]
    expected = [caption.log_prob for caption in captions]
    np.testing.assert_allclose(outputs["log_probs"].numpy()[0], expected, atol=1e-4)


def test_an_evaluation_is_written_beside_the_runs(runs):
    run = open_run(",".join(map(str, runs)))
    assert run.results_folder == runs[0].parent / "ensemble-one+two"
    assert open_run(runs[0]).results_folder == runs[0]


def test_a_report_distinguishes_an_ensemble_from_its_member(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "start_meteor", lambda: False)
    output = ["--output", str(tmp_path / "out")]
    names = ",".join(map(str, runs))
    evaluate.main([names, "--report", "--with", str(runs[0]), "--report-images", "1", *output])
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<bdi>ensemble-one+two</bdi>" in page and "<bdi>one</bdi>" in page


def test_a_member_without_attention_is_refused_for_attention_correctness(runs):
    text = (runs[1] / "config.json").read_text()
    (runs[1] / "config.json").write_text(text.replace('"full"', '"baseline"'))
    with pytest.raises(UserError, match="two has variant 'baseline' and its attention is uniform"):
        evaluate.main([",".join(map(str, runs)), "--correctness"])


def test_runs_that_cannot_form_an_ensemble_are_refused(runs):
    from keras_aoa.data.text.vocabulary import Vocabulary
    from keras_aoa.settings.configuration import Configuration

    with pytest.raises(UserError, match="each run once"):
        open_run(f"{runs[0]},{runs[0]}")
    with pytest.raises(UserError, match="expected the folder of a run or the name of a captioner"):
        open_run(f"{runs[0]},/nowhere")
    configuration = Configuration.read(runs[1] / "config.json")
    other = dataclasses.replace(configuration, test_stride=2)
    (runs[1] / "config.json").write_text(other.to_json())
    with pytest.raises(UserError, match="two: test_stride is 2, but 1 in"):
        open_run(f"{runs[0]},{runs[1]}")
    other = dataclasses.replace(configuration, proposal_method="selective_search")
    (runs[1] / "config.json").write_text(other.to_json())
    with pytest.raises(UserError, match="two: proposal_method is 'selective_search', but 'edge_b"):
        open_run(f"{runs[0]},{runs[1]}")
    (runs[1] / "config.json").write_text(configuration.to_json())
    Vocabulary(["other"]).save(runs[1] / "vocabulary.json")
    with pytest.raises(UserError, match="its vocabulary differs"):
        open_run(f"{runs[0]},{runs[1]}")
