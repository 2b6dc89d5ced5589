"""An exported SavedModel gives the same answers as the live model, for any input."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from export_answers import LIMIT, SEARCH, ask, assert_row_equals
from pictures_of_all_kinds import bad_files, file_of, good_files, photograph

from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.serving.save import WARM_UP

BEAM, MAX_WORDS = SEARCH["beam"], SEARCH["max_words"]


@pytest.fixture(scope="module")
def model(out):
    return tf.saved_model.load(str(out / "8"))


@pytest.fixture(scope="module")
def live(trained):
    return ImageCaptioner(trained.folder, **SEARCH)


def test_every_kind_of_file_is_captioned_as_live(model, live):
    files = good_files()
    answers = ask(model, list(files.values()))
    texts = set()
    for row, file in enumerate(files.values()):
        captions = live.captions(file)
        assert_row_equals(answers, row, captions)
        texts.add(round(captions[0].log_prob, 3))
    assert len(texts) > 5  # the images have different captions


def test_broken_files_do_not_affect_other_files_of_the_batch(model, live):
    good, bad = good_files(), bad_files()
    mixed = [file for pair in zip(bad.values(), good.values(), strict=False) for file in pair]
    answers = ask(model, mixed)
    assert answers["valid"].tolist() == [False, True] * (len(mixed) // 2)
    for row, file in enumerate(mixed):
        if row % 2:
            assert_row_equals(answers, row, live.captions(file))
        else:
            assert not any(answers["captions"][row])
            assert not any(answers["words"][row].ravel())
            assert not answers["log_probs"][row].any()
            assert not answers["attention"][row].any()
    assert not any("nan" in str(values) for values in answers.values())


def test_a_batch_of_only_broken_files_has_no_valid_image(model):
    answers = ask(model, list(bad_files().values()))
    assert not answers["valid"].any()


def test_an_empty_batch_gives_empty_outputs(model):
    answers = ask(model, [])
    regions = answers["boxes"].shape[1]
    assert answers["captions"].shape == (0, BEAM)
    assert answers["attention"].shape == (0, BEAM, MAX_WORDS, regions)


def test_pixels_are_captioned_as_live(model, live):
    pixels = np.stack([photograph(seed=1), photograph(seed=2)])
    answers = ask(model, None, "pixels", pixels=pixels)
    for row, image in enumerate(pixels):
        assert_row_equals(answers, row, live.captions(image))


def test_images_above_the_size_limit_are_invalid(model):
    files = [file_of(photograph(200, 400)), file_of(photograph(200, 401), "PNG")]
    assert LIMIT == 200 * 400
    assert ask(model, files)["valid"].tolist() == [True, False]


def test_boxes_of_a_center_crop_are_relative_to_the_original(cropped):
    """As in the paper, the network receives only the center of the image."""
    model = tf.saved_model.load(str(cropped / "out/1"))
    live = ImageCaptioner(cropped / "run")
    files = [good_files()[name] for name in ("jpeg", "turned", "narrow", "png")]
    answers = ask(model, files)
    for row, file in enumerate(files):
        assert_row_equals(answers, row, live.captions(file))
    assert answers["boxes"][0, :, :, 0].min() > 0.1


# --- Scores of given captions ---------------------------------------------------------------------


def test_a_generated_caption_is_scored_with_its_own_probability(model):
    files = list(good_files().values())[:4]
    generated = ask(model, files)
    scored = ask(model, files, "score", captions=generated["captions"])
    for index in np.ndindex(generated["log_probs"].shape):
        words = [word for word in generated["words"][index] if word]
        assert [word for word in scored["words"][index] if word] == words
        # A generated caption of the maximum length has no STOP.
        ended = len(words) < MAX_WORDS
        total = scored["log_probs"][index] if ended else scored["word_log_probs"][index].sum()
        np.testing.assert_allclose(total, generated["log_probs"][index], atol=1e-4)
        np.testing.assert_allclose(
            scored["attention"][index][: len(words)],
            generated["attention"][index][: len(words)],
            atol=1e-4,
        )
    # The difference is the log-probability that the caption ends there.
    ends = scored["log_probs"] - scored["word_log_probs"].sum(axis=2)
    assert (ends < 0).all()


def test_sentences_with_punctuation_and_unknown_words_are_scored(model):
    file = good_files()["jpeg"]
    sentences = ["A red square, on the left.", "a red square on the left", "A Zyx square!", ""]
    answers = ask(model, [file], "score", captions=[sentences])
    assert answers["log_probs"][0, 0] == pytest.approx(answers["log_probs"][0, 1])
    assert answers["words"][0, 2].tolist() == ["a", "<unk>", "square", "", "", ""]
    assert answers["log_probs"][0, 3] < 0
    assert (answers["word_log_probs"][0, 0] < 0).all()
    assert not answers["word_log_probs"][0, 2, 3:].any()


def test_scoring_needs_one_row_of_captions_per_image(model):
    with pytest.raises(tf.errors.InvalidArgumentError, match="a row for each image"):
        ask(model, [good_files()["jpeg"]] * 2, "score", captions=[["a square"]])


def test_scores_of_a_broken_image_are_0_and_an_empty_batch_has_none(model):
    files = [b"text", good_files()["jpeg"]]
    answers = ask(model, files, "score", captions=[["a square"], ["a square"]])
    assert answers["valid"].tolist() == [False, True]
    assert answers["log_probs"][0, 0] == 0 > answers["log_probs"][1, 0]
    empty = ask(model, [], "score", captions=np.zeros((0, 1), "S"))
    assert empty["log_probs"].shape == (0, 1)


# --- Without Keras, and the folder ----------------------------------------------------------------

WITHOUT_KERAS = """
import json, pathlib, sys
sys.modules["keras"] = None
import tensorflow as tf
from tensorflow.python.tools import saved_model_cli
folder, files, *batches = sys.argv[1:]
model = tf.saved_model.load(folder).signatures["serving_default"]
files = [path.read_bytes() for path in sorted(pathlib.Path(files).iterdir())]
for size in map(int, batches):
    batch = (files * size)[:size]
    outputs = model(image_bytes=tf.constant(batch))
    texts = [[text.decode() for text in row] for row in outputs["captions"].numpy()]
    print(json.dumps([texts, outputs["log_probs"].numpy().tolist()]))
