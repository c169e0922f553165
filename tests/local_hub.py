"""A Hub of a few routes for the tests, in memory: create, push (small and LFS files), resolve, revision, tree; models,
and data sets, whose ids here begin with `datasets/`.

Run it as a script to serve until its standard input closes; it prints its port first. Clients set HF_ENDPOINT, HF_TOKEN
and HF_HUB_DISABLE_XET=1 (uploads through Xet cannot be served this simply).
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse


class Hub(ThreadingHTTPServer):
    """`repositories`: id to path to bytes. There is one commit and one branch, `main`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.served = []

    served: list[str]  # what was downloaded, in order

    def commit(self, repo: str) -> str:
        files = self.repositories[repo]
        return hashlib.sha1(json.dumps({k: hashlib.sha1(v).hexdigest() for k, v in files.items()}).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: object) -> None:
        """Silent."""

    def reply(self, status: int, body: object = None, headers: dict[str, str] | None = None) -> None:
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

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        api = parts[:2] in (["api", "models"], ["api", "datasets"])
        of = "datasets/" if "datasets" in parts[:2] else ""
        if of and not api:
            parts = parts[1:]
        repo = of + "/".join(parts[2:4] if api else parts[:2])
        files = self.server.repositories.get(repo)
        if files is None:
            return self.missing("Repo")
        sha = self.server.commit(repo)
        if not api:  # owner/name/resolve/REVISION/path
            name = "/".join(parts[4:])
            if parts[3] not in ("main", sha):
                return self.missing("Revision")
            if name not in files:
                return self.missing("Entry")
            if self.command == "GET":
                self.server.served.append(name)
            etag = {"ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"', "X-Repo-Commit": sha}
            return self.reply(200, files[name], etag | {"Content-Type": "application/octet-stream"})
        if parts[4:5] in (["revision"], ["tree"]) and parts[5] not in ("main", sha):
            return self.missing("Revision")
        if parts[4:5] == ["tree"]:
            rows = [
                {"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                for p, d in files.items()
            ]
            return self.reply(200, rows)
        return self.reply(
            200, {"id": repo.removeprefix("datasets/"), "sha": sha, "siblings": [{"rfilename": p} for p in files]}
        )

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = unquote(urlparse(self.path).path)
        parts = path.strip("/").split("/")
        data = self.body()
        if path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(data)
            of = "datasets/" if asked.get("type") == "dataset" else ""
            repo = f"{of}{asked.get('organization') or 'user'}/{asked['name']}"
            status = 409 if repo in self.server.repositories else 200
            self.server.repositories.setdefault(repo, {})
            return self.reply(status, {"url": f"http://{self.headers['Host']}/{repo}", "id": repo})
        if path.endswith("/preupload/main"):
            kinds = {True: "lfs", False: "regular"}
            asked = json.loads(data)["files"]
            rows = [{"path": f["path"], "uploadMode": kinds[f["path"].endswith(".safetensors")]} for f in asked]
            return self.reply(200, {"files": [row | {"shouldIgnore": False} for row in rows]})
        if path.endswith("/info/lfs/objects/batch"):
            host = self.headers["Host"]
            rows = [
                o | {"actions": {"upload": {"href": f"http://{host}/upload?oid={o['oid']}", "header": {}}}}
                for o in json.loads(data)["objects"]
            ]
            return self.reply(200, {"transfer": "basic", "objects": rows})
        if path.endswith("/commit/main"):
            repo = ("datasets/" if parts[1] == "datasets" else "") + "/".join(parts[2:4])
            files = self.server.repositories[repo]
            for row in map(json.loads, data.splitlines()):
                value = row["value"]
                if row["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif row["key"] == "lfsFile":
                    files[value["path"]] = self.server.uploads[value["oid"]]
            sha = self.server.commit(repo)
            return self.reply(
                200, {"commitUrl": f"http://{self.headers['Host']}/{repo}/commit/{sha}", "commitOid": sha}
            )
        return self.missing("Route")

    def do_PUT(self) -> None:
        oid = parse_qs(urlparse(self.path).query)["oid"][0]
        data = self.body()
        if hashlib.sha256(data).hexdigest() != oid:
            return self.reply(400, {"error": "wrong checksum"})
        self.server.uploads[oid] = data
        return self.reply(200, {})


if __name__ == "__main__":
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    print(hub.server_port, flush=True)
    sys.stdin.read()
