"""Runs as numbered versions of a SavedModel, the layout that TensorFlow Serving watches."""

import json
import os
import pathlib
import shutil
import tempfile
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_aoa.serving.module import (
    BYTES,
    INPUTS,
    MAX_PIXELS,
    OUTPUTS,
    SCORE,
    SCORE_OUTPUTS,
    ServedCaptioner,
)
from keras_aoa.utils.errors import UserError
from keras_aoa.utils.files import check_writable

DESCRIPTION = "captioner.json"
WARM_UP = "tf_serving_warmup_requests"


@dataclass(frozen=True)
class Exported:
    """Where an export is, its size, and what it was made from."""

    folder: pathlib.Path
    megabytes: float
    served: ServedCaptioner

    @property
    def description(self):
        """Lines that list the signatures, what each takes and what it gives."""
        lines = []
        for name, function in self.served.signatures.items():
            concrete = function.get_concrete_function()
            given = [
                spec.name for spec in concrete.structured_input_signature[0] if spec is not None
            ]
            outputs = SCORE_OUTPUTS if name == SCORE else OUTPUTS
            lines.append(f"signature {name!r}")
            lines += [f"  takes  {one:15} {INPUTS[one]}" for one in given]
            lines += [f"  gives  {one:15} {outputs[one]}" for one in concrete.structured_outputs]
        return lines


def export_run(run, output, search_settings, version=None, max_pixels=MAX_PIXELS):
    """Save a run's captioner, with reading, preparing and searching, as `output/<version>`.

    The folder appears under its number when it is whole; one that is there is never touched.

    Args:
        run: `Run`.
        output: Folder of all versions, made where it is missing.
        search_settings: `SearchSettings`.
        version: Its number; one more than the largest there by default.
        max_pixels: Of the largest image that is decoded.

    Returns:
        `Exported`.

    Raises:
        UserError: a run that is not whole, settings that do not fit it, or a version that exists.
    """
    output = pathlib.Path(output)
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: expected a folder for the export, found a file; name another.")
    if version is not None and (output / str(version)).exists():
        raise UserError(
            f"{output / str(version)}: exists, and a version is never overwritten; name another, "
            "or leave --version out."
        )
    check_writable(output)
    search = search_settings.of(run.configuration)
    view = run.proposal_view
    served = ServedCaptioner(
        run.load_captioner(),
        run.vocabulary,
        run.image_settings,
        view.settings if view else None,
        search,
        max_pixels,
    )
    output.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=output))
    temporary.chmod(0o755)
    try:
        tf.saved_model.save(served.module, temporary, signatures=served.signatures)
        extra = temporary / "assets.extra"
        extra.mkdir()
        about = {
            "run": run.results_folder.name,
            "regions": run.configuration.regions,
            "vocabulary": run.vocabulary.digest,
            "search": search,
            "max_pixels": max_pixels,
        }
        (extra / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        write_warm_up(extra / WARM_UP, with_proposals=view is not None)
        size = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
        folder = _published(temporary, output, version)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(folder, size / 1e6, served)


def _published(temporary, output, version):
    """Give a whole export its number."""
    while True:
        folder = output / str(version or newest_version(output) + 1)
        try:
            return temporary.rename(folder)
        except OSError:
            # Another export took the number in between.
            if version or not folder.exists():
                raise


def newest_version(output):
    """The largest version in a folder, 0 where there is none."""
    numbers = [int(path.name) for path in output.iterdir() if path.name.isdecimal()]
    return max(numbers, default=0)


def write_warm_up(path, with_proposals):
    """Write requests that a server answers before it says that it is ready, so that no user waits.

    Args:
        path: File, TensorFlow Serving's `PredictionLog` records.
        with_proposals: Whether signatures take proposals.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    shades = np.linspace(0, 255, 240 * 320 * 3).reshape(240, 320, 3).astype(np.uint8)
    image = tf.io.encode_jpeg(shades).numpy()
    with tf.io.TFRecordWriter(os.fspath(path)) as file:
        for signature, inputs in {BYTES: {}, SCORE: {"captions": [["a photograph"]]}}.items():
            inputs |= {"image_bytes": [image]}
            if with_proposals:
                inputs["proposals"] = np.array([[[0, 0, 1, 1]]], np.float32)
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.model_spec.signature_name = signature
            for name, value in inputs.items():
                log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            file.write(log.SerializeToString())
