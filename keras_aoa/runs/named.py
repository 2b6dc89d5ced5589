"""Finds a run by its folder, or a packed captioner by its name, Hugging Face name or URL."""

import difflib
import hashlib
import json
import os
import pathlib
import re

from keras_aoa.data.images.file_names import OTHER_SUFFIXES, SUFFIXES, is_image_name
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import on_disk, require_local
from keras_aoa.utils.text import closest, one_line

BUNDLED = pathlib.Path(__file__).resolve().parents[1] / "captioners"
CHECKSUMS = "checksums.json"
FORMAT = 1  # increase it if older versions of this package cannot read a new packed captioner
HUB = "hf://"
URL = re.compile(r"https?://[^#]+?\.(?:zip|tar|tar\.gz)#sha256=(?P<digest>[0-9a-f]{64})")


def run_folder(name: str | os.PathLike) -> pathlib.Path:
    """Return the folder of a run or of a packed captioner.

    A captioner is downloaded if necessary.

    Args:
        name: One of
            - a folder;
            - the name of a captioner in this package, such as `flickr8k`;
            - `hf://owner/name` or `hf://owner/name@revision`, on the Hugging Face Hub;
            - the URL of a `.zip`, `.tar` or `.tar.gz` archive, followed by `#sha256=` and the
              archive's digest.

            A folder takes precedence over a captioner of the same name in this package.

    Raises:
        UserError: there is no such folder or captioner, a download fails, or a file is damaged.
    """
    name = str(name)
    path = on_disk(name)
    refuse_file(path)
    if path.exists():
        return path
    if name.startswith(HUB):
        return _verified(_from_hub(name), name)
    if match := URL.fullmatch(name):
        return _verified(_from_url(name, match["digest"]), name)
    if name.startswith(("http://", "https://")):
        raise UserError(
            f"{name}: expected the URL of a .zip or .tar archive with #sha256= and its 64 "
            "hexadecimal digits, received another URL; add the digest, or download the archive."
        )
    require_local(name)
    if name in bundled_names():
        return _verified(BUNDLED / name, name)
    raise UserError(
        f"{name}: expected the folder of a run or the name of a captioner, found neither. "
        f"{similar_runs(path)} To train one: keras-aoa train."
    )


def refuse_file(name):
    """Raise an error if the name of a run is the name of a file.

    This check is quick, so that commands can run it before other checks.

    Raises:
        UserError: the name is a file; the message says whether it is an image.
    """
    path = on_disk(name)
    if path.is_file():
        received = (
            "an image; the run comes first"
            if is_image_name(path, SUFFIXES + OTHER_SUFFIXES)
            else "a file"
        )
        raise UserError(
            f"{path}: expected a run's folder or a captioner's name such as flickr8k, received "
            f"{received}."
        )


def similar_runs(path):
    """Return a sentence that suggests runs and captioners with names like the missing folder's."""
    folders = dict.fromkeys([path.parent, pathlib.Path("runs")])
    runs = {file.parent for folder in folders for file in folder.glob("*/config.json")}
    known = [*sorted(runs), *map(pathlib.Path, bundled_names())]
    near = difflib.get_close_matches(path.name, {run.name for run in known}, n=3, cutoff=0.7)
    if near:
        return f"Did you mean {' or '.join(str(run) for run in known if run.name in near)}?"
    return closest(str(path), [str(run) for run in known])


def bundled_names():
    """Return the names of the captioners that come with this package."""
    return sorted(file.parent.name for file in BUNDLED.glob(f"*/{CHECKSUMS}"))


def is_packed(folder):
    """Return whether a folder contains a packed captioner.

    The folder of a packed captioner never changes.
    """
    return (pathlib.Path(folder) / CHECKSUMS).is_file()


def write_checksums(folder):
    """Write the SHA-256 of each file of a packed captioner."""
    files = sorted(file for file in folder.iterdir() if file.name not in (CHECKSUMS, "README.md"))
    content = {"format": FORMAT, "sha256": {file.name: _digest(file) for file in files}}
    (folder / CHECKSUMS).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _verified(folder, name):
    """Compare the files of a packed captioner with their checksums, and return its folder."""
    try:
        content = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        version, digests = content["format"], dict(content["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{name}: expected a packed captioner, found no {CHECKSUMS} that can be read; pack a "
            "run with keras-aoa pack."
        ) from None
    if version != FORMAT:
        raise UserError(
            f"{name}: expected format {FORMAT} of packed captioners, received {version}; use the "
            "version of keras-aoa that packed it."
        )
    for file, digest in digests.items():
        path = folder / file
        if not path.is_file() or _digest(path) != digest:
            problem = "is damaged" if path.is_file() else "is missing"
            raise UserError(
                f"{path}: expected the file with SHA-256 {digest[:12]}…, but it {problem}; "
                "restore it, or install the package again."
            )
    return folder


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(name):
    repository, _, revision = name.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"{name}: expected hf://owner/name, received another form; correct it.")
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"{name}: expected the package huggingface_hub, which is not installed; "
            "pip install 'keras-aoa[hub]'."
        ) from None
    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(repository, revision=revision or None)
        )
    except Exception as error:  # the hub and its network library raise many types of errors
        raise _not_downloaded(name, error) from None


def _from_url(name, digest):
    import keras

    url = name.partition("#")[0]
    file = url.rpartition("/")[2]
    try:
        # One cache folder per digest, because different URLs may end with the same file name.
        extracted = keras.utils.get_file(
            file,
            url,
            file_hash=digest,
            hash_algorithm="sha256",
            cache_subdir=f"keras_aoa/{digest[:12]}",
            extract=True,
        )
    except Exception as error:  # urllib and the archive modules raise many types of errors
        raise _not_downloaded(name, error) from None
    folders = [file.parent for file in sorted(pathlib.Path(extracted).rglob(CHECKSUMS))]
    return folders[0] if folders else pathlib.Path(extracted)


def _not_downloaded(name, error):
    reason = one_line(str(error))[:200]
    return UserError(
        f"{name}: expected to download a captioner, received an error ({reason}); check the name "
        "and the network."
    )
