"""Tests of training, captioning and proposals on 500 hostile files, including memory use."""

import contextlib
import ctypes
import importlib
import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import zlib

import hostile_images
import numpy as np
import pytest
import tensorflow as tf
from image_files import chunk
from pictures_of_all_kinds import file_of, photograph

from keras_aoa.data.examples import Example
from keras_aoa.data.images.decoding import decode
from keras_aoa.data.images.preprocessing import MAX_BYTES, ImageSettings, why_unreadable
from keras_aoa.data.images.split_images import Images, image_batches
from keras_aoa.data.images.views import read_batch
from keras_aoa.data.proposals.cache import ProposalCache, ProposalSettings
from keras_aoa.inference.batches import CaptionedImage
from keras_aoa.inference.caption import Caption
from keras_aoa.inference.lines import text_lines
from keras_aoa.inference.pixels import read_pixels
from keras_aoa.utils.errors import UserError

# Bytes of memory that the process below may use. Some files declare images of 2.7e9 bytes.
MAX_MEMORY = 2.0e9
ALL = pytest.param("all", marks=pytest.mark.slow)

# Runs commands, as a user types them, in one process, and reports its peak memory. VmHWM excludes
# the parent process, which getrusage includes.
COMMANDS = """
import contextlib, importlib, io, json, pathlib, sys
from keras_aoa.evaluation import evaluate

evaluate.start_meteor = lambda: False
printed = {}
for name, *arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            importlib.import_module(f"keras_aoa.{name}").main(arguments)
        except Exception as error:
            print(type(error).__name__, error, file=err)
    printed[name] = out.getvalue().splitlines(), err.getvalue().splitlines()
status = pathlib.Path("/proc/self/status").read_text()
printed["memory"] = int(status.split("VmHWM:")[1].split()[0]) * 1024
print(json.dumps(printed))
"""


# Bytes of memory that a new process takes for TensorFlow and a captioner; rather too many.
IMPORTED = 0.8e9


@pytest.fixture(scope="module")
def files():
    return hostile_images.hostile_files()


@pytest.fixture(scope="module", params=["some", ALL])
def chosen(request, files):
    """All of the files, or those that could take the most memory and a few others."""
    costly = ("bomb", "declared")
    return {
        name: file
        for number, (name, file) in enumerate(files.items())
        if request.param == "all" or name.startswith(costly) or number % 10 == 0
    }


@pytest.fixture(scope="module")
def folder(chosen, tmp_path_factory):
    """A folder with the files as own data: one caption each, in three splits."""
    return written(tmp_path_factory.mktemp("hostile"), chosen)


