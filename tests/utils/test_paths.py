"""Tests of paths: URLs, files that desktops add, Unicode forms, and output files."""

import unicodedata

import pytest

from keras_aoa.caption import image_files
from keras_aoa.data.images.file_names import find_images
from keras_aoa.utils.command_line import refuse_urls, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_output, check_writable, is_desktop_file, on_disk


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs/a", "gs://bucket/captioner"],
        ["--output", "gs://bucket/captioner"],
        ["--output=gs://bucket/captioner"],
        ["--runner-options", "temp_location=gs://b", "--data", "gs://bucket/captioner"],
    ],
)
def test_urls_in_place_of_paths_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(lambda _: pytest.fail("the command ran"), arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "gs://bucket/captioner: expected a path on this machine, received a URL; mount it as a "
        "folder, or copy the files.\n"
    )


def test_settings_that_may_be_urls_and_windows_paths_are_not_refused():
    refuse_urls(["--base-url", "https://mirror.org/coco", "--runner_options", "gs://b", "x"])
    refuse_urls(["hf://owner/name", "https://x.org/captioner.zip#sha256=0a"])
    refuse_urls(["C:/photos/a.jpg", "a:b", "12:30//x", "--preprocessing="])


def test_urls_are_refused_as_outputs_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for check in (check_writable, check_output):
        with pytest.raises(UserError, match=r"^s3://b/x.json: expected a path on this machine"):
            check("s3://b/x.json")
    assert not list(tmp_path.iterdir())


def test_an_output_file_may_be_in_a_new_folder_but_not_be_a_folder(tmp_path):
    check_output(tmp_path / "new/folder/x.json")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="expected a file to write, found a folder"):
        check_output(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="expected a folder that can be written"):
        check_output(tmp_path / "file/x.json")


def test_files_that_desktops_add_are_recognized():
    added = ("._a.jpg", "f/._a.jpg", ".DS_Store", "f/Thumbs.db", "desktop.ini", "__MACOSX/f/a.jpg")
    assert all(map(is_desktop_file, added))
    assert not any(map(is_desktop_file, ("a.jpg", "_.jpg", ".a.jpg", "f._a.jpg", "")))


def test_folders_leave_out_files_that_desktops_add(tmp_path):
    for name in ("b.jpg", "._b.jpg", "a.PNG", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).touch()
    assert image_files([tmp_path]) == [tmp_path / "a.PNG", tmp_path / "b.jpg"]
    (tmp_path / "a.PNG").unlink()
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(UserError, match="expected a folder of images"):
        image_files([tmp_path])


def test_images_of_folders_and_skipped_files_are_found_in_order(tmp_path):
    for name in ("b.jpg", "a.HEIC", "._b.jpg", "notes.txt", "sub/c.png", "sub/d.csv", ".git/e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files, skipped = find_images([tmp_path, tmp_path / "notes.txt"])
    assert files == [tmp_path / name for name in ("a.HEIC", "b.jpg", "notes.txt")]
    assert skipped == [tmp_path / "notes.txt"]
    found = find_images([tmp_path], recursive=True)
    assert found.files == [tmp_path / name for name in ("a.HEIC", "b.jpg", "sub/c.png")]
    assert found.message.startswith("Skipped files that are not images (2): ")
    assert all(name in found.message for name in ("notes.txt", "d.csv"))
    assert find_images([tmp_path / "b.jpg"]).message == ""


def test_a_folder_without_images_names_recursive_if_subfolders_have_some(tmp_path):
    (tmp_path / "x/y").mkdir(parents=True)
    with pytest.raises(UserError, match=r"expected a folder of images \(.*\), found none\.$"):
        find_images([tmp_path])
    (tmp_path / "x/y/a.jpg").touch()
    with pytest.raises(UserError, match=r"found none; add --recursive for the 1 in subfolders\.$"):
        find_images([tmp_path])
    with pytest.raises(UserError, match="found nothing"):
        find_images([tmp_path / "z.jpg"])


def test_urls_of_images_are_refused_with_the_way_to_download_them():
    with pytest.raises(UserError, match=r"https://x.org/a.jpg: .* a URL; download .* curl -LO"):
        find_images(["https://x.org/a.jpg"])


@pytest.mark.parametrize(("given", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_images_and_folders_are_found_in_either_unicode_form(tmp_path, given, stored):
    folder = tmp_path / unicodedata.normalize(stored, "ö")
    folder.mkdir()
    image = folder / unicodedata.normalize(stored, "é.jpg")
    image.touch()
    name = tmp_path / unicodedata.normalize(given, "ö/é.jpg")
    assert on_disk(name) == image
    assert image_files([name, name.parent]) == [image, image]
    with pytest.raises(UserError, match="expected an image"):
        image_files([tmp_path / "ö/è.jpg"])
