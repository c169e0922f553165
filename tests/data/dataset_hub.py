"""A Hub of data sets for `datasets` to stream from, in memory: what it asks for, and nothing else.

Run it as a script with a folder and an id: it serves the folder's files until its standard input closes and prints its
port first. Clients set HF_ENDPOINT, HF_HOME and HF_HUB_DISABLE_XET=1.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse


class DatasetHub(ThreadingHTTPServer):
    """One data set, one commit, one branch, `main`."""

    daemon_threads = True

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repo, self.files = repo, files
        self.sha = hashlib.sha1(repr(sorted(files)).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: DatasetHub

    def log_message(self, *args: object) -> None:
        """Silent."""

    def reply(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def missing(self, what: str) -> None:
        self.reply(404, {"error": f"{what} not found"}, {"X-Error-Code": f"{what}NotFound"})

    def do_GET(self) -> None:
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        hub = self.server
        if parts[:2] == ["api", "datasets"] and "/".join(parts[2:4]) == hub.repo:
            if parts[4:5] == ["tree"]:
                return self.tree("/".join(parts[6:]))
            siblings = [{"rfilename": name} for name in hub.files]
            return self.reply(200, {"id": hub.repo, "sha": hub.sha, "siblings": siblings})
        if parts[:1] == ["datasets"] and "/".join(parts[1:3]) == hub.repo and parts[3] == "resolve":
            return self.file("/".join(parts[5:]))
        return self.missing("Repo")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if "/paths-info/" not in self.path:
            return self.missing("Route")
        asked = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        return self.reply(200, [row for row in map(self.row, asked) if row])

    def row(self, path: str) -> dict[str, object] | None:
        files = self.server.files
        if path in files:
            oid = hashlib.sha1(files[path]).hexdigest()
            return {"type": "file", "path": path, "size": len(files[path]), "oid": oid}
        if any(name.startswith(f"{path}/") for name in files):
            return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
        return None

    def tree(self, folder: str) -> None:
        inside = f"{folder}/" if folder else ""
        children = {inside + n[len(inside) :].split("/")[0] for n in self.server.files if n.startswith(inside)}
        if not children:
            return self.missing("Entry")
        return self.reply(200, [self.row(path) for path in sorted(children)])

    def file(self, name: str) -> None:
        if name not in self.server.files:
            return self.missing("Entry")
        data = self.server.files[name]
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": self.server.sha}
        headers["Content-Type"] = "application/octet-stream"
        asked = self.headers.get("Range")
        if asked is None:
            return self.reply(200, data, headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or len(data) - 1), len(data) - 1)
        headers["Content-Range"] = f"bytes {start}-{stop}/{len(data)}"
        return self.reply(206, data[start : stop + 1], headers)


def main() -> None:
    folder, repo = Path(sys.argv[1]), sys.argv[2]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub = DatasetHub(repo, files)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    print(hub.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
