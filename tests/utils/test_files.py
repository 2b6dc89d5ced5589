"""Files are replaced atomically, and stay unchanged if writing fails."""

import pytest

from keras_aoa.utils.files import atomic_write, write_text


def test_write_text_replaces_the_file(tmp_path):
    path = tmp_path / "words.json"
    path.write_text("old")
    write_text(path, "new ½")
    assert path.read_text(encoding="utf-8") == "new ½"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_file_is_complete(tmp_path):
    path = tmp_path / "words.json"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_failed_writing_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "words.json"
    path.write_text("old")

    def fail_while_writing():
        with atomic_write(path) as temporary:
            temporary.write_text("ne")
            raise OSError("no space left: the disk is full")

    with pytest.raises(OSError, match="full"):
        fail_while_writing()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
