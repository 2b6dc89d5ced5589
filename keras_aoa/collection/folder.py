"""The output folder of a captioned collection.

captions/part-0000.jsonl          captions of a finished shard
captions/settings.json            digests of the run's files, and search settings
captions/progress/part-0000.json  identity and counts of a finished shard
captions/progress/*.part.jsonl    temporary files of shards in progress
"""

import contextlib
import json
import os
import pathlib
import re

from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import atomic_write, write_text

FORMAT_VERSION = 1  # increase it if a code change alters captions at equal settings


def describe(run, search_settings):
    """Describe everything that determines the captions of a run.

    Args:
        run: `Run` or `EnsembleRun`.
        search_settings: `SearchSettings`.

    Returns:
        Dictionary of the run's name, digests of its files, and the search settings.

    Raises:
        UserError: the run is not trained yet, or a setting does not fit the run.
    """
    from keras_aoa.models.weights import file_digest

    members = getattr(run, "members", [run])
    names = ",".join(member.folder.name for member in members)
    described = {"format": FORMAT_VERSION, "run": names}
    for name in ("best_file", "backbone_file", "vocabulary_file", "config_file"):
        files = [getattr(member, name) for member in members]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise UserError(
                f"{missing[0]}: expected a file of a trained run, found none; train the run first."
            )
        described[name.removesuffix("_file")] = ",".join(map(file_digest, files))
    view = run.proposal_view
    if view and view.search.edge_model:
        described["edge_model"] = file_digest(view.search.edge_model)
    # As in the folder's file: json has no tuples.
    return described | json.loads(json.dumps(search_settings.of(run.configuration)))


class OutputFolder:
    """Folder with the captions of all shards.

    All captions come from the same run with the same search settings.

    Args:
        folder: Path of the folder, which is created if missing.
        settings: Output of `describe`.

    Raises:
        UserError: the folder's captions were generated with other settings, or the folder contains
            `.jsonl` files that this command did not write.
    """

    def __init__(self, folder, settings):
        self.path = pathlib.Path(folder)
        self._settings = settings
        self._progress = self.path / "progress"
        self._settings_file = self.path / "settings.json"
        if self.path.exists() and not self.path.is_dir():
            raise UserError(
                f"{self.path}: expected a folder for captions, found a file; name another --output."
            )
        if not self._settings_file.exists():
            foreign_file = next(self.path.glob("*.jsonl"), None)
            if foreign_file:
                raise UserError(
                    f"{self.path}: expected an empty folder or the output of this command, found "
                    f"{foreign_file.name} without settings.json; name another --output."
                )
            self._progress.mkdir(parents=True, exist_ok=True)
            write_text(self._settings_file, json.dumps(settings, indent=2) + "\n")
        self.check()

    def check(self):
        """Check that the captions in the folder were generated with this object's settings.

        Raises:
            UserError: settings differ. The message names the settings that differ.
        """
        try:
            recorded = json.loads(self._settings_file.read_text(encoding="utf-8"))
            names = [name for name in {**self._settings, **recorded} if name != "run"]
        except (OSError, ValueError, TypeError):
            raise UserError(
                f"{self._settings_file}: expected the settings of the folder's captions, found no "
                "file or a damaged file; restore the file, or name another --output."
            ) from None
        received, expected = (
            [
                f"{name} {settings.get(name)}"
                for name in names
                if recorded.get(name) != self._settings.get(name)
            ]
            for settings in (self._settings, recorded)
        )
        if expected:
            raise UserError(
                f"{self.path}: expected captions made by run {recorded.get('run')} with "
                f"{', '.join(expected)}, received {self._settings['run']} with "
                f"{', '.join(received)}; use the same settings, or name another --output."
            )

    def file(self, shard):
        """Return the path of a shard's captions."""
        return self.path / f"{shard.name}.jsonl"

    def record(self, shard):
        """Return the counts of a finished shard.

        Returns:
            Dictionary with `images`, `unreadable` and `left_out`, or None if the shard is not
            finished.

        Raises:
            UserError: the captions belong to a different shard with the same name.
        """
        file = self._progress / f"{shard.name}.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            identity = {name: record[name] for name in shard.identity}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        if identity != shard.identity:
            raise UserError(
                f"{self.file(shard)}: contains captions of {record.get('shard')}, whose content "
                f"differs from {shard.path}; remove the captions and {file}, or name another "
                "--output."
            )
        return record if self.file(shard).exists() else None

    @contextlib.contextmanager
    def writing(self, shard, counts):
        """Open a temporary file for a shard's captions.

        If the `with` block succeeds, the file is renamed atomically.

        Args:
            shard: `Shard`.
            counts: Dictionary of counts that the caller fills inside the `with` block. The
                dictionary is stored in the shard's record at the end of the block.

        Raises:
            UserError: the folder's settings changed while the file was open.
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
            # Another process finished the same shard and removed this temporary file.
            if self.record(shard) is None:
                raise
            return
        record = {"shard": os.path.abspath(shard.path), **identity, **counts}
        write_text(self._progress / f"{shard.name}.json", json.dumps(record) + "\n")
        self._remove_leftovers(shard)

    def _remove_leftovers(self, shard):
        """Remove temporary files that killed processes left behind for a finished shard."""
        leftover = re.compile(re.escape(shard.name) + r"\.[^.]*\.part\.jsonl")
        for path in self._progress.iterdir():
            if leftover.fullmatch(path.name):
                path.unlink(missing_ok=True)
