"""Five hundred hostile files through training, captioning and proposals, and what they cost."""

import json
import os
import struct
import subprocess
import sys
import zlib
from types import SimpleNamespace

import hostile_images
import numpy as np
import pytest
import tensorflow as tf
from image_files import chunk
from pictures_of_all_kinds import file_of, photograph

from keras_aoa.caption import as_line
from keras_aoa.data.examples import Example
from keras_aoa.data.images.preprocessing import MAX_BYTES, ImageSettings, decode, why_unreadable
from keras_aoa.data.images.split_images import Images, image_batches
from keras_aoa.data.images.views import read_batch
from keras_aoa.data.proposals.cache import ProposalCache, ProposalSettings
from keras_aoa.inference.image_captioner import read_pixels
from keras_aoa.utils.errors import UserError

# Most memory of the process below, bytes. One of the sizes declared would be 2.7e9 once decoded.
MOST_MEMORY = 2.0e9
ALL = pytest.param("all", marks=pytest.mark.slow)

# As a user types them, in one process; then what they have used at most: of this program alone,
# where getrusage has that of the process that started it in it.
COMMANDS = """
import contextlib, importlib, io, json, pathlib, sys
from keras_aoa.evaluation import evaluate

evaluate.start_meteor = lambda: False
said = {}
for name, *arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            importlib.import_module(f"keras_aoa.{name}").main(arguments)
        except Exception as error:
            print(type(error).__name__, error, file=err)
    said[name] = out.getvalue().splitlines(), err.getvalue().splitlines()
status = pathlib.Path("/proc/self/status").read_text()
said["memory"] = int(status.split("VmHWM:")[1].split()[0]) * 1024
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def files():
    return hostile_images.hostile_files()


@pytest.fixture(scope="module", params=["some", ALL])
def chosen(request, files):
    """All of the files, or those that would take most memory and a few of the others."""
    costly = ("bomb", "declared")
    return {
        name: file
        for number, (name, file) in enumerate(files.items())
        if request.param == "all" or name.startswith(costly) or number % 10 == 0
    }


@pytest.fixture(scope="module")
def folder(chosen, tmp_path_factory):
    """They as own data: with a caption each, in three splits."""
    return written(tmp_path_factory.mktemp("hostile"), chosen)


def written(folder, files):
    """The folder with files and their `captions.csv`."""
    lines = ["image,caption,split"]
    for number, (name, file) in enumerate(files.items()):
        (folder / name).write_bytes(file.content)
        split = {8: "val", 9: "test"}.get(number % 10, "train")
        lines.append(f"{name},a photograph,{split}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def said(request, chosen, folder, tmp_path_factory):
    """What the commands print, lines of stdout and stderr, and the memory they take.

    Of all files a run is trained, too; of some the captioner is one of good images.
    """
    runs = tmp_path_factory.mktemp("runs")
    data = ["--data", folder, "--output", runs, "--minimum-count", "1"]
    sizes = "--image-size 32 --units 8 --embedding-dim 8 --max-words 3 --beam 1 --stride 1"
    stages = "--name run --backbone scenes --rnn-epochs 1 --joint-epochs 0 --average 0"
    train = ["train", *stages.split(), *sizes.split(), *data]
    is_trained = len(chosen) < 500
    run = request.getfixturevalue("trained").folder if is_trained else runs / "run"
    commands = [["caption", run, folder, "--beam", "1", "--max-words", "2"], ["propose", *data]]
    commands = json.dumps([*([] if is_trained else [train]), *commands], default=str)
    ended = subprocess.run(
        [sys.executable, "-c", COMMANDS, commands],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "Traceback" not in ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_there_are_five_hundred_and_always_the_same(files):
    again = hostile_images.hostile_files()
    assert len(files) == 500
    assert again == files


def refused(lines, folder, files):
    """Names of the files that lines tell of, each with its reason; no line holds a stack trace."""
    found = {}
    for line in lines:
        name = next((name for name in files if f"{folder / name}: " in line), None)
        if name:
            assert name not in found, line
            found[name] = line.partition(f"{name}: ")[2]
    assert not [line for line in lines if "Traceback" in line or line.startswith("  File")]
    assert all(len(reason) > 10 for reason in found.values())
    return found


def check(read, unread, files):
    """Each file is read or refused by name, and as it must be where that is known."""
    assert set(read) | set(unread) == set(files)
    assert not set(read) & set(unread)
    wrong = [name for name, file in files.items() if file.readable is (name in unread)]
    assert not wrong


def test_each_is_captioned_or_refused_by_name(said, folder, chosen):
    out, err = said["caption"]
    read = [line.removeprefix(f"{folder}/").partition(": ")[0] for line in out]
    unread = refused(err, folder, chosen)
    check(read, unread, chosen)
    told = f"UserError caption: {len(unread)} of {len(chosen)} images could not be read."
    assert err[-1] == told


def test_each_has_proposals_or_is_refused_by_name(said, folder, chosen):
    out, err = said["propose"]
    unread = refused(out, folder, chosen)
    check(set(chosen) - set(unread), unread, chosen)
    assert not [line for line in err if "Error" in line]
    counts = [line for line in out if "images have their proposals" in line]
    assert len(counts) == 3


@pytest.mark.parametrize("chosen", [ALL], indirect=True)
def test_training_goes_on_with_the_readable_and_names_the_others(said, folder, chosen):
    out, err = said["train"]
    # Of the test split they are told twice: in training and in the evaluation after it.
    told = dict.fromkeys(line for line in err if "cannot read" in line)
    unread = refused(told, folder, chosen)
    check(set(chosen) - set(unread), unread, chosen)
    assert any(line.startswith("epoch 1/1: loss") for line in out)
    assert not [line for line in err if "Error" in line]


def test_memory_is_bounded(said):
    print(f"{said['memory'] / 1e9:.2f} GB")
    assert said["memory"] < MOST_MEMORY


@pytest.fixture(scope="module")
def read():
    return tf.function(decode, [tf.TensorSpec((), tf.string)], autograph=False)


def decoded(read, content):
    """Pixels of a file, or None."""
    try:
        return read(content).numpy()
    except tf.errors.InvalidArgumentError:
        return None


def test_all_are_read_or_refused_as_they_must_be(files, read):
    pixels = {name: decoded(read, file.content) for name, file in files.items()}
    unread = {name for name, found in pixels.items() if found is None}
    check(set(files) - unread, unread, files)
    for name in set(files) - unread:
        assert pixels[name].dtype == np.uint8 and pixels[name].size
    # The same picture in each format, whatever the end of the file's name.
    jpeg = pixels["whole-baseline.jpg"].astype(int)
    for name in ("rgb.png", "gif.gif", "bmp.bmp", "lossy.webp", "restarts.jpg", "progressive.jpg"):
        assert np.abs(pixels[f"whole-{name}"] - jpeg).mean() < 12, name
    for suffix in (".png", ".webp"):
        kept = pixels[f"extension-jpeg{suffix}"]
        np.testing.assert_array_equal(kept, pixels["extension-jpeg.jpeg"])


@pytest.mark.parametrize("cache_gb", [0, 1])
def test_they_are_read_for_training_or_refused_by_name(files, tmp_path, caplog, cache_gb):
    folder = written(tmp_path, dict(list(files.items())[cache_gb::4]))
    examples = [Example(file.name, str(file), ("a",)) for file in folder.iterdir()]
    examples = [example for example in examples if example.image_id in files]
    images = Images("train", examples, ImageSettings(32), cache_gb)
    unread = refused(caplog.text.splitlines(), folder, files)
    assert sorted(unread) == sorted(os.path.basename(path) for path in images.skipped)
    asked = {example.image_id: files[example.image_id] for example in examples}
    check(set(asked) - set(unread), unread, asked)
    shown = sum(len(batch["images"]) for batch in image_batches(images, 50))
    assert shown == len(images.readable)


def test_a_batch_is_served_as_if_each_came_alone(files, read):
    some = dict(list(files.items())[::3])
    alone = [decoded(read, file.content) is not None for file in some.values()]

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def together(contents):
        def corner(pixels):
            return {"pixels": tf.cast(tf.reduce_mean(pixels[0, 0]), tf.float32)}

        return read_batch(contents, corner, {"pixels": ()}, 50_000_000)

    valid = together(tf.constant([file.content for file in some.values()]))[1]
    assert valid.numpy().tolist() == alone


@pytest.mark.slow
def test_the_costliest_picture_has_a_bound(tmp_path):
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


# --- what is no ordinary file ---------------------------------------------------------------------


def test_a_file_that_is_too_large_is_not_even_read(tmp_path):
    sparse = tmp_path / "large.jpg"
    with open(sparse, "wb") as file:
        file.write(file_of(photograph()))
        file.truncate(MAX_BYTES + 1)
    told = f"not a file of at most {MAX_BYTES} bytes"
    with pytest.raises(UserError, match=f"large.jpg: .*{told}") as refusal:
        read_pixels(sparse)
    assert "\n" not in str(refusal.value)
    cache = ProposalCache(tmp_path / "cache", ProposalSettings())
    assert cache.extract([str(sparse)]) == [str(sparse)]
    with pytest.raises(UserError, match="not one of 1 files is a readable image"):
        Images("train", [Example(1, str(sparse), ("a",))], ImageSettings(32))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_and_a_folder_are_no_images(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    cache = ProposalCache(tmp_path / "cache", ProposalSettings())
    odd = [str(tmp_path / "pipe.jpg"), str(tmp_path)]
    assert cache.extract(odd) == odd
    for path in odd:
        assert why_unreadable(path).startswith("not a file of at most")
    with pytest.raises(UserError, match="found no file"):
        read_pixels(odd[0])


def test_a_name_need_not_be_text(tmp_path, caplog):
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
        as_line(examples[0].path, SimpleNamespace(text="a", log_prob=-1)),
    ):
        assert line.encode("utf-8") and line.isprintable()
