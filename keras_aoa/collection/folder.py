"""The folder of a collection's captions: what made them, which shards are finished.

captions/part-0000.jsonl          a finished shard, whole
captions/settings.json            the run and the search that made all of them
captions/progress/part-0000.json  counts of a finished shard, and which one it was; beside them
                                  what is being written
"""

import contextlib
import json
import os
import pathlib
import re

from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import atomic_write, write_text

FORMAT_VERSION = 1  # to be raised whenever the same settings would give other captions


def describe(run, search_settings):
    """What the captions of a run depend on, by name.

    Args:
        run: `Run` or `EnsembleRun`.
        search_settings: `SearchSettings`.

    Raises:
        UserError: nothing trained yet, or a setting that does not fit the run.
    """
    from keras_aoa.models.weights import file_digest

    members = getattr(run, "members", [run])
    described = {"format": FORMAT_VERSION, "run": ",".join(one.folder.name for one in members)}
    for name in ("best_file", "backbone_file", "vocabulary_file", "config_file"):
        files = [getattr(member, name) for member in members]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise UserError(f"{missing[0]}: expected a trained run's file, found none.")
        described[name.removesuffix("_file")] = ",".join(map(file_digest, files))
    view = run.proposal_view
    if view and view.search.edge_model:
        described["edge_model"] = file_digest(view.search.edge_model)
    return described | search_settings.of(run.configuration)


class OutputFolder:
    """Captions of shards, made by one run with one search; made where it is missing.

    Args:
        folder: Its path.
        settings: As of `describe`.

    Raises:
        UserError: a folder of captions made otherwise, or with files of someone else's.
    """

    def __init__(self, folder, settings):
        self.path = pathlib.Path(folder)
        self._settings = settings
        self._progress = self.path / "progress"
        self._settings_file = self.path / "settings.json"
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path}: expected a folder for captions, found a file.")
        if not self._settings_file.exists():
            theirs = next(self.path.glob("*.jsonl"), None)
            if theirs:
                raise UserError(
                    f"{self.path}: expected an empty folder or one of this command, found "
                    f"{theirs.name} without settings.json; name another --output."
                )
            self._progress.mkdir(parents=True, exist_ok=True)
            write_text(self._settings_file, json.dumps(settings, indent=2) + "\n")
        self.check()

    def check(self):
        """Refuse to mix captions.

        Raises:
            UserError: naming which settings the folder's captions were made with.
        """
        try:
            found = json.loads(self._settings_file.read_text(encoding="utf-8"))
            names = [name for name in {**self._settings, **found} if name != "run"]
        except (OSError, ValueError, TypeError):
            raise UserError(
                f"{self._settings_file}: expected what made the folder's captions, found no such "
                "file or a damaged one; put it back, or name another --output."
            ) from None
        ours, theirs = (
            [
                f"{name} {one.get(name)}"
                for name in names
                if found.get(name) != self._settings.get(name)
            ]
            for one in (self._settings, found)
        )
        if theirs:
            raise UserError(
                f"{self.path}: its captions were made by run {found.get('run')} with "
                f"{', '.join(theirs)}, received {self._settings['run']} with {', '.join(ours)}; "
                "take the same, or name another --output."
            )

    def file(self, shard):
        """Where a shard's captions go."""
        return self.path / f"{shard.name}.jsonl"

    def record(self, shard):
        """A finished shard's `images`, `unreadable` and `left_out`, or None.

        Raises:
            UserError: what is there was made from another shard of the same name.
        """
        file = self._progress / f"{shard.name}.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            identity = {name: record[name] for name in shard.identity}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        if identity != shard.identity:
            raise UserError(
                f"{self.file(shard)}: holds the captions of {record.get('shard')}, which was not "
                f"what {shard.path} is now; remove the captions and {file}, or name another "
                "--output."
            )
        return record if self.file(shard).exists() else None

    @contextlib.contextmanager
    def writing(self, shard, counts):
        """A file to write a shard's captions to; it is finished when all went well.

        Args:
            shard: `Shard`.
            counts: Dictionary of what is counted meanwhile, kept with it.

        Raises:
            UserError: the folder was given to other settings meanwhile.
        """
        self._progress.mkdir(exist_ok=True)
        identity = shard.identity
        try:
            with atomic_write(self.file(shard), self._progress) as temporary:
                with open(temporary, "w", encoding="utf-8") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                self.check()
        except FileNotFoundError:
            # Another process finished the same shard and swept up.
            if self.record(shard) is None:
                raise
            return
        record = {"shard": os.path.abspath(shard.path), **identity, **counts}
        write_text(self._progress / f"{shard.name}.json", json.dumps(record) + "\n")
        self._sweep(shard)

    def _sweep(self, shard):
        """Remove what killed processes left of a shard that is finished now."""
        left = re.compile(re.escape(shard.name) + r"\.[^.]*\.part\.jsonl")
        for path in self._progress.iterdir():
            if left.fullmatch(path.name):
                path.unlink(missing_ok=True)
