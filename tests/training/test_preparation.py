"""Data that cannot be trained on is refused before any work; changed data is reported on resume."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
from types import SimpleNamespace

import keras
import pytest
from bright_square import brightness
from reader_files import photographs, put

from keras_aoa.data.examples import Example
from keras_aoa.runs.data_record import data_changes, read_record, write_record
from keras_aoa.runs.run import Run
from keras_aoa.training import preparation
from keras_aoa.utils.errors import UserError

SPLITS = {"a": "train", "b": "train", "c": "train", "d": "val", "e": "test"}


@pytest.fixture
def configuration(squares_settings, tmp_path, monkeypatch):
    """A configuration whose data is the relative path `d`, of five images with captions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preparation, "start_backbone", lambda _: brightness())
    monkeypatch.setattr(preparation, "make_captioner", lambda *_: None)
    monkeypatch.setattr(preparation, "load_images", lambda *_: (None, None))
    write_captions(dict.fromkeys(SPLITS, "a red dog"))
    photographs(tmp_path / "d", *(f"{name}.png" for name in SPLITS))
    return dataclasses.replace(squares_settings, data="d", output=str(tmp_path / "runs"), name="r")


def write_captions(captions):
    rows = "".join(f"{name}.png,{text},{SPLITS[name]}\n" for name, text in captions.items())
    put(pathlib.Path.cwd(), {"d/captions.csv": "image,caption,split\n" + rows})


def prepare(configuration, **changes):
    with contextlib.ExitStack() as held:
        return preparation.prepare_run(dataclasses.replace(configuration, **changes), held)


