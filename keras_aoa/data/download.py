"""Fetches COCO's images and captions, or Karpathy's splits, into the layout the readers read.

    python -m keras_aoa.data.download coco2014 FOLDER
    python -m keras_aoa.data.download karpathy FOLDER

What has arrived when the network fails is kept: the same command goes on from there. What is
already in FOLDER is never touched; once everything is there, the command does nothing.
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
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
STAGING = ".download"


def fetch(dataset: str, folder: str | os.PathLike, base_url: str = "") -> None:
    """Downloads, verifies and unpacks what of a data set is not in `folder` yet.

    Args:
        dataset: A key of `ARCHIVES`.
        folder: Where it goes; made if need be. Archives wait in `.download/` in it and are
            deleted once unpacked.
        base_url: Another server that has the archives under the same paths.

    Raises:
        UserError: too little space, no network, a wrong checksum, a damaged or unsafe archive.
    """
    folder = pathlib.Path(folder)
    staging = folder / STAGING
    wanted = [a for a in ARCHIVES[dataset] if not all((folder / k).exists() for k in a.keeps)]
    if not wanted:
        print(f"{dataset}: complete in {folder}, nothing to do.")
        return
    with _told(f"{dataset}: {folder}"):
        staging.mkdir(parents=True, exist_ok=True)
        _check_space(dataset, wanted, staging)
        for archive in wanted:
            path = staging / archive.name
            _download((base_url or archive.host).rstrip("/") + "/" + archive.path, archive, path)
            _verify(archive, path)
            _unpack(archive, path, folder)
            path.unlink()
        if not any(staging.iterdir()):
            staging.rmdir()
    print(f"{dataset}: complete in {folder}.")


@contextlib.contextmanager
def _told(who: str) -> Iterator[None]:
    """A full disk, a missing permission and the like in one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{who}: expected to write there, received '{error.strerror or error}'."
        ) from None


def _check_space(dataset: str, archives: Sequence[Archive], staging: pathlib.Path) -> None:
    here = sum(file.stat().st_size for a in archives for file in _arrived(staging / a.name))
    total = sum(archive.size for archive in archives)
    # An archive lies beside its contents until it is unpacked; those before it are gone by then.
    peak = max(
        archive.size + sum(before.unpacked for before in archives[: index + 1])
        for index, archive in enumerate(archives)
    )
    free = shutil.disk_usage(staging).free
    print(
        f"{dataset}: {total / 1e9:.2f} GB to fetch, of which {min(here, total) / 1e9:.2f} GB are "
        f"here; needs {max(peak - here, 0) / 1e9:.2f} GB of free space, has {free / 1e9:.2f} GB."
    )
    if free < peak - here:
        raise UserError(
            f"{dataset}: expected {(peak - here) / 1e9:.2f} GB of free space in {staging.parent}, "
            f"received {free / 1e9:.2f} GB; free some or choose another folder."
        )


def _arrived(path: pathlib.Path) -> list[pathlib.Path]:
    """An archive or, under the name that gdown gives it, as much of it as has arrived."""
    return [*path.parent.glob(f"{path.name}????????.part"), *path.parent.glob(path.name)]


def _download(url: str, archive: Archive, path: pathlib.Path) -> None:
    try:
        # Chosen because it goes on where it stopped, retries, and checks that the server does
        # continue the same file; pooch begins anew, pypdl needs the space twice.
        import gdown
        import requests
        from tqdm import tqdm
    except ImportError as error:
        raise UserError(
            f"download: expected the package {error.name}, which is not installed; "
            "pip install 'keras-aoa[download]'."
        ) from None
    held = 0
    for part in _arrived(path):
        held = part.stat().st_size
        if held >= archive.size:  # maybe stopped between its last byte and its renaming
            part.replace(path)
    with tqdm(total=archive.size, initial=held, unit="B", unit_scale=True, desc=path.name) as bar:
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
                f"{path.name}: expected to fetch {url}, received '{reason}'; "
                "see to the network and run the command again, it goes on where it stopped; "
                f"to begin anew delete {path.parent}."
            ) from None


def _verify(archive: Archive, path: pathlib.Path) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != archive.sha256:
        temporary = path.replace(path.with_name(f"{path.name}.bad"))
        raise UserError(
            f"{archive.name}: expected SHA-256 {archive.sha256}, received {digest}; the file is "
            f"set temporary as {temporary}, run the command again to fetch it anew."
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
                    f"received {free / 1e9:.2f} GB; free some and run the command again."
                )
            for member in tqdm(members, unit="file", desc=f"unpacking {archive.name}"):
                content.extract(member, unpacked)
    # The last two: encrypted, and packed in a way that is not known.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{archive.name}: expected a zip file, received '{error}'.") from None
    absent = [keep for keep in archive.keeps if not (unpacked / keep).exists()]
    if absent:
        raise UserError(f"{archive.name}: expected {first_three(absent)} in it, found none.")
    for keep in archive.keeps:
        if not (folder / keep).exists():
            (folder / keep).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / keep).rename(folder / keep)
    shutil.rmtree(unpacked)


@dataclass(frozen=True)
class Arguments:
    """Fetch a captioning data set: resumes, verifies SHA-256, overwrites nothing."""

    dataset: Annotated[Literal["coco2014", "coco2017", "karpathy"], tyro.conf.Positional]
    """coco2014 (20.4 GB), coco2017 (20.4 GB) or Karpathy's splits (0.04 GB)."""
    folder: Annotated[pathlib.Path, tyro.conf.Positional]
    """Where it goes; the free space it needs is told first, at most 41 GB."""
    base_url: str = ""
    """Another server with the archives; empty for COCO's own, or Stanford's."""


def main(arguments: list[str]) -> None:
    """Fetch what the arguments name."""
    settings = parse(Arguments, "keras_aoa.data.download", arguments)
    fetch(settings.dataset, settings.folder, settings.base_url)


if __name__ == "__main__":
    run(main, interrupted="The same command goes on from here.")
