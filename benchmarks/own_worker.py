"""Our step and our captioners for other benchmarks, and the worker of `benchmarks.peers`."""

import functools
import json
import sys

from benchmarks.workers import serve


def make(step=None, live=None, exported=None):
    """Build a step, or a captioner for each beam size.

    The arguments are those of `make_step`, `live_captions` or `exported_captions`.
    """
    if step:
        return {"step": make_step(**step)}, {}
    return live_captions(**live) if live else exported_captions(**exported)


def make_step(dtype, **size):
    """Return a function that trains on one batch, as `benchmarks.decoder` does."""
    from benchmarks import decoder

    size = decoder.Size(**size)
    step, batch = decoder.make_step(size.words, dtype), decoder.random_batch(size)
    return lambda: step(batch)


def live_captions(run, image, beams, words):
    """Return a function for each beam size that captions an image file, and facts of the run.

    Args:
        run: Folder of a run, or a captioner's name.
        image: Path of the file.
        beams: Beam sizes.
        words: Number of words of the caption.
    """
    import pathlib

    from keras_aoa.inference.image_captioner import ImageCaptioner
    from keras_aoa.utils.keras_settings import use_keras_defaults

    use_keras_defaults()
    captioners = {
        beam: ImageCaptioner(run, beam=beam, min_words=words, max_words=words) for beam in beams
    }
    content = pathlib.Path(image).read_bytes()
    functions = {
        str(beam): (lambda captioner=captioner: captioner.captions(content))
        for beam, captioner in captioners.items()
    }
    return functions, facts(run, captioners[beams[0]].captioner)


def exported_captions(folders, image):
    """Return a function for each export that captions an image file.

    Args:
        folders: Dictionary from the name of the function to the folder of an exported version.
        image: Path of the file.
    """
    import pathlib

    import tensorflow as tf

    content = tf.constant([pathlib.Path(image).read_bytes()])
    functions = exported_functions(folders)
    return {name: functools.partial(caption, content) for name, caption in functions.items()}, {}


def exported_functions(folders):
    """Return a function for each export that captions a tensor of the contents of image files.

    Args:
        folders: Dictionary from the name of the function to the folder of an exported version.
    """
    import tensorflow as tf

    def caption(model, contents):
        return model.signatures["serving_default"](image_bytes=contents)["captions"].numpy()

    loaded = {name: tf.saved_model.load(folder) for name, folder in folders.items()}
    return {name: functools.partial(caption, model) for name, model in loaded.items()}


def export(run, output, beams=(None,), words=None):
    """Export a run with each beam size.

    Args:
        run: Folder of a run, or a captioner's name.
        output: Folder to create.
        beams: Beam sizes. None: the run's own beam.
        words: Number of words of all captions. None: the run's own length.

    Returns:
        A dictionary: the folders by beam size, the names of tensors in the last folder (see
        `tensor_names`), and facts of the run.
    """
    from keras_aoa.runs.ensemble import open_run
    from keras_aoa.serving.save import export_run
    from keras_aoa.settings.search import SearchSettings
    from keras_aoa.utils.keras_settings import use_keras_defaults

    use_keras_defaults()
    opened, folders = open_run(run), {}
    for beam in beams:
        search = SearchSettings(beam=beam, min_words=words, max_words=words)
        exported = export_run(opened, f"{output}/beam{beam}", search)
        folders[str(beam)] = str(exported.folder)
    counted = facts(run, opened.load_captioner(for_inference=True))
    names = tensor_names(exported.folder)
    return {"folders": folders, "tensors": names, **counted, "megabytes": exported.megabytes}


def tensor_names(folder):
    """Return the names of an export's input and output, and the number of the output."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = (folder / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(saved).meta_graphs[0]
    signature = graph.signature_def["serving_default"]
    image_bytes = signature.inputs["image_bytes"].name.split(":")[0]
    return [image_bytes, *signature.outputs["captions"].name.split(":")]


def facts(run, captioner):
    """Return the number of parameters, and the megabytes of the run's files."""
    import math

    from keras_aoa.runs.named import run_folder

    files = [file for file in run_folder(run).iterdir() if file.suffix in (".npz", ".keras")]
    return {
        "parameters": sum(math.prod(weight.shape) for weight in captioner.weights),
        "megabytes": sum(file.stat().st_size for file in files) / 1e6,
    }


if __name__ == "__main__":
    serve(lambda: make(**json.loads(sys.argv[1])))
