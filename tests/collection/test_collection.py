"""Tests captions of collections: equal to single images, atomic, divided among workers, resumed."""

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
from threads import in_threads, one_at_a_time

from keras_aoa import caption
from keras_aoa.collection.captioner import ShardCaptioner
from keras_aoa.collection.folder import OutputFolder, describe
from keras_aoa.collection.shards import Shard, ShardError, find_shards
from keras_aoa.collection.work import ONE_CAPTION
from keras_aoa.inference.batches import BatchCaptioner
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
    return ShardCaptioner(BatchCaptioner(single, batch_size=4))


@pytest.fixture
def folder(tmp_path):
    return OutputFolder(tmp_path / "captions", {"run": "squares", "beam": 2})


def assert_equals_single_image(line, image, single):
    expected = single.caption(image)
    assert line["caption"] == expected.text
    assert line["log_prob"] == pytest.approx(expected.log_prob, abs=1e-4)
    assert tuple(word["word"] for word in line["words"]) == expected.words
    for word, weights in zip(line["words"], expected.attention, strict=True):
        assert word["weight"] == pytest.approx(weights.max(), abs=1e-4)
        # If two regions have nearly the same weight, either may be the strongest.
        strongest = expected.boxes[weights > weights.max() - 1e-4]
        assert np.abs(strongest - word["corners"]).max(axis=(1, 2)).min() < 1e-4


def test_batches_equal_single_images_and_unreadable_files_get_an_error(single, many, folder):
    good, bad = good_files(), bad_files()
    # Alternate readable and unreadable files, so that every unreadable one has a neighbor.
    names = [name for pair in itertools.zip_longest(good, bad) for name in pair if name]
    files = {name: {**good, **bad}[name] for name in names}
    assert len(files) == 20
    members = [(f"{name}.JPG", content) for name, content in files.items()]
    path = write_tar(folder.path / "mixed.tar", members)
    counts = many.caption(Shard(path), folder)
    lines = read_lines(folder.path / "mixed.jsonl")
    assert [line["image"] for line in lines] == [f"{name}.JPG" for name in files]
    for line, name in zip(lines, files, strict=True):
        if name in bad:
            assert set(line) == {"image", "error"}
            assert line["error"].startswith("expected a JPEG")
        else:
            assert_equals_single_image(line, files[name], single)
    assert counts == {"images": 20, "unreadable": 9, "left_out": 0}
    assert folder.record(Shard(path)).items() >= counts.items()


@pytest.mark.parametrize("kind", [*KINDS, "ensemble"])
def test_every_kind_of_run_gives_the_same_captions_in_batches(trained, kind, tmp_path, folder):
    if kind == "ensemble":
        other = untrained(trained, tmp_path)
        name = f"{trained.folder},{other.folder}"
    else:
        name = untrained(trained, tmp_path, regions=kind, **KINDS[kind]).folder
    single = ImageCaptioner(name, max_words=3)
    images = [file_of(photograph(30 + 9 * seed, 90, seed), "PNG") for seed in range(5)]
    files = [(f"{seed}.png", image) for seed, image in enumerate(images)]
    path = write_tar(tmp_path / f"{kind}.tar", [*files, ("text.png", b"no picture")])
    ShardCaptioner(BatchCaptioner(single, batch_size=4)).caption(Shard(path), folder)
    *lines, last = read_lines(folder.path / f"{kind}.jsonl")
    for line, image in zip(lines, images, strict=True):
        assert_equals_single_image(line, image, single)
    assert len({line["log_prob"] for line in lines}) == 5
    assert "error" in last


def test_threads_that_share_a_captioner_caption_one_shard_after_another(
    many, single, squares, tmp_path, folder, monkeypatch
):
    hypotheses = one_at_a_time(single.generator.hypotheses)
    monkeypatch.setattr(single.generator, "hypotheses", hypotheses)
    names = ("one", "two", "three")
    shards = [Shard(write_list(tmp_path / f"{name}.txt", [squares / "03.png"])) for name in names]
    counts = in_threads(lambda shard: many.caption(shard, folder), shards)
    assert [count["images"] for count in counts] == [1, 1, 1]
    assert len({(folder.path / f"{name}.jsonl").read_text() for name in names}) == 1


