"""Removes harmless start-up lines of TensorFlow from a command's output.

TensorFlow's C++ code writes these lines directly to file descriptor 2. Some lines are written
before TensorFlow reads TF_CPP_MIN_LOG_LEVEL. Python cannot intercept the lines, so a small separate
process filters the descriptor. If the command crashes, the filter still prints the command's last
lines.

This file is also the filter's script, which copies standard input to standard output. The file
imports only the standard library, because the filter starts without site packages.
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
    # TensorFlow then uses another implementation.
    "oneDNN supports DT_",
    # cuDNN, cuFFT or cuBLAS was already registered.
    "Unable to register cu",
    # tf.data replaced an operation by one without this attribute.
    "NodeDef mentions attribute use_unbounded_threadpool",
)
NO_GPU = "failed call to cuInit"
GPU_TROUBLE = re.compile(
    f"{NO_GPU}|GPU will not be used|dlopen|Skipping registering GPU|libcuda|CUDA_ERROR"
)


def install():
    """Start the filter when TensorFlow is imported.

    Python's `sys.stderr` is not filtered. There is no filter if TF_CPP_MIN_LOG_LEVEL is 0.
    """
    # Level 2 would hide warnings about GPU libraries that cannot be loaded.
    if os.environ.setdefault(LEVEL, "1") != "0":
        sys.meta_path.insert(0, _BeforeTensorFlow())


class _BeforeTensorFlow:
    """Import hook that starts the filter and leaves the import to Python."""

    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            with contextlib.suppress(ValueError):
                sys.meta_path.remove(self)
            # The filter cannot start if stderr is closed, for example; the command needs no filter.
            with contextlib.suppress(OSError):
                _filter_stderr()


def _filter_stderr():
    """Replace file descriptor 2 by a pipe to the filter until this process ends."""
    original = os.dup(2)
    reader, writer = os.pipe()
    # A new session, because Ctrl-C in the terminal must not end the filter before this process.
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
        # Do not wait longer, because a child process may keep the pipe open.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)

    atexit.register(finish)


def is_harmless(line, has_gpu):
    """Return whether a line of TensorFlow's log reports no problem.

    Information and warnings are harmless. Errors are harmless only if they contain one of
    `HARMLESS_ERRORS`. A line about a GPU that cannot be used is harmless only if no GPU is
    expected. Lines in other formats do not come from TensorFlow.

    Args:
        line: The line, a string.
        has_gpu: Whether TensorFlow should use a GPU of this machine.
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
    """Return whether this machine has an NVIDIA GPU that CUDA_VISIBLE_DEVICES does not hide."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if glob.glob("/dev/nvidia[0-9]*") or os.path.exists("/dev/dxg"):
        return True
    # Without its driver a GPU has no device file, but it is listed on the PCI bus.
    for device in pathlib.Path("/sys/bus/pci/devices").glob("*"):
        with contextlib.suppress(OSError):
            display = (device / "class").read_text().startswith("0x03")
            if display and (device / "vendor").read_text().strip() == "0x10de":
                return True
    return False


def filter_lines(source, target):
    """Copy lines from a binary stream to another, except harmless lines of TensorFlow's log."""
    has_gpu = expects_gpu()
    hidden = False
    for line in source:
        # "\t [[{{node ReadFile}}]]" continues the line before it.
        if not line.startswith(b"\t [["):
            hidden = is_harmless(line.decode(errors="replace"), has_gpu)
        if not hidden:
            target.write(line)
            target.flush()


if __name__ == "__main__":
    # The program that reads the output may end first.
    with contextlib.suppress(BrokenPipeError):
        filter_lines(sys.stdin.buffer, sys.stdout.buffer)
    with contextlib.suppress(OSError):
        for _ in sys.stdin.buffer:
            pass
    os._exit(0)