def written(folder, files):
    """Write files and their `captions.csv` to a folder and return it."""
    lines = ["image,caption,split"]
    for number, (name, file) in enumerate(files.items()):
        (folder / name).write_bytes(file.content)
        split = {8: "val", 9: "test"}.get(number % 10, "train")
        lines.append(f"{name},a photograph,{split}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def printed(request, chosen, folder, tmp_path_factory):
    """Lines that the commands print to stdout and stderr, and the peak memory.

    With all files, a run is trained on them first, in a new process. With some files, the captioner
    was trained on readable images, and no process is started, because importing TensorFlow takes
    most of its time.
    """
    runs = tmp_path_factory.mktemp("runs")
    data = ["--data", folder, "--output", runs, "--minimum-count", "1"]
    sizes = "--image-size 32 --units 8 --embedding-dim 8 --max-words 3 --beam 1 --stride 1"
    stages = "--name run --backbone scenes --rnn-epochs 1 --joint-epochs 0 --average 0"
    train = ["train", *stages.split(), *sizes.split(), *data]
    is_trained = len(chosen) < 500
    run = request.getfixturevalue("trained").folder if is_trained else runs / "run"
    commands = [["caption", run, folder, "--beam", "1", "--max-words", "2"], ["propose", *data]]
    if is_trained:
        return called_here(commands)
    commands = json.dumps([train, *commands], default=str)
    ended = subprocess.run(
        [sys.executable, "-c", COMMANDS, commands],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "Traceback" not in ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def called_here(commands):
    """Call commands in this process; returns `printed`."""
    printed = {}
    ctypes.CDLL(None).malloc_trim(0)  # free memory would hide what the commands need
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # begins a new peak
    before = peak_memory()
    for name, *arguments in commands:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                importlib.import_module(f"keras_aoa.{name}").main(list(map(str, arguments)))
            except UserError as error:
                print(type(error).__name__, error, file=err)
        printed[name] = out.getvalue().splitlines(), err.getvalue().splitlines()
    return printed | {"memory": peak_memory() - before + IMPORTED}


def peak_memory():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_the_500_hostile_files_are_reproducible(files):
    again = hostile_images.hostile_files()
    assert len(files) == 500
    assert again == files


def refused(lines, folder, files):
    """Return the reason for each file that lines name; assert that no line is a stack trace."""
    reasons = {}
    for line in lines:
        name = next((name for name in files if f"{folder / name}: " in line), None)
        if name:
            assert name not in reasons, line
            reasons[name] = line.partition(f"{name}: ")[2]
    assert not [line for line in lines if "Traceback" in line or line.startswith("  File")]
    assert all(len(reason) > 10 for reason in reasons.values())
    return reasons


def check(read, unread, files):
    """Assert that each file is either read or rejected by name, as its `readable` demands."""
    assert set(read) | set(unread) == set(files)
    assert not set(read) & set(unread)
    wrong = [name for name, file in files.items() if file.readable is (name in unread)]
    assert not wrong


def test_each_file_is_captioned_or_rejected_by_name(printed, folder, chosen):
    out, err = printed["caption"]
    read = [line.removeprefix(f"{folder}/").partition(": ")[0] for line in out]
    unread = refused(err, folder, chosen)
    check(read, unread, chosen)
    summary = f"UserError caption: {len(unread)} of {len(chosen)} images could not be read."
    assert err[-1] == summary


def test_each_file_has_proposals_or_is_rejected_by_name(printed, folder, chosen):
    out, err = printed["propose"]
    unread = refused(out, folder, chosen)
    check(set(chosen) - set(unread), unread, chosen)
    assert not [line for line in err if "Error" in line]
    counts = [line for line in out if " images are ready" in line]
    assert len(counts) == 3


@pytest.mark.parametrize("chosen", [ALL], indirect=True)
def test_training_uses_the_readable_files_and_names_the_others(printed, folder, chosen):
    out, err = printed["train"]
    # Files of the test split are reported twice: in training and in the evaluation after it.
    reported = dict.fromkeys(line for line in err if "cannot read" in line)
    unread = refused(reported, folder, chosen)
    check(set(chosen) - set(unread), unread, chosen)
    assert any(line.startswith("epoch 1/1: loss") for line in out)
    assert not [line for line in err if "Error" in line]


def test_memory_is_bounded(printed):
    print(f"{printed['memory'] / 1e9:.2f} GB")
    assert printed["memory"] < MAX_MEMORY


@pytest.fixture(scope="module")
def read():
    return tf.function(decode, [tf.TensorSpec((), tf.string)], autograph=False)


def decoded(read, content):
    """Return the pixels of a file, or None if it is rejected."""
    try:
        return read(content).numpy()
    except tf.errors.InvalidArgumentError:
        return None


def test_each_file_is_decoded_or_rejected_as_specified(files, read):
    pixels = {name: decoded(read, file.content) for name, file in files.items()}
    unread = {name for name, image in pixels.items() if image is None}
    check(set(files) - unread, unread, files)
    for name in set(files) - unread:
        assert pixels[name].dtype == np.uint8 and pixels[name].size
    # All formats yield the same picture, whatever the suffix of the file name.
    jpeg = pixels["whole-baseline.jpg"].astype(int)
    for name in ("rgb.png", "gif.gif", "bmp.bmp", "lossy.webp", "restarts.jpg", "progressive.jpg"):
        assert np.abs(pixels[f"whole-{name}"] - jpeg).mean() < 12, name
    for suffix in (".png", ".webp"):
        kept = pixels[f"extension-jpeg{suffix}"]
        np.testing.assert_array_equal(kept, pixels["extension-jpeg.jpeg"])


@pytest.mark.parametrize("cache_gb", [0, 1])
def test_each_file_is_read_for_training_or_rejected_by_name(files, tmp_path, caplog, cache_gb):
    folder = written(tmp_path, dict(list(files.items())[cache_gb::4]))
    examples = [Example(file.name, str(file), ("a",)) for file in folder.iterdir()]
    examples = [example for example in examples if example.image_id in files]
    images = Images("train", examples, ImageSettings(32), cache_gb)
    unread = refused(caplog.text.splitlines(), folder, files)
    assert sorted(unread) == sorted(os.path.basename(path) for path in images.skipped)
    used = {example.image_id: files[example.image_id] for example in examples}
    check(set(used) - set(unread), unread, used)
    shown = sum(len(batch["images"]) for batch in image_batches(images, 50))
    assert shown == len(images.readable)


def test_files_in_a_batch_are_served_independently(files, read):
    some = dict(list(files.items())[::3])
    expected = [decoded(read, file.content) is not None for file in some.values()]

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def together(contents):
        def corner(pixels):
            return {"pixels": tf.cast(tf.reduce_mean(pixels[0, 0]), tf.float32)}

        return read_batch(contents, corner, {"pixels": ()}, 50_000_000)

    valid = together(tf.constant([file.content for file in some.values()]))[1]
    assert valid.numpy().tolist() == expected


@pytest.mark.slow
def test_the_most_expensive_image_uses_bounded_memory(tmp_path):
    side = 11_500
    rows = zlib.compress(bytes(side * (4 * side + 1)))
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    (tmp_path / "small.png").write_bytes(file_of(photograph(), "PNG"))
    code = """
import pathlib, sys
from keras_aoa.data.images.preprocessing import ImageSettings, prepare, read_image
for path in sys.argv[1:]:
    prepare(read_image(path), ImageSettings())
    status = pathlib.Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""
    paths = [str(tmp_path / name) for name in ("small.png", "large.png")]
    ended = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    small, large = map(int, ended.stdout.split())
    print(f"{(large - small) / 1e9:.2f} GB")
    assert large - small < 2.6e9


# --- files that are not regular -------------------------------------------------------------------


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    sparse = tmp_path / "large.jpg"
    with open(sparse, "wb") as file:
        file.write(file_of(photograph()))
        file.truncate(MAX_BYTES + 1)
    message = f"not a file of at most {MAX_BYTES} bytes"
    with pytest.raises(UserError, match=f"large.jpg: .*{message}") as refusal:
        read_pixels(sparse)
    assert "\n" not in str(refusal.value)
    cache = ProposalCache(tmp_path / "cache", ProposalSettings())
    assert cache.extract([str(sparse)]) == [str(sparse)]
    with pytest.raises(UserError, match="none of 1 files is a readable image"):
        Images("train", [Example(1, str(sparse), ("a",))], ImageSettings(32))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_and_folders_are_not_images(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    cache = ProposalCache(tmp_path / "cache", ProposalSettings())
    odd = [str(tmp_path / "pipe.jpg"), str(tmp_path)]
    assert cache.extract(odd) == odd
    for path in odd:
        assert why_unreadable(path).startswith("not a file of at most")
    with pytest.raises(UserError, match="found no file"):
        read_pixels(odd[0])


def test_file_names_may_be_invalid_text(tmp_path, caplog):
    examples = []
    for name in (b"\xff\xfe.png", b"two\nlines.png", b"\x1b[31m.png"):
        for content in (file_of(photograph(), "PNG"), b"none"):
            path = os.path.join(os.fsencode(tmp_path), bytes(str(len(examples)), "ascii") + name)
            with open(path, "wb") as file:
                file.write(content)
            examples.append(Example(len(examples), os.fsdecode(path), ("a",)))
    images = Images("train", examples, ImageSettings(32), 0)
    assert images.skipped == [example.path for example in examples[1::2]]
    (batch,) = image_batches(images, 3)
    assert batch["images"].shape == (3, 32, 32, 3)
    with pytest.raises(UserError) as refusal:
        read_pixels(examples[1].path)
    for line in (
        *caplog.messages,
        str(refusal.value),
        *text_lines(CaptionedImage(examples[0].path, (Caption("a", ("a",), -1.0),))),
    ):
        assert line.encode("utf-8") and line.isprintable()
