"""Ask a served captioner: captions on the screen, and a page that shows where it looked.

`python export/client.py photo.jpg ... --page answer.html`. The standard library is enough over
REST; `--grpc` needs tensorflow-serving-api, `--proposals` keras_aoa itself.
"""

import argparse
import base64
import html
import http.client
import json
import mimetypes
import pathlib
import sys
import urllib.error
import urllib.request

SECONDS = 120  # until an answer is given up
TOGETHER = 16  # images of a request: what servers commonly allow in a batch


class ServerError(Exception):
    """What the server, or the way to it, said in place of an answer."""


def main(arguments=None):
    """Caption, or score, what the arguments name; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument("--url", default="http://localhost:8501", help="of the REST server")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="ask over gRPC, commonly port 8500")
    parser.add_argument("--model", default="captioner", help="name of the model")
    parser.add_argument("--score", metavar="SENTENCE", help="score this in place of captioning")
    parser.add_argument("--proposals", action="store_true", help="for models of object proposals")
    parser.add_argument("--edge-model", default="", help="for proposals, as in training")
    parser.add_argument("--page", metavar="FILE", help="write a page with the areas of each word")
    given = parser.parse_args(arguments)
    ask, address = (ask_grpc, given.grpc) if given.grpc else (ask_rest, given.url)
    try:
        files = [pathlib.Path(name).read_bytes() for name in given.images]
        rows = [{"image_bytes": file} for file in files]
        if given.score is not None:
            rows = [{**row, "captions": [given.score]} for row in rows]
        if given.proposals:
            add_proposals(rows, given.edge_model)
        answers = []
        for start in range(0, len(rows), TOGETHER):
            some = rows[start : start + TOGETHER]
            answers += ask(address, given.model, signature(given), some)
        for name, answer in zip(given.images, answers, strict=True):
            print_answer(name, answer)
        if given.page:
            write_page(given.page, given.images, files, answers)
    except (OSError, ValueError, http.client.HTTPException, ServerError) as problem:
        print(f"client: {problem}", file=sys.stderr)
        return 1
    except (LookupError, TypeError, AttributeError, ArithmeticError):
        print(f"client: {address}: answered something else than captions.", file=sys.stderr)
        return 1
    return 0 if all(answer["valid"] for answer in answers) else 1


def signature(given):
    """Name of the signature that the arguments ask for."""
    return "serving_default" if given.score is None else "score"


def ask_rest(url, model, signature_name, rows):
    """Answers, a dictionary for each row, from `/v1/models/MODEL:predict`.

    Args:
        url: Of the server.
        model: Its name.
        signature_name: Of the model.
        rows: A dictionary of inputs for each image.

    Raises:
        ServerError: no server there, or what it answers instead.
    """

    def encoded(value):
        return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value

    instances = [{name: encoded(value) for name, value in row.items()} for row in rows]
    body = json.dumps({"signature_name": signature_name, "instances": instances}).encode()
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v1/models/{model}:predict", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as reply:
            return json.load(reply)["predictions"]
    except (ValueError, KeyError, TypeError):
        raise ServerError(f"{url}: answered something else than predictions.") from None
    except urllib.error.HTTPError as error:
        raise ServerError(f"{error.code}: {error.read().decode(errors='replace')}") from None
    except urllib.error.URLError as error:
        raise ServerError(f"{url}: {error.reason}; is the server running?") from None


def ask_grpc(address, model, signature_name, rows):
    """As `ask_rest`, over gRPC."""
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
            outputs = stub.Predict(request, timeout=SECONDS).outputs
    except grpc.RpcError as error:
        raise ServerError(f"{address}: {error.code().name}: {error.details()}") from None

    def plain(value):
        if isinstance(value, list):
            return [plain(part) for part in value]
        return value.decode() if isinstance(value, bytes) else value

    found = {name: plain(tf.make_ndarray(value).tolist()) for name, value in outputs.items()}
    return [{name: value[row] for name, value in found.items()} for row in range(len(rows))]


def add_proposals(rows, edge_model):
    """Object proposals of each row's image, found here: the server has no OpenCV."""
    from keras_aoa.data.images.split_images import padded
    from keras_aoa.data.proposals.cache import ProposalSettings, propose
    from keras_aoa.inference.image_captioner import read_pixels
    from keras_aoa.utils.errors import UserError

    settings = ProposalSettings(edge_model=edge_model)

    def boxes_of(file):
        try:
            return propose(read_pixels(file), settings)
        except UserError:
            return []  # the server says which images it cannot read

    found = [boxes_of(row["image_bytes"]) for row in rows]
    for row, boxes in zip(rows, padded(found, 1), strict=True):
        row["proposals"] = boxes.tolist()


def print_answer(name, answer):
    """A line for each caption; for scored words one each."""
    if not answer["valid"]:
        print(f"{name}: not an image that the server can read")
        return
    if "captions" in answer:
        for caption, log_prob in zip(answer["captions"], answer["log_probs"], strict=True):
            print(f"{name}: {caption} ({log_prob:.2f})")
        return
    words = [word for word in answer["words"][0] if word]
    print(f"{name}: {' '.join(words)} ({answer['log_probs'][0]:.2f})")
    for word, log_prob in zip(words, answer["word_log_probs"][0], strict=False):
        print(f"    {log_prob:7.2f}  {word}")


def write_page(path, names, files, answers):
    """Write a page: each image with its words; one that is pointed at lights up its areas.

    Everything is in the one file; no script runs.
    """
    cards = [
        card(number, *each) for number, each in enumerate(zip(names, files, answers, strict=True))
    ]
    most = max(len(answer["words"][0]) for answer in answers)
    lit = "\n".join(
        f".card:has(.w{number}:hover, .w{number}:focus) .a{number} {{ opacity: 1 }}"
        for number in range(most)
    )
    page = PAGE.replace("LIT", lit).replace("CARDS", "\n".join(cards))
    pathlib.Path(path).write_text(page, encoding="utf-8", errors="replace")


def card(place, name, file, answer):
    """One image with the words and areas of its best caption."""
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
        shade(f"m{place}-{number}", number, answer["attention"][0][number], answer["boxes"])
        for number in range(len(words))
    )
    return (
        f'<section class="card"><p class="words">{links}</p>'
        f'<div class="picture"><img src="{image}" alt="{title}">'
        f'<svg viewBox="0 0 1 1" preserveAspectRatio="none">{shades}</svg></div>'
        f"<p>{title}, log-probability {answer['log_probs'][0]:.2f}</p></section>"
    )


def shade(name, number, weights, boxes):
    """SVG that dims an image but for the regions of one word, and outlines the strongest."""
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
<title>Captions and where the model looked</title>
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
LIT
</style>
<p>Point at a word, or step through the words with the tabulator key: its areas light up.</p>
CARDS
</html>
"""

if __name__ == "__main__":
    sys.exit(main())