def test_a_list_may_contain_paths_that_are_not_images(many, single, squares, tmp_path, folder):
    (tmp_path / "folder.png").mkdir()
    huge = tmp_path / "huge.png"
    with open(huge, "wb") as file:
        file.truncate(2**28 + 1)
    invalid = ["nowhere.png", tmp_path / "folder.png", huge, "zero\0byte.png", "/dev/zero"]
    images = [invalid[0], squares / "03.png", *invalid[1:], squares / "04.png"]
    path = write_list(tmp_path / "list.txt", ["", *images])
    assert many.caption(Shard(path), folder)["unreadable"] == 5
    lines = read_lines(folder.path / "list.jsonl")
    assert [line["image"] for line in lines] == [str(image) for image in images]
    not_a_file = "found something that is not a file"
    errors = ["No such file", "", not_a_file, "at most 268 MB", "null byte", not_a_file, ""]
    for line, error, image in zip(lines, errors, images, strict=True):
        if error:
            assert set(line) == {"image", "error"}
            assert error in line["error"]
        else:
            assert_equals_single_image(line, image, single)


def test_a_truncated_shard_writes_nothing_and_is_captioned_once_complete(many, tmp_path, folder):
    files = [(f"{seed}.jpg", file_of(photograph(seed=seed))) for seed in range(9)]
    path = tmp_path / "part.tar"
    write_tar(path, files)
    complete = path.read_bytes()
    for size in (len(complete) // 2, 700, len(complete) // 2 // 512 * 512):
        path.write_bytes(complete[:size])
        with pytest.raises(ShardError, match=r"part\.tar: expected a complete, uncompressed tar"):
            many.caption(Shard(str(path)), folder)
        assert not list(folder.path.glob("**/part*"))
    path.write_bytes(complete)
    assert many.caption(Shard(str(path)), folder)["images"] == 9
    assert len(read_lines(folder.path / "part.jsonl")) == 9


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def loaded(many, monkeypatch):
    """Replace `load_captioner` by a loaded run; returns the list of its calls' arguments."""
    calls = []

    def load(*settings):
        calls.append(settings)
        return many

    monkeypatch.setattr("keras_aoa.collection.work.load_captioner", load)
    return calls


@pytest.fixture
def shards(squares, tmp_path):
    """Four lists, of which the last is empty, and an archive with one unreadable image."""
    for number in range(3):
        images = [squares / f"{3 * number + index:02d}.png" for index in range(3)]
        write_list(tmp_path / f"part-{number}.txt", images)
    write_list(tmp_path / "part-3.txt", [])
    image = (squares / "09.png").read_bytes()
    files = [("a.png", image), ("b.png", b"text"), ("a.txt", b"a caption")]
    write_tar(tmp_path / "part-4.tar", files)
    return tmp_path


def test_two_workers_divide_the_shards_and_a_third_command_has_nothing_to_do(
    trained, shards, loaded, capsys
):
    out = shards / "captions"
    command = [str(trained.folder), "--shards", str(shards / "part-*"), "--output", str(out)]
    command += ["--batch-size", "2"]
    times = []
    for worker in (0, 1):
        caption.main([*command, "--worker", f"{worker}/2"])
        times.append({path.name: path.stat().st_mtime_ns for path in out.glob("*.jsonl")})
    assert set(times[0]) == {"part-0.jsonl", "part-2.jsonl", "part-4.jsonl"}
    assert set(times[1]) == {f"part-{number}.jsonl" for number in range(5)}
    assert times[1].items() >= times[0].items(), "worker 1 does not repeat worker 0's shards"
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        f"{out}: 3 of 3 shards are finished, 0 of them by earlier commands; 8 images, 1 of them "
        'unreadable (their lines have an "error"); 1 other files in archives, ignored.',
        f"{out}: 2 of 2 shards are finished, 0 of them by earlier commands; 3 images.",
    ]
    assert (out / "part-3.jsonl").read_text() == ""
    names = [line["image"] for path in sorted(out.glob("*.jsonl")) for line in read_lines(path)]
    assert [os.path.basename(name) for name in names[:9]] == [f"{n:02d}.png" for n in range(9)]
    assert names[9:] == ["a.png", "b.png"]
    caption.main(command)
    settings = str(trained.folder), SearchSettings(), 2, ONE_CAPTION
    assert loaded == [settings] * 2, "not loaded a third time"
    assert capsys.readouterr().out.startswith(f"{out}: 5 of 5 shards are finished, 5 of them by")
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.jsonl")} == times[1]


