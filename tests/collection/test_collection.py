"""Captions of collections: the same as one by one, whole or not at all, shared out, restarted."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from collection_files import read_lines, untrained, write_list, write_tar
from pictures_of_all_kinds import bad_files, file_of, good_files, photograph

from keras_aoa import caption
from keras_aoa.collection.captioner import ShardCaptioner
from keras_aoa.collection.folder import OutputFolder, describe
from keras_aoa.collection.shards import Shard, ShardError, find_shards
from keras_aoa.inference.image_captioner import ImageCaptioner
from keras_aoa.runs.ensemble import open_run
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError

KINDS = {
    "transformer": {"fit": "crop", "transformer_filter": "own"},
    "proposals": {"proposals_size": 40, "proposals_fit": "pad", "test_proposals": 5},
}


@pytest.fixture(scope="module")
def single(trained):
    return ImageCaptioner(trained.folder)


@pytest.fixture(scope="module")
def many(single):
    return ShardCaptioner(single, batch_size=4)


@pytest.fixture
def folder(tmp_path):
    return OutputFolder(tmp_path / "captions", {"run": "squares", "beam": 2})


def assert_said_as_one_by_one(line, image, single):
    expected = single.caption(image)
    assert line["caption"] == expected.text
    assert line["log_prob"] == pytest.approx(expected.log_prob, abs=1e-4)
    assert tuple(word["word"] for word in line["words"]) == expected.words
    for word, weights in zip(line["words"], expected.attention, strict=True):
        assert word["weight"] == pytest.approx(weights.max(), abs=1e-4)
        # Where two regions weigh nearly the same, either is the strongest.
        near = expected.boxes[weights > weights.max() - 1e-4]
        assert np.abs(near - word["corners"]).max(axis=(1, 2)).min() < 1e-4


def test_every_image_is_said_as_one_by_one_and_every_other_file_is_told(single, many, folder):
    good, bad = good_files(), bad_files()
    # A good one first and last, and one beside every bad one.
    names = [name for pair in itertools.zip_longest(good, bad) for name in pair if name]
    files = {name: {**good, **bad}[name] for name in names}
    assert len(files) == 20
    path = write_tar(folder.path / "odd.tar", [(f"{name}.JPG", one) for name, one in files.items()])
    counts = many.caption(Shard(path), folder)
    lines = read_lines(folder.path / "odd.jsonl")
    assert [line["image"] for line in lines] == [f"{name}.JPG" for name in files]
    for line, name in zip(lines, files, strict=True):
        if name in bad:
            assert set(line) == {"image", "error"}
            assert line["error"].startswith("expected a JPEG")
        else:
            assert_said_as_one_by_one(line, files[name], single)
    assert counts == {"images": 20, "unreadable": 9, "left_out": 0}
    assert folder.record(Shard(path)).items() >= counts.items()


@pytest.mark.parametrize("kind", [*KINDS, "ensemble"])
def test_every_kind_of_run_says_the_same_in_batches(trained, kind, tmp_path, folder):
    if kind == "ensemble":
        other = untrained(trained, tmp_path)
        name = f"{trained.folder},{other.folder}"
    else:
        name = untrained(trained, tmp_path, regions=kind, **KINDS[kind]).folder
    single = ImageCaptioner(name, max_words=3)
    images = [file_of(photograph(30 + 9 * seed, 90, seed), "PNG") for seed in range(5)]
    files = [(f"{seed}.png", image) for seed, image in enumerate(images)]
    path = write_tar(tmp_path / f"{kind}.tar", [*files, ("text.png", b"no picture")])
    ShardCaptioner(single, batch_size=4).caption(Shard(path), folder)
    *lines, last = read_lines(folder.path / f"{kind}.jsonl")
    for line, image in zip(lines, images, strict=True):
        assert_said_as_one_by_one(line, image, single)
    assert len({line["log_prob"] for line in lines}) == 5
    assert "error" in last


def test_a_list_of_paths_and_what_is_at_their_ends(many, single, squares, tmp_path, folder):
    (tmp_path / "folder.png").mkdir()
    huge = tmp_path / "huge.png"
    with open(huge, "wb") as file:
        file.truncate(2**28 + 1)
    odd = ["nowhere.png", tmp_path / "folder.png", huge, "zero\0byte.png", "/dev/zero"]
    images = [odd[0], squares / "03.png", *odd[1:], squares / "04.png"]
    path = write_list(tmp_path / "list.txt", ["", *images])
    assert many.caption(Shard(path), folder)["unreadable"] == 5
    lines = read_lines(folder.path / "list.jsonl")
    assert [line["image"] for line in lines] == [str(image) for image in images]
    expected = ["No such file", "", "no file", "at most 268 MB", "null byte", "no file", ""]
    for line, error, image in zip(lines, expected, images, strict=True):
        if error:
            assert set(line) == {"image", "error"}
            assert error in line["error"]
        else:
            assert_said_as_one_by_one(line, image, single)


def test_a_shard_that_breaks_off_leaves_nothing_and_is_done_once_it_is_whole(
    many, tmp_path, folder
):
    files = [(f"{seed}.jpg", file_of(photograph(seed=seed))) for seed in range(9)]
    path = tmp_path / "part.tar"
    write_tar(path, files)
    whole = path.read_bytes()
    for size in (len(whole) // 2, 700, len(whole) // 2 // 512 * 512):
        path.write_bytes(whole[:size])
        with pytest.raises(ShardError, match=r"part\.tar: expected a whole tar archive"):
            many.caption(Shard(str(path)), folder)
        assert not list(folder.path.glob("**/part*"))
    path.write_bytes(whole)
    assert many.caption(Shard(str(path)), folder)["images"] == 9
    assert len(read_lines(folder.path / "part.jsonl")) == 9


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def loaded(many, monkeypatch):
    """The run is loaded already; the list of what it was asked for with."""
    asked = []

    def load(*settings):
        asked.append(settings)
        return many

    monkeypatch.setattr("keras_aoa.collection.work.load_captioner", load)
    return asked


@pytest.fixture
def shards(squares, tmp_path):
    """Four lists, the last of them empty, and an archive of which one file is no picture."""
    for number in range(3):
        images = [squares / f"{3 * number + place:02d}.png" for place in range(3)]
        write_list(tmp_path / f"part-{number}.txt", images)
    write_list(tmp_path / "part-3.txt", [])
    image = (squares / "09.png").read_bytes()
    files = [("a.png", image), ("b.png", b"text"), ("a.txt", b"a caption")]
    write_tar(tmp_path / "part-4.tar", files)
    return tmp_path


def test_two_workers_share_the_shards_and_a_third_command_has_nothing_to_do(
    trained, shards, loaded, capsys
):
    out = shards / "captions"
    command = [str(trained.folder), "--shards", str(shards / "part-*"), "--output", str(out)]
    command += ["--batch-size", "2"]
    made = []
    for worker in (0, 1):
        caption.main([*command, "--worker", f"{worker}/2"])
        made.append({path.name: path.stat().st_mtime_ns for path in out.glob("*.jsonl")})
    assert set(made[0]) == {"part-0.jsonl", "part-2.jsonl", "part-4.jsonl"}
    assert set(made[1]) == {f"part-{number}.jsonl" for number in range(5)}
    assert made[1].items() >= made[0].items(), "nobody does another's work again"
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{out}: 3 of 3 shards are finished, 0 of them were before; 8 images, 1 of them unreadable "
        '(their lines have an "error"); 1 files in archives that are no images by their names.',
        f"{out}: 2 of 2 shards are finished, 0 of them were before; 3 images.",
    ]
    assert (out / "part-3.jsonl").read_text() == ""
    names = [line["image"] for path in sorted(out.glob("*.jsonl")) for line in read_lines(path)]
    assert [os.path.basename(name) for name in names[:9]] == [f"{n:02d}.png" for n in range(9)]
    assert names[9:] == ["a.png", "b.png"]
    caption.main(command)
    assert loaded == [(str(trained.folder), SearchSettings(), 2)] * 2, "no third time"
    assert capsys.readouterr().out.startswith(f"{out}: 5 of 5 shards are finished, 5 of them were")
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.jsonl")} == made[1]


def test_a_broken_shard_does_not_stop_the_others(trained, shards, loaded, capsys):
    (shards / "part-1.txt").write_text("nowhere.png\nnor/here.png\n")
    (shards / "part-4.tar").write_bytes(b"no archive" * 100)
    out = shards / "captions"
    command = [str(trained.folder), "--shards", str(shards / "part-*"), "--output", str(out)]
    with pytest.raises(UserError, match="2 of 5 shards could not be read"):
        caption.main(command)
    said = capsys.readouterr()
    assert "part-1.txt: expected paths of images, found none of its files, the first is" in said.err
    assert "part-4.tar: expected a whole tar archive" in said.err
    assert "3 of 5 shards are finished" in said.out
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"part-{number}.jsonl" for number in (0, 2, 3)),
        "progress",
        "settings.json",
    ]


def test_a_killed_command_goes_on_with_the_shard_it_was_at(trained, many, shards, squares, capfd):
    images = [squares / f"{number % 15:02d}.png" for number in range(600)]
    write_list(shards / "part-1.txt", images)
    out = shards / "captions"
    lists = [str(shards / f"part-{number}.txt") for number in (0, 1, 2)]
    command = ["--shards", *lists, "--output", str(out), "--batch-size", "4"]
    program = [sys.executable, "-m", "keras_aoa.caption", str(trained.folder), *command]
    process = subprocess.Popen(program, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    started = []
    while not started and process.poll() is None and time.monotonic() < deadline:
        started = [p for p in out.glob("progress/part-1.*.part.jsonl") if p.stat().st_size]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert started, "it was killed in the middle of the second shard"
    assert [path.name for path in out.glob("*.jsonl")] == ["part-0.jsonl"]
    before = (out / "part-0.jsonl").stat().st_mtime_ns
    assert started[0].exists(), "what a killed process left"
    folder = OutputFolder(out, describe(open_run(trained.folder), SearchSettings()))
    todo = [shard for shard in find_shards(lists) if folder.record(shard) is None]
    assert [shard.name for shard in todo] == ["part-1", "part-2"]
    for shard in todo:
        many.caption(shard, folder)
    assert not started[0].exists()
    assert (out / "part-0.jsonl").stat().st_mtime_ns == before
    lines = read_lines(out / "part-1.jsonl")
    assert [line["image"] for line in lines] == [str(image) for image in images]
    assert sorted(path.name for path in (out / "progress").iterdir()) == [
        f"part-{number}.json" for number in (0, 1, 2)
    ]


def test_two_at_the_same_shard_leave_one_whole_file(many, shards, folder):
    shard = find_shards([str(shards / "part-0.txt")])[0]
    with folder.writing(shard, {"images": 3}) as file:
        file.write("the slower one's\n")
        file.flush()
        many.caption(shard, folder)
    assert len(read_lines(folder.path / "part-0.jsonl")) == 3
    assert folder.record(shard)["images"] == 3
    assert [path.name for path in folder.path.glob("progress/*")] == ["part-0.json"]


def test_captions_by_another_search_or_another_run_are_refused(trained, shards, loaded, tmp_path):
    out = shards / "captions"
    command = ["--shards", str(shards / "part-3.txt"), "--output", str(out)]
    caption.main([str(trained.folder), *command])
    with pytest.raises(UserError, match=r"made by run squares with beam 2, received squares .* 5;"):
        caption.main([str(trained.folder), *command, "--beam", "5"])
    copy = tmp_path / "copy"
    shutil.copytree(trained.folder, copy)
    caption.main([str(copy), *command, "--beam", "2"])  # the same by another name
    other = untrained(trained, tmp_path / "runs")
    with pytest.raises(UserError, match=r"with best \w+, .*received untrained with best"):
        caption.main([str(other.folder), *command])
    assert [path.name for path in out.glob("*.jsonl")] == ["part-3.jsonl"]


def test_settings_that_change_meanwhile_are_noticed_before_a_shard_is_finished(
    many, shards, folder
):
    shard = find_shards([str(shards / "part-0.txt")])[0]
    settings = folder.path / "settings.json"
    with pytest.raises(UserError, match="made by run squares with beam 3"):
        many.caption(shard, folder, lambda _: settings.write_text('{"run": "squares", "beam": 3}'))
    assert not (folder.path / "part-0.jsonl").exists()
    settings.write_text("no json")
    with pytest.raises(UserError, match="damaged"):
        folder.check()
