"""TensorFlow's lines that report no problem are left out of a command's output; others are not."""

import io
import os
import subprocess
import sys

import pytest

from keras_aoa.utils.quiet_start import LEVEL, filter_lines, is_harmless

HARMLESS = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795646193.717561    5889 port.cc:153] oneDNN custom operations are on.",
    "I0000 00:00:1795646703.180288   10318 cpu_feature_guard.cc:227] This binary is optimized to",
    "To enable the following instructions: AVX2 AVX512F, in other operations, rebuild TensorFlow",
    "2026-01-31 12:00:00.123: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.",
    "W0000 00:00:1795646703.180288   10318 cpu_allocator.cc:84] Allocation of 400 exceeds 10%",
    "E0000 00:00:1795646202.904551    5889 util.cc:131] oneDNN supports DT_UINT8 only on platforms "
    "with AVX-512. Falling back to the default Eigen-based implementation if present.",
    "E0000 00:00:1747000000.1 99 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting to",
    "E0000 00:00:1795777736.437794   27833 node_def_util.cc:682] NodeDef mentions attribute "
    "use_unbounded_threadpool which is not in the op definition: Op<name=MapDataset;",
]
HARMLESS_WITHOUT_GPU = [
    "I0000 00:00:1795646193.722320    5889 cudart_stub.cc:31] Could not find cuda drivers on your "
    "machine, GPU will not be used.",
    "E0000 00:00:1795646196.332076    5889 cuda_platform.cc:52] failed call to cuInit: INTERNAL: "
    "CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)",
    "W0000 00:00:1795646196.332076 5889 gpu_device.cc:2342] Cannot dlopen some GPU libraries.",
]
TROUBLE = [
    "E0000 00:00:1795646196.332076 5889 cuda.cc:9] CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    "E0000 00:00:1795646196.332076 5889 cuda_dnn.cc:9] Could not create cudnn handle",
    "F0000 00:00:1795646196.332076 5889 tensor.cc:9] Check failed: dtype() == expected_dtype",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "E0000 00:00:1795777736.437794   27833 node_def_util.cc:682] NodeDef mentions attribute other",
    "Error: a line of another library",
]


@pytest.mark.parametrize("has_gpu", [False, True])
def test_harmless_lines_are_recognized(has_gpu):
    for line in HARMLESS:
        assert is_harmless(line, has_gpu), line
    for line in HARMLESS_WITHOUT_GPU:
        assert is_harmless(line, has_gpu) is not has_gpu, line
    for line in TROUBLE:
        assert not is_harmless(line, has_gpu), line


def test_a_continuation_shares_the_fate_of_its_line():
    own = "\t [[{{node ReadFile}}]]"
    lines = [HARMLESS[-3], own, TROUBLE[0], own, HARMLESS[0], own, TROUBLE[-1], own]
    shown = io.BytesIO()
    filter_lines(io.BytesIO("".join(f"{line}\n" for line in lines).encode()), shown)
    assert shown.getvalue().decode().splitlines() == [TROUBLE[0], own, TROUBLE[-1], own]


COMMAND = """
import os, sys
from keras_aoa.utils.command_line import run

def main(arguments):
    print("before", file=sys.stderr)
    import tensorflow
    print("after", file=sys.stderr)
    if arguments == ["crash"]:
        os.write(2, b"F0000 00:00:1.2 5 tensor.cc:9] Check failed\\n")
        os.abort()
    raise ValueError("a defect")

run(main)
"""


def run_with_lines(folder, lines, *arguments, **environment):
    """Run a command whose TensorFlow writes lines to file descriptor 2; return its stderr."""
    content = "".join(f"{line}\n" for line in lines).encode()
    (folder / "tensorflow.py").write_text(f"import os\nos.write(2, {content!r})\n")
    environment = {
        **{name: text for name, text in os.environ.items() if name != LEVEL},
        "PYTHONPATH": str(folder),
        "CUDA_VISIBLE_DEVICES": "",
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ).stderr.splitlines()


def test_command_prints_its_own_lines_and_trouble(tmp_path):
    errors = run_with_lines(tmp_path, HARMLESS + HARMLESS_WITHOUT_GPU + TROUBLE)
    assert errors[0] == "before"
    assert [line for line in errors if line in TROUBLE] == TROUBLE
    assert not set(errors) & {*HARMLESS, *HARMLESS_WITHOUT_GPU}
    assert "after" in errors
    assert "ValueError: a defect" in errors


def test_last_line_before_a_crash_appears(tmp_path):
    errors = run_with_lines(tmp_path, HARMLESS, "crash")
    assert [line for line in errors if "Check failed" in line]
    assert not set(errors) & set(HARMLESS)


def test_level_0_shows_all_lines(tmp_path):
    assert set(HARMLESS) < set(run_with_lines(tmp_path, HARMLESS, **{LEVEL: "0"}))


def test_closed_pipe_ends_a_command_without_a_message():
    code = (
        "from keras_aoa.utils.command_line import run\n"
        "run(lambda _: [print('a line of output') for _ in range(20000)])"
    )
    command = f'{sys.executable} -c "{code}" | head -1'
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr, done.returncode) == ("a line of output\n", "", 141)


def test_other_broken_pipes_are_reported():
    code = (
        "from keras_aoa.utils.command_line import run\n"
        "def main(_): raise BrokenPipeError(32, 'Broken pipe')\n"
        "run(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Broken pipe" in done.stderr