def test_a_damaged_shard_does_not_stop_the_others(trained, shards, loaded, capsys):
    (shards / "part-1.txt").write_text("nowhere.png\nnor/here.png\n")
    (shards / "part-4.tar").write_bytes(b"no archive" * 100)
    out = shards / "captions"
    command = [str(trained.folder), "--shards", str(shards / "part-*"), "--output", str(out)]
    with pytest.raises(UserError, match="2 of 5 shards could not be read"):
        caption.main(command)
    printed = capsys.readouterr()
    assert "part-1.txt: expected paths of images, but no listed file exists" in printed.err
    assert "part-4.tar: expected a complete, uncompressed tar archive" in printed.err
    assert "3 of 5 shards are finished" in printed.out
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"part-{number}.jsonl" for number in (0, 2, 3)),
        "progress",
        "settings.json",
    ]


def test_a_killed_command_resumes_with_the_interrupted_shard(trained, many, shards, squares, capfd):
    images = [squares / f"{number % 15:02d}.png" for number in range(300)]
    write_list(shards / "part-1.txt", images)
    out = shards / "captions"
    lists = [str(shards / f"part-{number}.txt") for number in (0, 1, 2)]
    command = ["--shards", *lists, "--output", str(out), "--batch-size", "4"]
    program = [sys.executable, "-m", "keras_aoa.caption", str(trained.folder), *command]
    process = subprocess.Popen(program, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    unfinished = []
    while not unfinished and process.poll() is None and time.monotonic() < deadline:
        unfinished = [p for p in out.glob("progress/part-1.*.part.jsonl") if p.stat().st_size]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert unfinished, "the command was killed in the middle of the second shard"
    assert [path.name for path in out.glob("*.jsonl")] == ["part-0.jsonl"]
    before = (out / "part-0.jsonl").stat().st_mtime_ns
    assert unfinished[0].exists(), "the killed process left its temporary file"
    folder = OutputFolder(out, describe(open_run(trained.folder), SearchSettings()))
    remaining = [shard for shard in find_shards(lists) if folder.record(shard) is None]
    assert [shard.name for shard in remaining] == ["part-1", "part-2"]
    for shard in remaining:
        many.caption(shard, folder)
    assert not unfinished[0].exists()
    assert (out / "part-0.jsonl").stat().st_mtime_ns == before
    lines = read_lines(out / "part-1.jsonl")
    assert [line["image"] for line in lines] == [str(image) for image in images]
    assert sorted(path.name for path in (out / "progress").iterdir()) == [
        f"part-{number}.json" for number in (0, 1, 2)
    ]


def test_two_processes_writing_the_same_shard_leave_one_complete_file(many, shards, folder):
    shard = find_shards([str(shards / "part-0.txt")])[0]
    with folder.writing(shard, {"images": 3}) as file:
        file.write("written by the slower process\n")
        file.flush()
        many.caption(shard, folder)
    assert len(read_lines(folder.path / "part-0.jsonl")) == 3
    assert folder.record(shard)["images"] == 3
    assert [path.name for path in folder.path.glob("progress/*")] == ["part-0.json"]


def test_another_search_or_another_run_is_refused(trained, shards, loaded, tmp_path):
    out = shards / "captions"
    command = ["--shards", str(shards / "part-3.txt"), "--output", str(out)]
    caption.main([str(trained.folder), *command])
    with pytest.raises(UserError, match=r"made by run squares with beam 2, received squares .* 5;"):
        caption.main([str(trained.folder), *command, "--beam", "5"])
    copy = tmp_path / "copy"
    shutil.copytree(trained.folder, copy)
    caption.main([str(copy), *command, "--beam", "2"])  # the same run under another name
    other = untrained(trained, tmp_path / "runs")
    with pytest.raises(UserError, match=r"with best \w+, .*received untrained with best"):
        caption.main([str(other.folder), *command])
    assert [path.name for path in out.glob("*.jsonl")] == ["part-3.jsonl"]


def test_changed_settings_are_detected_before_a_shard_is_finished(many, shards, folder):
    shard = find_shards([str(shards / "part-0.txt")])[0]
    settings = folder.path / "settings.json"
    with pytest.raises(UserError, match="made by run squares with beam 3"):
        many.caption(shard, folder, lambda _: settings.write_text('{"run": "squares", "beam": 3}'))
    assert not (folder.path / "part-0.jsonl").exists()
    settings.write_text("no json")
    with pytest.raises(UserError, match="damaged"):
        folder.check()
