"""The true reason of an error, and the user's own path in it."""

import errno
import os

import pytest
import tensorflow as tf

from keras_aoa.utils.command_line import run
from keras_aoa.utils.errors import system_reason
from keras_aoa.utils.files import atomic_write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EDQUOT])
def test_an_exhausted_disk_or_file_table_is_not_called_lack_of_memory(number, capsys):
    reason = os.strerror(number)

    def fail(_):
        raise tf.errors.ResourceExhaustedError(None, None, f"/tmp/x.part; {reason} [Op:SaveV2]")

    with pytest.raises(SystemExit):
        run(fail, [])
    printed = capsys.readouterr().err
    assert printed.startswith(f"{reason}; ")
    assert "memory" not in printed


def test_lack_of_memory_has_no_reason_of_the_file_system():
    assert system_reason("OOM when allocating tensor with shape[100000,100000]") is None
    assert system_reason("failed to allocate memory: Cannot allocate memory") is None


@pytest.mark.parametrize("names_file", [True, False])
def test_a_failed_atomic_write_names_the_users_path(names_file, tmp_path):
    path = tmp_path / "scores.json"

    def fail():
        with atomic_write(path) as temporary:
            file = (str(temporary),) if names_file else ()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *file)

    with pytest.raises(OSError, match="No space") as caught:
        fail()
    assert caught.value.filename == str(path)
    assert ".part" not in str(caught.value)


def test_an_atomic_write_into_a_missing_folder_names_the_users_path(tmp_path):
    path = tmp_path / "missing" / "words.json"
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path) as temporary:
        temporary.write_text("")
    assert caught.value.filename == str(path)


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "a"):
        (tmp_path / "other").read_text()
    assert caught.value.filename == str(tmp_path / "other")
