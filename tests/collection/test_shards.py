"""Tests shards, their contents, their division among workers, and the output folder."""

import itertools
import os
import tarfile
import unicodedata

import pytest
from collection_files import write_list, write_tar
from hypothesis import given
from hypothesis import strategies as st

from keras_aoa import caption
from keras_aoa.collection.folder import OutputFolder
from keras_aoa.collection.shards import Contents, Shard, ShardError, find_shards, worker_shards
from keras_aoa.utils.errors import UserError

RUN = {"run": "mine", "best": "1234", "beam": 3}


def entries(path):
    contents = Contents(Shard(str(path)))
    return list(contents), contents.left_out


def member(name, kind, target=""):
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def test_images_of_an_archive_are_recognized_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["../x.jpg", "/etc/x.PNG", "a/b/ü ½.webp", "new\nline.gif", "0001.jpg", "0001.jpg"]
    names += [os.fsdecode(b"latin \xff.bmp"), "a" * 300 + ".jpeg"]
    files = [(name, str(index).encode()) for index, name in enumerate(names)]
    others = [
        ("0001.json", b"{}"),
        ("0001.txt", b"a"),
        ("jpg", b""),
        member("d.jpg", tarfile.DIRTYPE),
    ]
    path = write_tar(tmp_path / "mixed.tar", [*files[:3], *others, *files[3:]])
    images, left_out = entries(path)
    assert [(entry.name, entry.content) for entry in images] == files
    assert left_out == 3
    assert os.listdir(tmp_path) == ["mixed.tar"], "nothing is unpacked"
    assert not os.path.exists(tmp_path.parent / "x.jpg")


def test_links_devices_and_oversized_files_get_an_error(tmp_path):
    kinds = {"to.jpg": tarfile.SYMTYPE, "hard.jpg": tarfile.LNKTYPE, "pipe.jpg": tarfile.FIFOTYPE}
    not_files = [member(name, kind, "/etc/passwd") for name, kind in kinds.items()]
    giant = tarfile.TarInfo("giant.jpg")
    path = tmp_path / "mixed.tar"
    write_tar(path, [("a.jpg", b"a"), *not_files])
    with open(path, "r+b") as file:
        giant.size = 2**28 + 512
        file.seek(4 * 1024 - 512 - 1024)  # after one file with content and three headers
        file.write(giant.tobuf())
        file.truncate(file.tell() + giant.size + 1024)
    images, _ = entries(path)
    assert [entry.name for entry in images] == ["a.jpg", *kinds, "giant.jpg"]
    assert [entry.content for entry in images] == [b"a", None, None, None, None]
    assert all("link or a device" in entry.error for entry in images[1:4])
    assert "at most 268 MB" in images[4].error


def test_a_truncated_archive_is_refused(tmp_path):
    path = tmp_path / "part.tar"
    write_tar(path, [(f"{number}.jpg", bytes(600)) for number in range(4)])
    complete = path.read_bytes()
    end = 4 * (512 + 1024)
    assert len(entries(path)[0]) == 4
    path.write_bytes(complete[: end + 512])
    assert len(entries(path)[0]) == 4
    for size in (0, 100, 512, 600, 1536, 2 * 1536, 2 * 1536 + 300, 3 * 1536 + 700, end):
        path.write_bytes(complete[:size])
        with pytest.raises(ShardError, match="damaged or truncated"):
            entries(path)
    path.write_bytes(complete[:1536] + b"x" * 512 + complete[2048:])
    with pytest.raises(ShardError, match="no end mark at byte 1536"):
        entries(path)


def test_an_archive_without_images_is_refused_unless_it_is_empty(tmp_path):
    path = write_tar(tmp_path / "empty.tar", [member("folder", tarfile.DIRTYPE)])
    assert entries(path) == ([], 0)
    path = write_tar(tmp_path / "texts.tar", [("0001", b"image"), ("0002", b"image")])
    with pytest.raises(ShardError, match="found none among 2 files"):
        entries(path)


