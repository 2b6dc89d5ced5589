"""A local server that answers like the Hugging Face Hub, with one model, and serves archives."""

import contextlib
import hashlib
import http.server
import json
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def hub(folder, repository, archives=()):
    """Serve the files of a folder as a model, and archives by their names; yields the URL."""
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    others = {file.name: file.read_bytes() for file in archives}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, with_body):
            path = self.path.partition("?")[0]
            name = path.rpartition("/")[2]
            if path.startswith(f"/api/models/{repository}/tree/"):
                entries = [
                    {"type": "file", "path": name, "size": len(content), "oid": COMMIT}
                    for name, content in files.items()
                ]
                body = json.dumps(entries).encode()
            elif path.startswith(f"/api/models/{repository}"):
                siblings = [{"rfilename": name} for name in files]
                body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
            elif path.startswith(f"/{repository}/resolve/") and name in files:
                body = files[name]
            elif path == f"/{name}" and name in others:
                body = others[name]
            else:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
