"""Files are replaced when whole, and left as they were when writing breaks off."""

import pytest

from keras_aoa.utils.files import atomic_write, write_text


def test_file_is_replaced(tmp_path):
    path = tmp_path / "words.json"
    path.write_text("old")
    write_text(path, "new ½")
    assert path.read_text(encoding="utf-8") == "new ½"
    assert list(tmp_path.iterdir()) == [path]


def test_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "words.json"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_broken_off_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "words.json"
    path.write_text("old")

    def break_off():
        with atomic_write(path) as temporary:
            temporary.write_text("ne")
            raise OSError("no space left: the disk is full")

    with pytest.raises(OSError, match="full"):
        break_off()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