def test_a_list_keeps_its_order_although_files_are_prefetched(tmp_path):
    paths = [tmp_path / f"{number}" for number in range(60)]
    for path in paths:
        path.write_text(path.name)
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\r\n\n".join(os.fsencode(path) for path in paths))
    images, _ = entries(listed)
    assert [(entry.name, entry.content) for entry in images] == [
        (str(path), path.name.encode()) for path in paths
    ]
    paths[7].unlink()
    assert [entry.name for entry in entries(listed)[0] if entry.error] == [str(paths[7])]


# --- Finding and dividing shards ------------------------------------------------------------------


def test_names_and_patterns_give_sorted_shards_without_duplicates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.tar", "a.txt", "c[1].tar"):
        (tmp_path / name).touch()
    shards = find_shards(["*.tar", "a.txt", str(tmp_path / "b.tar"), "c[1].tar"])
    assert [shard.name for shard in shards] == ["a", "b", "c[1]"]


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["no-*.tar"], r"expected files, found nothing for 'no-\*\.tar'"),
        (["a.tar.gz"], "expected tar archives .* received 'a.tar.gz'"),
        (["folder.tar"], "expected tar archives .* received 'folder.tar'"),
        (["a.tar", "a.txt"], r"'a\.tar' and 'a\.txt' would both be written to a\.jsonl"),
        (["*/a.tar", "a.tar"], "would both be written"),
    ],
)
def test_a_file_that_is_not_a_shard_is_refused(names, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.tar").mkdir()
    for name in ("a.tar", "a.txt", "a.tar.gz", "folder.tar/a.tar"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=line):
        find_shards(names)


@given(st.integers(0, 30), st.integers(1, 9))
def test_every_shard_belongs_to_exactly_one_worker(count, workers):
    shards = list(range(count))
    parts = [worker_shards(shards, f"{number}/{workers}") for number in range(workers)]
    assert sorted(itertools.chain(*parts)) == shards
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert worker_shards(shards, "") == shards


@pytest.mark.parametrize("worker", ["4/4", "1", "0/0", "-1/2", "a/b", "1/2/3", "0.5/2"])
def test_an_invalid_worker_is_refused(worker):
    with pytest.raises(UserError, match="worker: expected I/N, where I counts N workers from 0"):
        worker_shards([1, 2], worker)


# --- The output folder ----------------------------------------------------------------------------


def finish(folder, path, text="{}\n"):
    shard = Shard(str(path))
    with folder.writing(shard, {"images": 1}) as file:
        file.write(text)
    return shard


def test_a_shard_is_finished_only_when_it_is_complete(tmp_path):
    folder = OutputFolder(tmp_path / "out", RUN)
    path = write_list(tmp_path / "part-1.txt", ["a"])

    def write_half():
        with folder.writing(Shard(path), {}) as file:
            file.write("half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert folder.record(Shard(path)) is None
    assert os.listdir(folder.path / "progress") == []
    assert not folder.file(Shard(path)).exists()
    leftovers = [folder.path / f"progress/{name}.1-2.part.jsonl" for name in ("part-1", "part-1.b")]
    for file in leftovers:
        file.touch()
    shard = finish(folder, path)
    assert [file.exists() for file in leftovers] == [False, True], "only this shard's is removed"
    assert OutputFolder(tmp_path / "out", RUN).record(shard)["images"] == 1
    folder.file(shard).unlink()
    assert folder.record(shard) is None, "removed captions are made again"


def test_captions_of_another_shard_of_the_same_name_are_refused(tmp_path):
    folder = OutputFolder(tmp_path / "out", RUN)
    finish(folder, write_list(tmp_path / "part-1.txt", ["a"]))
    for other in (["b"], ["a", "b"]):
        changed = Shard(write_list(tmp_path / "part-1.txt", other))
        with pytest.raises(UserError, match=r"part-1\.txt, whose content differs from .*part-1"):
            folder.record(changed)
    (tmp_path / "moved").mkdir()
    moved = Shard(write_list(tmp_path / "moved/part-1.txt", ["a"]))
    assert folder.record(moved)["images"] == 1


@pytest.mark.parametrize(("name", "changed_at"), [("a.txt", 900_000), ("a.tar", 999_999)])
def test_a_shard_that_differs_after_its_start_has_another_identity(tmp_path, name, changed_at):
    path = tmp_path / name
    content = bytearray(b"0123456789\n" * 100_000)[:1_000_000]
    path.write_bytes(content)
    before = Shard(str(path)).identity
    assert Shard(str(path)).identity == before
    content[changed_at] ^= 1
    path.write_bytes(content)
    assert Shard(str(path)).identity != before


def test_a_shard_with_a_damaged_record_is_not_finished(tmp_path):
    folder = OutputFolder(tmp_path / "out", RUN)
    shard = finish(folder, write_list(tmp_path / "part-1.txt", ["a"]))
    for damaged in ("null", "{}", "{"):
        (folder.path / "progress/part-1.json").write_text(damaged)
        assert folder.record(shard) is None


def test_a_folder_with_foreign_files_is_refused_and_unchanged(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "part-1.jsonl").write_text("foreign")
    with pytest.raises(UserError, match=r"found part-1\.jsonl without settings\.json"):
        OutputFolder(foreign, RUN)
    assert os.listdir(foreign) == ["part-1.jsonl"]
    with pytest.raises(UserError, match="expected a folder for captions, found a file"):
        OutputFolder(foreign / "part-1.jsonl", RUN)
    (foreign / "settings.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="found no file or a damaged file; restore"):
        OutputFolder(foreign, RUN)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"beam": 4}, "by run mine with beam 3, received mine with beam 4;"),
        ({"run": "other", "best": "5"}, "by run mine with best 1234, received other with best 5;"),
        ({"edge_model": "77"}, "with edge_model None, received mine with edge_model 77;"),
    ],
)
def test_an_error_names_the_settings_that_differ(changes, line, tmp_path):
    OutputFolder(tmp_path, RUN)
    with pytest.raises(UserError, match=line):
        OutputFolder(tmp_path, RUN | changes)
    OutputFolder(tmp_path, RUN | {"run": "renamed"})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--output", "out"],
            r"output: expected FILE\.jsonl or FILE\.csv, received 'out'; a folder applies only",
        ),
        (["--shards", "a.tar"], "output: expected a folder"),
        (["photo.jpg", "--shards", "a.tar", "--output", "out"], "images: cannot be combined"),
        (["--shards", "a.tar", "--output", "o", "--pictures", "p"], "pictures: cannot be combined"),
        (["--shards", "a.tar", "--output", "o", "--batch-size", "0"], "batch_size: expected at"),
        (["--shards", "a.tar", "--output", "o", "--runner-options", "x"], "expected a --runner"),
        (
            ["--shards", "a", "--output", "o", "--runner", "r", "--worker", "0/2"],
            "worker: cannot be combined",
        ),
        (["--shards", "a.tar", "--output", "out"], "found nothing for 'a.tar'"),
        ([], "expected image files or folders after the run, received none"),
    ],
)
def test_incompatible_settings_are_refused(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=line):
        caption.main(["run", *arguments])
    assert os.listdir(tmp_path) == []


def test_files_that_macos_adds_to_an_archive_are_left_out(tmp_path):
    companions = ["._a.jpg", "f/._a.jpg", "__MACOSX/f/a.jpg"]
    files = [(name, b"\0\5\26\7") for name in companions]
    path = write_tar(tmp_path / "x.tar", [files[0], ("a.jpg", b"a"), *files[1:]])
    contents = Contents(Shard(str(path)))
    assert [entry.name for entry in contents] == ["a.jpg"]
    assert contents.left_out == 3


def test_listed_names_are_found_in_the_other_unicode_form(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "é.jpg")).write_bytes(b"image")
    name = str(tmp_path / unicodedata.normalize("NFC", "é.jpg"))
    (entry,), _ = entries(write_list(tmp_path / "l.txt", [name]))
    assert (entry.name, entry.content) == (name, b"image")
