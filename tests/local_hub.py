"""A Hub of a few routes for the tests, in memory: create, push (small and LFS files), resolve with Range, revision,
tree, paths; models, and data sets, whose ids here begin with `datasets/`. Faults are switched on by `Faults`.

Run it as a script to serve until its standard input closes; it prints its port first. With a folder and an id it holds
the folder's files under that id. Clients set HF_ENDPOINT, HF_TOKEN and HF_HUB_DISABLE_XET=1 (uploads through Xet cannot
be served this simply). GET `/control` gives what was asked for, POST `/control` with JSON replaces the faults.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse


@dataclass
class Faults:
    """What goes wrong. A file is named as it is in the repository; "" is every file."""

    file: str = ""  # which file the faults of bodies are about
    slow: int = 0  # bytes a second of a body; 0 is as fast as can be
    cut: int = 0  # so many times the connection ends in the middle of a body
    errors: int = 0  # so many answers are 500, of any route but this one
    flip: int = 0  # so many bodies have one byte changed, at the same size
    wrong_size: bool = False  # a body is shorter than the file, and all headers agree with it
    missing: bool = False  # the tree names the file, and there is none
    cut_upload: int = 0  # so many times only half of an upload is kept, and the answer is 200
    lose_upload: int = 0  # so many times the connection ends in the middle of an upload
    token: str = ""  # what clients must send, to read and to write
    gated: bool = False  # reading is refused until somebody is given access
    read_only: bool = False  # a token that may not write


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    range: str | None = None


class Hub(ThreadingHTTPServer):
    """`repositories`: id to path to bytes, as of the branch `main`; `history`: id and commit to the same."""

    daemon_threads = True

    def __init__(self, faults: Faults | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.history: dict[tuple[str, str], dict[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.served: list[str] = []  # what was downloaded, in order
        self.asked: list[Asked] = []  # every request, but for control
        self.faults = faults or Faults()
        self.lock = threading.Lock()

    def handle_error(self, *args: object) -> None:
        """Silent: clients that stop are part of the tests."""

    def commit(self, repo: str) -> str:
        """The commit that `main` is at; what it holds stays under that name."""
        files = self.repositories[repo]
        content = json.dumps({name: hashlib.sha1(data).hexdigest() for name, data in files.items()})
        sha = hashlib.sha1(content.encode()).hexdigest()
        self.history[repo, sha] = dict(files)
        return sha

    def takes(self, fault: str) -> bool:
        """Whether a counted fault happens now; it is then used up."""
        with self.lock:
            left = getattr(self.faults, fault)
            if left > 0:
                setattr(self.faults, fault, left - 1)
            return bool(left > 0)


def is_lfs(name: str) -> bool:
    """Whether a file is kept beside git, under its SHA-256."""
    return name.endswith((".safetensors", ".mp4", ".parquet"))


def etag(name: str, data: bytes) -> str:
    """As the Hub: SHA-256 of files kept beside git, git's own name of the others."""
    if is_lfs(name):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: object) -> None:
        """Silent."""

    # -- answers -------------------------------------------------------------------------------------------------------

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

    def refused(self) -> bool:
        """Answer for everybody: what is asked for is noted, and may fail or need a token."""
        self.server.asked.append(Asked(self.command, unquote(self.path), self.headers.get("Range")))
        faults = self.server.faults
        if self.server.takes("errors"):
            self.close_connection = True
            self.reply(500, {"error": "something broke"})
        elif faults.token and self.headers.get("Authorization") != f"Bearer {faults.token}":
            self.reply(401, {"error": "Invalid credentials"}, {"X-Error-Code": "RepoNotFound"})
        elif faults.gated and self.command in ("GET", "HEAD"):
            self.reply(403, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"})
        elif faults.read_only and self.command not in ("GET", "HEAD"):
            self.reply(403, {"error": "You have read access only"})
        else:
            return False
        return True

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    # -- reading -------------------------------------------------------------------------------------------------------

    def do_GET(self) -> None:
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        if parts == ["control"]:
            return self.reply(200, [asdict(asked) for asked in self.server.asked])
        if self.refused():
            return None
        api = parts[:2] in (["api", "models"], ["api", "datasets"])
        of = "datasets/" if "datasets" in parts[:2] else ""
        if of and not api:
            parts = parts[1:]
        repo = of + "/".join(parts[2:4] if api else parts[:2])
        if repo not in self.server.repositories:
            return self.missing("Repo")
        asked = parts[5] if api and len(parts) > 5 else parts[3] if not api and len(parts) > 3 else "main"
        sha = self.server.commit(repo) if asked == "main" else asked
        files = self.server.history.get((repo, sha))
        if files is None:
            return self.missing("Revision")
        if not api:  # owner/name/resolve/REVISION/path
            return self.file("/".join(parts[4:]), files, sha)
        if parts[4:5] == ["tree"]:
            recursive = "recursive" in urlparse(self.path).query
            return self.tree("/".join(parts[6:]), files, recursive and "recursive=false" not in self.path.lower())
        siblings = [{"rfilename": path} for path in files]
        return self.reply(200, {"id": repo.removeprefix("datasets/"), "sha": sha, "siblings": siblings})

    do_HEAD = do_GET

    def tree(self, folder: str, files: dict[str, bytes], recursive: bool) -> None:
        inside = f"{folder}/" if folder else ""
        below = [name for name in files if name.startswith(inside)]
        if not below and folder:
            return self.missing("Entry")
        names = below if recursive else sorted({inside + name[len(inside) :].split("/")[0] for name in below})
        return self.reply(200, [row(name, files) for name in names])

    def file(self, name: str, files: dict[str, bytes], sha: str) -> None:
        faults, about = self.server.faults, self.server.faults.file in ("", name)
        if name not in files or (faults.missing and about):
            return self.missing("Entry")
        data = files[name]
        tag = etag(name, data)
        if faults.wrong_size and about:
            data = data[: len(data) // 2]
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        headers["Content-Type"] = "application/octet-stream"
        asked, status, part = self.headers.get("Range"), 200, data
        if asked is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or len(data) - 1), len(data) - 1)
            headers["Content-Range"], status, part = f"bytes {start}-{stop}/{len(data)}", 206, data[start : stop + 1]
        if self.command == "HEAD":
            return self.reply(status, part, headers)
        self.server.served.append(name)
        return self.send(status, part, headers, about)

    def send(self, status: int, part: bytes, headers: dict[str, str], about: bool) -> None:
        """A body, with what goes wrong about it."""
        if about and part and self.server.takes("flip"):
            middle = len(part) // 2
            part = part[:middle] + bytes([part[middle] ^ 1]) + part[middle + 1 :]
        cut = about and len(part) > 1 and self.server.takes("cut")
        slow = self.server.faults.slow if about else 0
        if not cut and not slow:
            return self.reply(status, part, headers)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        step = max(1, slow // 20) if slow else len(part)
        for start in range(0, len(part) // 2 if cut else len(part), step):
            self.wfile.write(part[start : min(start + step, len(part) // 2 if cut else len(part))])
            self.wfile.flush()
            time.sleep(0.05 if slow else 0.0)
        if cut:
            self.close_connection = True
        return None

    # -- writing -------------------------------------------------------------------------------------------------------

    def do_POST(self) -> None:
        path = unquote(urlparse(self.path).path)
        parts = path.strip("/").split("/")
        data = self.body()
        if path == "/control":
            self.server.faults = Faults(**json.loads(data))
            self.server.asked.clear()
            return self.reply(200, {})
        if self.refused():
            return None
        if path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(data)
            of = "datasets/" if asked.get("type") == "dataset" else ""
            repo = f"{of}{asked.get('organization') or 'user'}/{asked['name']}"
            status = 409 if repo in self.server.repositories else 200
            self.server.repositories.setdefault(repo, {})
            return self.reply(status, {"url": f"http://{self.headers['Host']}/{repo}", "id": repo})
        repo = ("datasets/" if parts[1:2] == ["datasets"] else "") + "/".join(parts[2:4])
        if parts[4:5] == ["preupload"]:
            asked = json.loads(data)["files"]
            kinds = {True: "lfs", False: "regular"}
            rows = [{"path": f["path"], "uploadMode": kinds[is_lfs(f["path"])], "shouldIgnore": False} for f in asked]
            return self.reply(200, {"files": rows})
        if path.endswith("/info/lfs/objects/batch"):
            host = self.headers["Host"]
            rows = [
                o | {"actions": {"upload": {"href": f"http://{host}/upload?oid={o['oid']}", "header": {}}}}
                for o in json.loads(data)["objects"]
            ]
            return self.reply(200, {"transfer": "basic", "objects": rows})
        if parts[4:5] == ["paths-info"]:
            files = self.server.repositories.get(repo)
            if files is None:
                return self.missing("Repo")
            text = data.decode()
            asked = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text)["paths"]
            return self.reply(200, [row(name, files) for name in asked if row(name, files)])
        if parts[4:5] == ["commit"]:
            return self.commit(repo, data)
        return self.missing("Route")

    def commit(self, repo: str, data: bytes) -> None:
        files = self.server.repositories.get(repo)
        if files is None:
            return self.missing("Repo")
        for line in map(json.loads, data.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        sha = self.server.commit(repo)
        return self.reply(200, {"commitUrl": f"http://{self.headers['Host']}/{repo}/commit/{sha}", "commitOid": sha})

    def do_PUT(self) -> None:
        if self.server.takes("lose_upload"):
            self.rfile.read(int(self.headers.get("Content-Length") or 2) // 2)
            self.close_connection = True
            return None
        oid = parse_qs(urlparse(self.path).query)["oid"][0]
        data = self.body()
        if self.server.takes("cut_upload"):
            self.server.uploads[oid] = data[: len(data) // 2]
            return self.reply(200, {})
        if hashlib.sha256(data).hexdigest() != oid:
            return self.reply(400, {"error": "wrong checksum"})
        self.server.uploads[oid] = data
        return self.reply(200, {})


def row(path: str, files: dict[str, bytes]) -> dict[str, object] | None:
    """What a tree says of a file or folder."""
    if path in files:
        data = files[path]
        found: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": etag("", data)}
        if is_lfs(path):
            sha = hashlib.sha256(data).hexdigest()
            found["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 130}
        return found
    if any(name.startswith(f"{path}/") for name in files):
        return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
    return None


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def main() -> None:
    hub = Hub()
    if len(sys.argv) > 1:
        hub.repositories[sys.argv[2]] = files_of(Path(sys.argv[1]))
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    print(hub.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
