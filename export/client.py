"""Send images to a served captioner, print the captions, and write a page with the attention.

Example: `python export/client.py photo.jpg ... --page answer.html`. REST needs only the standard
library, `--grpc` needs tensorflow-serving-api, and `--proposals` needs keras_aoa.
"""

import argparse
import base64
import contextlib
import html
import http.client
import json
import math
import mimetypes
import pathlib
import sys
import urllib.error
import urllib.request

TIMEOUT = 120  # seconds per request
REQUEST_IMAGES = 16  # images per request; more images may exceed a server's batch limit


class ServerError(Exception):
    """The server returned an error or cannot be reached."""


def main(arguments=None):
    """Caption or score the images that the arguments name, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument("--url", default="http://localhost:8501", help="URL of the REST server")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="use gRPC, usually on port 8500")
    parser.add_argument("--model", default="captioner", help="name of the model")
    parser.add_argument("--score", metavar="SENTENCE", help="score this sentence for each image")
    parser.add_argument(
        "--proposals", action="store_true", help="send object proposals, if the model needs them"
    )
    parser.add_argument("--edge-model", default="", help="edge model of the training run")
    parser.add_argument(
        "--proposal-method", default="edge_boxes", help="proposal_method of the training run"
    )
    parser.add_argument("--page", metavar="FILE", help="write a page with each word's attention")
    options = parser.parse_args(arguments)
    ask, address = (ask_grpc, options.grpc) if options.grpc else (ask_rest, options.url)
    try:
        files = [pathlib.Path(name).read_bytes() for name in options.images]
        rows = [{"image_bytes": file} for file in files]
        if options.score is not None:
            rows = [{**row, "captions": [options.score]} for row in rows]
        if options.proposals:
            add_proposals(rows, options.edge_model, options.proposal_method)
        signature = "serving_default" if options.score is None else "score"
        answers = []
        for start in range(0, len(rows), REQUEST_IMAGES):
            answers += ask(address, options.model, signature, rows[start : start + REQUEST_IMAGES])
        for name, answer in zip(options.images, answers, strict=True):
            print_answer(name, answer)
        if options.page:
            write_page(options.page, options.images, files, answers)
    except (OSError, ValueError, http.client.HTTPException, ServerError) as error:
        print(f"client: {error}", file=sys.stderr)
        return 1
    except (LookupError, TypeError, AttributeError, ArithmeticError):
        print(f"client: {address}: expected captions, received another answer.", file=sys.stderr)
        return 1
    return 0 if all(answer["valid"] for answer in answers) else 1


def ask_rest(url, model, signature_name, rows):
    """Send a request to `/v1/models/MODEL:predict` of a REST server.

    Args:
        url: URL of the server.
        model: Name of the model.
        signature_name: Name of the signature.
        rows: List of dictionaries, each with the inputs of one image.

    Returns:
        List of dictionaries, each with the outputs of one image.

    Raises:
        ServerError: the server cannot be reached, or it returned an error.
    """

    def encoded(value):
        return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value

    instances = [{name: encoded(value) for name, value in row.items()} for row in rows]
    body = json.dumps({"signature_name": signature_name, "instances": instances}).encode()
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v1/models/{model}:predict", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            return json.load(reply)["predictions"]
    except (ValueError, KeyError, TypeError):
        raise ServerError(f"{url}: expected predictions, received another answer.") from None
    except urllib.error.HTTPError as error:
        raise ServerError(f"{error.code}: {error.read().decode(errors='replace')}") from None
    except urllib.error.URLError as error:
        raise ServerError(f"{url}: {error.reason}; is the server running?") from None


def ask_grpc(address, model, signature_name, rows):
    """Send a request over gRPC. Arguments, results and errors are the same as for `ask_rest`."""
    with contextlib.suppress(ImportError):  # without keras_aoa, TensorFlow prints start-up lines
        from keras_aoa.utils import quiet_start

        quiet_start.install()
    import grpc
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature_name
    for name in rows[0]:
        values = [row[name] for row in rows]
        dtype = np.float32 if name == "proposals" else None
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype))
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    try:
        with grpc.insecure_channel(address, options) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            response = stub.Predict(request, timeout=TIMEOUT)
    except grpc.RpcError as error:
        raise ServerError(f"{address}: {error.code().name}: {error.details()}") from None

    def plain(value):
        if isinstance(value, list):
            return [plain(part) for part in value]
        return value.decode() if isinstance(value, bytes) else value

    outputs = {
        name: plain(tf.make_ndarray(value).tolist()) for name, value in response.outputs.items()
    }
    return [{name: value[row] for name, value in outputs.items()} for row in range(len(rows))]


def add_proposals(rows, edge_model, method):
    """Add object proposals to each row. The server has no OpenCV and cannot find proposals."""
    from keras_aoa.data.images.split_images import padded
    from keras_aoa.data.proposals.cache import ProposalSettings, propose
    from keras_aoa.data.proposals.edge_boxes import check_opencv
    from keras_aoa.inference.image_captioner import read_pixels
    from keras_aoa.utils.errors import UserError

    try:
        settings = ProposalSettings(edge_model=edge_model, method=method)
        check_opencv()
    except UserError as error:
        raise ValueError(str(error)) from None

    def boxes_of(file):
        try:
            return propose(read_pixels(file), settings)
        except UserError:
            return []  # the server reports which images it cannot read

    proposals = [boxes_of(row["image_bytes"]) for row in rows]
    for row, boxes in zip(rows, padded(proposals, 1), strict=True):
        row["proposals"] = boxes.tolist()


def print_answer(name, answer):
    """Print a line for each caption. For a scored sentence, also print a line for each word."""
    if not answer["valid"]:
        print(f"{name}: not an image that the server can read")
        return
    if "captions" in answer:
        for caption, log_prob in zip(answer["captions"], answer["log_probs"], strict=True):
            # TensorFlow Serving writes -Infinity if fewer captions exist, and server.py null.
            if log_prob is not None and math.isfinite(log_prob):
                print(f"{name}: {caption} ({log_prob:.2f})")
        return
    words = [word for word in answer["words"][0] if word]
    print(f"{name}: {' '.join(words)} ({answer['log_probs'][0]:.2f})")
    for word, log_prob in zip(words, answer["word_log_probs"][0], strict=False):
        print(f"    {log_prob:7.2f}  {word}")


def write_page(path, names, files, answers):
    """Write a page that highlights the attended regions of the word under the mouse pointer.

    The page is a single file without scripts.
    """
    cards = [
        card(index, *image) for index, image in enumerate(zip(names, files, answers, strict=True))
    ]
    max_words = max(len(answer["words"][0]) for answer in answers)
    highlights = "\n".join(
        f".card:has(.w{number}:hover, .w{number}:focus) .a{number} {{ opacity: 1 }}"
        for number in range(max_words)
    )
    page = PAGE.replace("HIGHLIGHTS", highlights).replace("CARDS", "\n".join(cards))
    pathlib.Path(path).write_text(page, encoding="utf-8", errors="replace")


def card(index, name, file, answer):
    """Return HTML for one image, with the words and the attention of its best caption."""
    kind = mimetypes.guess_type(pathlib.Path(name).name)[0] or "image/jpeg"
    image = f"data:{html.escape(kind)};base64,{base64.b64encode(file).decode()}"
    title = html.escape(pathlib.Path(name).name)
    if not answer["valid"]:
        return (
            f'<section class="card"><p>{title}: not an image that the server can read</p></section>'
        )
    words = [word for word in answer["words"][0] if word]
    links = " ".join(
        f'<a tabindex="0" class="w{number}">{html.escape(word)}</a>'
        for number, word in enumerate(words)
    )
    shades = "".join(
        shade(f"m{index}-{number}", number, answer["attention"][0][number], answer["boxes"])
        for number in range(len(words))
    )
    return (
        f'<section class="card"><p class="words">{links}</p>'
        f'<div class="picture"><img src="{image}" alt="{title}">'
        f'<svg viewBox="0 0 1 1" preserveAspectRatio="none">{shades}</svg></div>'
        f"<p>{title}, log-probability {answer['log_probs'][0]:.2f}</p></section>"
    )


def shade(name, number, weights, boxes):
    """Return SVG that dims an image outside a word's regions, and outlines the strongest region."""
    largest = max(weights)
    corners = [" ".join(f"{x:.4f},{y:.4f}" for x, y in box) for box in boxes]
    holes = "".join(
        f'<polygon points="{points}" fill-opacity="{weight / largest:.3f}"/>'
        for weight, points in zip(weights, corners, strict=True)
        if weight >= 0.02 * largest
    )
    return (
        f'<g class="a{number}"><mask id="{name}"><rect width="1" height="1" fill="#fff"/>{holes}'
        f'</mask><rect width="1" height="1" class="night" mask="url(#{name})"/>'
        f'<polygon points="{corners[weights.index(largest)]}" class="strongest"/></g>'
    )


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Captions and attention</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 44rem; padding: 0 1rem }
.words a { cursor: pointer; font-size: 1.4rem; padding: 0.1em 0.2em; border-radius: 0.2em }
.words a:hover, .words a:focus { background: #ffd54a; outline: none }
.picture { position: relative; line-height: 0 }
.picture img { width: 100% }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100% }
.picture g { opacity: 0 }
.night { fill: #080e22; fill-opacity: 0.8 }
.strongest { fill: none; stroke: #ffd54a; stroke-width: 2; vector-effect: non-scaling-stroke }
HIGHLIGHTS
</style>
<p>Point at a word, or move through the words with the Tab key, to highlight its regions.</p>
CARDS
</html>
"""

if __name__ == "__main__":
    sys.exit(main())
