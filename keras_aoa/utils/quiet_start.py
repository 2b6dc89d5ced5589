"""Keeps TensorFlow's start-up lines that report no problem out of a command's output.

TensorFlow's C++ code writes these lines directly to file descriptor 2, some before it reads
TF_CPP_MIN_LOG_LEVEL, so Python cannot intercept them. A small separate process filters what is
written there. It is not part of this process, so the last lines before a crash still appear.

Run as a script, this file is that filter, from standard input to standard output. It imports only
the standard library, because the filter starts without site packages.
"""

import atexit
import contextlib
import glob
import os
import pathlib
import re
import subprocess
import sys

LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# "I0000 00:00:1795646193.7 5889 port.cc:153] text", or "2026-01-31 12:00:00.1: I file.cc:1] text"
LOG_LINE = re.compile(r"(?:([IWEF])\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d \d\d:\d\d:[\d.]+: ([IWEF]) )")
CONTINUATIONS = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "To enable the following instructions: ",
)
HARMLESS_ERRORS = (
    "oneDNN supports DT_UINT8 only on platforms with AVX-512",  # uses another implementation
    "Unable to register cu",  # cuDNN, cuFFT or cuBLAS, already registered
)
NO_GPU = "failed call to cuInit"
GPU_TROUBLE = re.compile(
    f"{NO_GPU}|GPU will not be used|dlopen|Skipping registering GPU|libcuda|CUDA_ERROR"
)


def install():
    """Filter file descriptor 2 from the moment TensorFlow is imported, if it ever is.

    Python's `sys.stderr` keeps writing to the original file. Nothing is filtered if
    TF_CPP_MIN_LOG_LEVEL is 0.
    """
    # Level 2 would hide warnings about GPU libraries that cannot be loaded.
    if os.environ.setdefault(LEVEL, "1") != "0":
        sys.meta_path.insert(0, _BeforeTensorFlow())


class _BeforeTensorFlow:
    """An import hook that starts the filter; it finds no module itself."""

    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            with contextlib.suppress(ValueError):
                sys.meta_path.remove(self)
            # Without a filter, for example because stderr is closed, the command still works.
            with contextlib.suppress(OSError):
                _filter_stderr()


def _filter_stderr():
    """Replace file descriptor 2 by a pipe to the filter, until this process ends."""
    original = os.dup(2)
    reader, writer = os.pipe()
    # Ctrl-C reaches all processes of the terminal's session; the filter must outlive this one.
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=reader,
        stdout=original,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if sys.stderr is not None and sys.stderr is sys.__stderr__:
        sys.stderr.flush()
        sys.stderr = open(  # noqa: SIM115
            os.dup(original),
            "w",
            buffering=1,
            encoding=sys.stderr.encoding,
            errors=sys.stderr.errors,
        )
    os.dup2(writer, 2)
    os.close(writer)
    os.close(reader)

    def finish():
        os.dup2(original, 2)
        # A child process may keep the pipe open.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)

    atexit.register(finish)


def is_harmless(line, has_gpu):
    """Return whether a line of TensorFlow's log reports no problem.

    Information and warnings are harmless, except about a GPU that cannot be used. Errors are not,
    except a few known ones. Lines in other formats are not TensorFlow's.

    Args:
        line: The line, a string.
        has_gpu: Whether this machine has a GPU that should be used.
    """
    if line.startswith(CONTINUATIONS):
        return True
    match = LOG_LINE.match(line)
    if not match:
        return False
    level = match[1] or match[2]
    if GPU_TROUBLE.search(line):
        return not has_gpu and (level in "IW" or NO_GPU in line)
    return level in "IW" or (level == "E" and any(text in line for text in HARMLESS_ERRORS))


def expects_gpu():
    """Return whether this machine has an NVIDIA GPU and CUDA_VISIBLE_DEVICES does not hide it."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if glob.glob("/dev/nvidia[0-9]*") or os.path.exists("/dev/dxg"):
        return True
    # A GPU without its driver has no device file, but is on the PCI bus.
    for device in pathlib.Path("/sys/bus/pci/devices").glob("*"):
        with contextlib.suppress(OSError):
            display = (device / "class").read_text().startswith("0x03")
            if display and (device / "vendor").read_text().strip() == "0x10de":
                return True
    return False


def filter_lines(source, target):
    """Copy lines of a binary stream to another one, except harmless lines of TensorFlow's log."""
    has_gpu = expects_gpu()
    for line in source:
        if not is_harmless(line.decode(errors="replace"), has_gpu):
            target.write(line)
            target.flush()


if __name__ == "__main__":
    # The reader of the output may end first.
    with contextlib.suppress(BrokenPipeError):
        filter_lines(sys.stdin.buffer, sys.stdout.buffer)
    with contextlib.suppress(OSError):
        for _ in sys.stdin.buffer:
            pass
    os._exit(0)
