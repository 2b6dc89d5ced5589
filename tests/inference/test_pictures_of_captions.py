"""Names of the pictures that `keras_aoa.caption --pictures` writes."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_aoa.caption import new_file

COUNT = 100


def write(folder, owner):
    """Write pictures of one name; each holds its owner."""
    for _ in range(COUNT):
        with new_file(folder, "1") as path:
            temporary = path.with_name(f"{path.name}.{owner}")
            temporary.write_text(owner)
            temporary.replace(path)


def owners(folder):
    texts = [path.read_text() for path in folder.iterdir()]
    return {owner: texts.count(owner) for owner in texts}


def test_two_processes_keep_all_pictures_of_one_name(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write, args=(tmp_path, owner)) for owner in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert owners(tmp_path) == {"a": COUNT, "b": COUNT}
    assert {"1.png", "1-2.png", f"1-{2 * COUNT}.png"} <= {path.name for path in tmp_path.iterdir()}


def test_two_threads_keep_all_pictures_of_one_name(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda owner: write(tmp_path, owner), "ab"))
    assert owners(tmp_path) == {"a": COUNT, "b": COUNT}


def test_an_existing_picture_is_kept_and_a_failed_one_removed(tmp_path):
    (tmp_path / "1.png").write_text("mine")

    def fail():
        with new_file(tmp_path, "1") as path:
            assert path.name == "1-2.png"
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert owners(tmp_path) == {"mine": 1}
