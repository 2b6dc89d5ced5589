"""Saves runs as numbered versions of a SavedModel, in the folder layout of TensorFlow Serving."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_aoa.runs.run import Run
from keras_aoa.serving.module import (
    BYTES,
    INPUTS,
    MAX_PIXELS,
    OUTPUTS,
    SCORE,
    SCORE_OUTPUTS,
    ServedCaptioner,
)
from keras_aoa.settings.search import SearchSettings
from keras_aoa.utils.errors import UserError, system_reason
from keras_aoa.utils.files import check_writable

DESCRIPTION = "captioner.json"
WARM_UP = "tf_serving_warmup_requests"


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        folder: Folder of the version.
        megabytes: Size of the files in the folder.
        served: The `ServedCaptioner` that was saved.
    """

    folder: pathlib.Path
    megabytes: float
    served: ServedCaptioner

    @property
    def description(self):
        """Lines that list the inputs and outputs of each signature."""
        lines = []
        for name, function in self.served.signatures.items():
            concrete = function.get_concrete_function()
            inputs = [
                spec.name for spec in concrete.structured_input_signature[0] if spec is not None
            ]
            outputs = SCORE_OUTPUTS if name == SCORE else OUTPUTS
            lines.append(f"signature {name!r}")
            lines += [f"  input   {key:15} {INPUTS[key]}" for key in inputs]
            lines += [f"  output  {key:15} {outputs[key]}" for key in concrete.structured_outputs]
        return lines


def export_run(
    run: Run,
    output: str | os.PathLike,
    search_settings: SearchSettings,
    version: int | None = None,
    max_pixels: int = MAX_PIXELS,
    storage: str = "exact",
) -> Exported:
    """Save a run's captioner, with image decoding and search, as `output/<version>`.

    The export is written to a temporary folder, which is then renamed atomically. Existing versions
    are never changed.

    Args:
        run: `Run`.
        output: Folder of all versions, which is created if missing.
        search_settings: `SearchSettings`.
        version: Number of the version. None selects the largest existing version plus 1.
        max_pixels: Maximum number of pixels in an image. Images with more pixels are invalid.
        storage: Storage of the weights, one of `stored_weights.STORAGES`.

    Returns:
        `Exported`.

    Raises:
        UserError: the run is incomplete, a setting does not apply to the run, the version already
            exists, or the folder cannot be written.
    """
    output = pathlib.Path(output)
    if output.exists() and not output.is_dir():
        raise UserError(
            f"{output}: expected a folder for the export, found a file; name another folder."
        )
    if version is not None and (output / str(version)).exists():
        raise _version_exists(output / str(version))
    check_writable(output)
    search = search_settings.of(run.configuration)
    view = run.proposal_view
    served = ServedCaptioner(
        run.load_captioner(for_inference=True),
        run.vocabulary,
        run.image_settings,
        view.settings if view else None,
        search,
        max_pixels,
        storage,
    )
    with _temporary_folder(output) as temporary:
        tf.saved_model.save(served.module, temporary, signatures=served.signatures)
        extra = temporary / "assets.extra"
        extra.mkdir()
        description = {
            "run": run.results_folder.name,
            "regions": run.configuration.regions,
            "vocabulary": run.vocabulary.digest,
            "search": search,
            "max_pixels": max_pixels,
            "weights": storage,
        }
        (extra / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        write_warm_up(extra / WARM_UP, with_proposals=view is not None)
        size = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
        folder = _publish(temporary, output, version)
    return Exported(folder, size / 1e6, served)


@contextlib.contextmanager
def _temporary_folder(output):
    """Create a folder in `output`, and remove it after the `with` block.

    Error messages name `output`.

    Raises:
        UserError: the disk is full, or another file system error occurs.
    """
    temporary = None
    try:
        output.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=output))
        temporary.chmod(0o755)
        yield temporary
    except (OSError, tf.errors.OpError) as error:
        # TensorFlow raises the same exception for a full disk and for lack of memory.
        from_tensorflow = isinstance(error, tf.errors.OpError)
        reason = system_reason(error.message) if from_tensorflow else error.strerror
        if reason is None:
            raise
        raise UserError(
            f"{output}: expected a folder that can be written, received {reason.lower()}; free "
            "some space, or choose another folder."
        ) from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _version_exists(folder):
    return UserError(
        f"{folder}: this version exists, and versions are never overwritten; choose another "
        "version, or omit --version."
    )


def _publish(temporary, output, version):
    """Rename a finished export to its version number."""
    while True:
        folder = output / str(version or newest_version(output) + 1)
        try:
            return temporary.rename(folder)
        except OSError:
            # Another export may have taken the number meanwhile.
            if not folder.exists():
                raise
            if version:
                raise _version_exists(folder) from None


def newest_version(output):
    """Return the largest version number in a folder, or 0 if there is no version."""
    numbers = [int(path.name) for path in output.iterdir() if path.name.isdecimal()]
    return max(numbers, default=0)


def write_warm_up(path, with_proposals):
    """Write warm-up requests, so that a user's first request is not slow.

    The server answers the warm-up requests before it reports that it is ready.

    Args:
        path: File to write. The file contains `PredictionLog` records of TensorFlow Serving.
        with_proposals: Whether the signatures have an input `proposals`.
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
