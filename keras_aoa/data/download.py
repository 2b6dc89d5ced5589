"""Downloads COCO's images and captions, or Karpathy's splits, as `readers.read` expects them.

    python -m keras_aoa.data.download coco2014 FOLDER
    python -m keras_aoa.data.download karpathy FOLDER

After a network failure, the same command resumes the download. Existing files in FOLDER are never
changed. If everything is present, the command does nothing.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import textwrap
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from keras_aoa.data.archives import ARCHIVES, Archive
from keras_aoa.data.readers.files import inside
from keras_aoa.utils.command_line import parse, run
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.text import first_three

RETRIES = 5
TIMEOUT = (10, 60)  # seconds to connect, and between two chunks
STAGING = ".download"


def fetch(dataset: str, folder: str | os.PathLike, base_url: str = "") -> None:
    """Download, verify and unpack the parts of a data set that are missing from `folder`.

    Args:
        dataset: A key of `ARCHIVES`.
        folder: Destination folder; created if necessary. Archives are stored in the subfolder
            `.download/` until they are unpacked.
        base_url: Address of another server that has the archives under the same paths.

    Raises:
        UserError: There is too little space, the network fails, a checksum is wrong, or an archive
            is damaged or unsafe.
    """
    folder = pathlib.Path(folder)
    staging = folder / STAGING
    missing = [a for a in ARCHIVES[dataset] if not all((folder / k).exists() for k in a.keeps)]
    if not missing:
        print(f"{dataset}: complete in {folder}, nothing to do.")
        return
    with _one_line_os_errors(f"{dataset}: {folder}"):
        staging.mkdir(parents=True, exist_ok=True)
        _check_space(dataset, missing, staging)
        for archive in missing:
            path = staging / archive.name
            _download((base_url or archive.host).rstrip("/") + "/" + archive.path, archive, path)
            _verify(archive, path)
            _unpack(archive, path, folder)
            path.unlink()
        if not any(staging.iterdir()):
            staging.rmdir()
    print(f"{dataset}: complete in {folder}.")


@contextlib.contextmanager
def _one_line_os_errors(who: str) -> Iterator[None]:
    """Convert operating system errors, such as a full disk, to a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{who}: expected a writable folder, received '{error.strerror or error}'; "
            "make it writable or choose another."
        ) from None


def _check_space(dataset: str, archives: Sequence[Archive], staging: pathlib.Path) -> None:
    present = sum(file.stat().st_size for a in archives for file in _received(staging / a.name))
    total = sum(archive.size for archive in archives)
    # An archive is deleted after it is unpacked. Until then, it needs space beside its contents.
    peak = max(
        archive.size + sum(before.unpacked for before in archives[: index + 1])
        for index, archive in enumerate(archives)
    )
    needed, free = peak - present, shutil.disk_usage(staging).free
    print(
        f"{dataset}: {total / 1e9:.2f} GB to download, {min(present, total) / 1e9:.2f} GB of it "
        f"already present; needs {max(needed, 0) / 1e9:.2f} GB of free space, "
        f"{free / 1e9:.2f} GB available."
    )
    if free < needed:
        raise UserError(
            f"{dataset}: expected {needed / 1e9:.2f} GB of free space in {staging.parent}, "
            f"received {free / 1e9:.2f} GB; free some space or choose another folder."
        )


def _received(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that a download left: the complete archive, or gdown's partial files."""
    return [*path.parent.glob(f"{path.name}????????.part"), *path.parent.glob(path.name)]


def _download(url: str, archive: Archive, path: pathlib.Path) -> None:
    try:
        # gdown resumes downloads, retries, and checks that the server continues the same file.
        # pooch restarts downloads, and pypdl needs twice the space.
        import gdown
        import requests
        from tqdm import tqdm
    except ImportError as error:
        raise UserError(
            f"download: expected the package {error.name}, which is not installed; "
            "run pip install 'keras-aoa[download]'."
        ) from None
    received = 0
    for part in _received(path):
        received = part.stat().st_size
        if received >= archive.size:  # complete, but not renamed before an interruption
            part.replace(path)
    with tqdm(
        total=archive.size, initial=received, unit="B", unit_scale=True, desc=path.name
    ) as bar:
        try:
            gdown.download(
                url,
                str(path),
                quiet=True,
                use_cookies=False,
                user_agent="keras-aoa",
                resume=True,
                retries=RETRIES,
                timeout=TIMEOUT,
                progress=lambda done, total: bar.update(done - bar.n),
            )
        except (gdown.exceptions.DownloadError, requests.RequestException) as error:
            reason = str(error).split(".\n")[0].rpartition("Caused by ")[2]
            reason = textwrap.shorten(reason, 160)
            raise UserError(
                f"{path.name}: expected to download {url}, received '{reason}'; check the "
                "network and run the command again, which resumes the download, "
                f"or delete {path.parent} to start over."
            ) from None


def _verify(archive: Archive, path: pathlib.Path) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != archive.sha256:
        rejected = path.replace(path.with_name(f"{path.name}.bad"))
        raise UserError(
            f"{archive.name}: expected SHA-256 {archive.sha256}, received {digest}; the file was "
            f"renamed to {rejected}; run the command again for a new download."
        )


def _unpack(archive: Archive, path: pathlib.Path, folder: pathlib.Path) -> None:
    from tqdm import tqdm

    unpacked = path.with_name("unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as content:
            members = [
                member
                for member in content.infolist()
                if any(
                    (inside(member.filename, archive.name) + "/").startswith(f"{keep}/")
                    for keep in archive.keeps
                )
            ]
            needed, free = sum(m.file_size for m in members), shutil.disk_usage(folder).free
            if free < needed:
                raise UserError(
                    f"{archive.name}: expected {needed / 1e9:.2f} GB of free space to unpack it, "
                    f"received {free / 1e9:.2f} GB; free some space and run the command again."
                )
            for member in tqdm(members, unit="file", desc=f"unpacking {archive.name}"):
                content.extract(member, unpacked)
    # RuntimeError: an encrypted archive; NotImplementedError: an unknown compression method.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(
            f"{archive.name}: expected a zip file, received '{error}'; delete {path} and run the "
            "command again."
        ) from None
    absent = [keep for keep in archive.keeps if not (unpacked / keep).exists()]
    if absent:
        raise UserError(
            f"{archive.name}: expected {first_three(absent)} in the archive, found nothing; delete "
            f"{path} and run the command again."
        )
    for keep in archive.keeps:
        if not (folder / keep).exists():
            (folder / keep).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / keep).rename(folder / keep)
    shutil.rmtree(unpacked)


@dataclass(frozen=True)
class Arguments:
    """Download a captioning data set: resume, verify SHA-256, and never overwrite files."""

    dataset: Annotated[Literal["coco2014", "coco2017", "karpathy"], tyro.conf.Positional]
    """coco2014 (20.4 GB), coco2017 (20.4 GB) or Karpathy's splits (0.04 GB)."""
    folder: Annotated[pathlib.Path, tyro.conf.Positional]
    """Destination folder; the command first prints the free space it needs, at most 41 GB."""
    base_url: str = ""
    """Address of another server with the archives; if empty, COCO's or Stanford's server."""


def main(arguments: list[str]) -> None:
    """Download the data set that the arguments name."""
    settings = parse(Arguments, "keras_aoa.data.download", arguments)
    fetch(settings.dataset, settings.folder, settings.base_url)


if __name__ == "__main__":
    run(main, interrupted="The same command resumes the download.")