sys.argv = ["saved_model_cli", "show", "--dir", folder, "--all"]
saved_model_cli.main()
"""
SIZES = (1, 3, 32)


@pytest.fixture(scope="module")
def printed_without_keras(out, tmp_path_factory):
    """What a process without Keras prints: answers to batches, then a view of the signatures."""
    folder = tmp_path_factory.mktemp("files")
    for name, file in good_files().items():
        (folder / name).write_bytes(file)
    command = [sys.executable, "-c", WITHOUT_KERAS, out / "8", folder, *map(str, SIZES)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    return process.stdout.splitlines()


def test_tensorflow_without_keras_captions_batches_of_any_size(printed_without_keras, live):
    expected = [live.captions(file) for _, file in sorted(good_files().items())]
    answers = printed_without_keras[: len(SIZES)]
    for size, line in zip(SIZES, answers, strict=True):
        texts, log_probs = json.loads(line)
        captions = (expected * size)[:size]
        assert texts == [[caption.text for caption in each] for each in captions]
        expected_log_probs = [[caption.log_prob for caption in each] for each in captions]
        np.testing.assert_allclose(log_probs, expected_log_probs, atol=1e-4)


def test_signatures_are_described_and_shown_by_saved_model_cli(out, printed_without_keras):
    lines = (out.parent / "description.txt").read_text()
    shown = "\n".join(printed_without_keras[len(SIZES) :])
    for name in ("serving_default", "pixels", "score", "image_bytes", "boxes", "word_log_probs"):
        assert name in lines
        assert f"['{name}']" in shown
    assert "proposals" not in lines


def test_the_graph_has_no_python_functions_or_custom_operations(model):
    operations = set()
    for function in model.signatures.values():
        graph = function.graph.as_graph_def()
        nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
        operations |= {node.op for node in nodes}
    assert "StatelessWhile" in operations or "While" in operations
    assert not {name for name in operations if "PyFunc" in name or "Addons" in name}


def test_the_model_answers_its_warm_up_requests(out, model):
    from tensorflow_serving.apis import prediction_log_pb2

    signatures = set()
    path = str(out / "8/assets.extra" / WARM_UP)
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        name = request.model_spec.signature_name
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        assert model.signatures[name](**inputs)["valid"].numpy().all()
        signatures.add(name)
    assert signatures == {"serving_default", "score"}