def refused(configuration, message, **changes):
    """Assert that a new run is refused before its network is made and its folder is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "start_backbone", None)
        with pytest.raises(UserError, match=message) as refusal:
            prepare(configuration, **changes)
    assert "\n" not in str(refusal.value)
    assert not configuration.folder.exists()


def test_a_network_that_cannot_take_the_image_size_is_refused_without_a_folder(
    configuration, monkeypatch
):
    pixels = keras.Input((32, 32, 3))
    monkeypatch.setattr(preparation, "start_backbone", lambda _: network(pixels))
    with pytest.raises(UserError, match=r"^image_size: expected 32, .* received 64; set .* 32, or"):
        prepare(configuration, image_size=64)
    monkeypatch.setattr(
        preparation, "start_backbone", lambda _: network(keras.Input((None, None, 3)))
    )
    with pytest.raises(UserError, match=r"^image_size: .* larger images, received 20; increase"):
        prepare(configuration, image_size=20)
    assert not configuration.folder.exists()
    prepare(configuration, image_size=21)
    assert configuration.folder.exists()


def network(pixels):
    """A network whose input has at least 21 pixels."""
    activations = keras.layers.Conv2D(2, 21)(pixels)
    vector = keras.layers.GlobalAveragePooling2D()(activations)
    return keras.Model(pixels, {"map": activations, "vector": vector})


def test_data_without_a_needed_split_is_refused(configuration):
    for missing, message in {
        "train": "expected a split 'train', found val, test; add training images",
        "val": "expected a split 'val', found train, test; set select_images to hold out",
    }.items():
        write_captions({n: "a dog" for n, split in SPLITS.items() if split != missing})
        refused(configuration, message)


def test_images_cannot_be_held_out_of_no_training_split(configuration):
    write_captions({"d": "a dog", "e": "a dog"})
    message = "select_images: expected a split 'train' to hold out 1 images, found val, test"
    refused(configuration, message, select_images=1)


@pytest.mark.parametrize("text", ["a red dog", "!!!", "😀"], ids=["rare", "marks", "emoji"])
def test_captions_without_a_frequent_word_are_refused(configuration, text):
    write_captions(dict.fromkeys(SPLITS, text))
    message = "expected words that occur at least 5 times in the training captions, found none in 3"
    refused(configuration, message, minimum_count=5)


def test_captions_without_spaces_have_a_vocabulary_of_characters(configuration):
    write_captions({name: f"一只狗{name}" for name in SPLITS})
    run, *_ = prepare(configuration, minimum_count=3)
    assert set(run.vocabulary.words[4:]) == set("一只狗")


def test_the_same_folder_is_the_same_setting_and_is_found_from_elsewhere(
    configuration, tmp_path, monkeypatch
):
    prepare(configuration)
    (tmp_path / "link").symlink_to("d")
    for data in ("d/", "./d", str(tmp_path / "d"), "link"):
        prepare(configuration, data=data)
    with pytest.raises(UserError, match=r"contains a run with other settings \(data\)"):
        prepare(configuration, data="other")
    (tmp_path / "w").mkdir()
    monkeypatch.chdir(tmp_path / "w")
    for data in ("d", "../d", str(tmp_path / "d")):
        prepare(configuration, data=data)
    assert len(Run(configuration.folder).load_data().splits["train"]) == 3
    assert os.path.samefile(Run("../runs/r").located("data"), tmp_path / "d")


def test_a_resumed_run_reports_what_changed_in_its_data(configuration, tmp_path, capsys):
    prepare(configuration)
    capsys.readouterr()
    prepare(configuration)
    assert "changed" not in capsys.readouterr().out
    write_captions({"a": "a scarlet dog", "c": "a red dog", "d": "a red dog", "e": "a red dog"})
    with open(tmp_path / "d/d.png", "ab") as file:
        file.write(b"more")
    prepare(configuration)
    output = capsys.readouterr().out
    assert (
        "r: the data changed since the run was started or last resumed: images of train: " in output
    )
    assert "images of train: 1 gone, 1 with other captions (a.png)" in output
    assert "images of val: 1 with another file (d.png)." in output
    prepare(configuration)
    assert "changed" not in capsys.readouterr().out


def test_a_record_of_an_older_version_with_shorter_ids_is_understood(configuration, capsys):
    prepare(configuration)
    file = configuration.folder / "data.json"
    record = json.loads(file.read_text())
    record["splits"] = {
        split: [line[:8] + line[16:] for line in lines] for split, lines in record["splits"].items()
    }
    file.write_text(json.dumps(record))
    capsys.readouterr()
    prepare(configuration)
    assert "changed" not in capsys.readouterr().out


def test_images_whose_ids_have_similar_digests_are_not_confused(configuration, tmp_path):
    seen, number = {}, 0
    while True:  # two numbers whose digests begin with the same 8 hexadecimal digits
        start = hashlib.sha256(str(number).encode()).hexdigest()[:8]
        if start in seen:
            break
        seen[start], number = number, number + 1
    examples = [Example(image, "a.png", (f"image {image}",)) for image in (seen[start], number)]
    data = SimpleNamespace(splits={"train": examples})
    write_record(tmp_path, configuration, data)
    assert data_changes(read_record(tmp_path), data) == []


def test_records_of_older_runs_count_no_earlier_runs(configuration, tmp_path):
    write_record(tmp_path, configuration, SimpleNamespace(splits={}), earlier_runs=2)
    assert read_record(tmp_path)["earlier_runs"] == 2
    file = tmp_path / "data.json"
    record = json.loads(file.read_text())
    del record["earlier_runs"]
    file.write_text(json.dumps(record))
    assert read_record(tmp_path) == {**record, "earlier_runs": 0}


@pytest.mark.parametrize("content", [None, "", "[]", '{"paths": 1}'])
def test_runs_without_a_record_of_their_data_resume(configuration, capsys, content):
    prepare(configuration)
    record = configuration.folder / "data.json"
    complete = json.loads(record.read_text())
    record.unlink() if content is None else record.write_text(content)
    prepare(configuration)
    assert "changed" not in capsys.readouterr().out
    assert json.loads(record.read_text()) == complete


def test_supervision_without_boxes_is_refused_without_a_folder(configuration):
    refused(configuration, "attention_supervision: .* boxes .* of the 3", attention_supervision=0.5)


def test_captions_without_topics_are_refused_without_a_folder(configuration):
    write_captions(dict.fromkeys(SPLITS, "on the"))
    refused(configuration, "concepts: expected content words .* of 3 images", concepts="topics")


def test_the_attributes_of_the_other_run_are_checked_before_its_weights_are_loaded(
    configuration, monkeypatch
):
    calls = []
    monkeypatch.setattr(preparation, "WarmStart", lambda folder: Start(calls))
    attributes = {"concepts": "attributes", "concept_count": 2, "start_from": "other"}
    prepare(configuration, **attributes, minimum_count=1)
    assert calls == ["check_settings", "check_vocabulary", ("dog", "red"), "load"]


@pytest.mark.parametrize("start", ["", "other"])
def test_a_lost_record_of_a_chain_is_reported(configuration, monkeypatch, caplog, start):
    monkeypatch.setattr(preparation, "WarmStart", lambda folder: Start([]))
    prepare(configuration, start_from=start)
    assert read_record(configuration.folder)["earlier_runs"] == (1 if start else 0)
    prepare(configuration, start_from=start)
    assert not caplog.messages
    (configuration.folder / "data.json").unlink()
    prepare(configuration, start_from=start)
    assert [message.split(" so ")[0] for message in caplog.messages] == (
        [f"{configuration.folder}: data.json is missing or damaged,"] if start else []
    )


class Start:
    """Records the calls of `WarmStart`."""

    earlier_runs = 1

    def __init__(self, calls):
        self.check_settings, self.check_vocabulary, self.load = (
            lambda _, name=name: calls.append(name)
            for name in ("check_settings", "check_vocabulary", "load")
        )
        self.check_attributes = lambda words: calls.append(tuple(sorted(words)))


def test_concepts_that_cannot_be_predicted_are_refused_without_a_folder(configuration, monkeypatch):
    message = r"^concept_count: expected at most \d+, the number of content words .* received 300;"
    refused(configuration, message, concepts="attributes", concept_count=300)
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    refused(configuration, r"^concepts: 'topics' need scikit-learn", concepts="topics")
