"""Folders that one worker of pytest-xdist makes for all workers."""

import fcntl
import os


def made_once(tmp_path_factory, name, make):
    """Return a folder that `make(folder)` fills; the first worker to ask makes it.

    The folder belongs to the whole test session, so tests that change it take a copy.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / name, root / f"{name}.done"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            done.touch()
    return folder
