"""A small hub on the loopback interface: the parts of the protocol that huggingface_hub and datasets use."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN, READ_ONLY_TOKEN = "hf_writes", "hf_reads"
_LARGE = ("*.safetensors", "*.parquet")

Tree = dict[str, bytes]


@dataclass
class Repository:
    """One repository: every commit with its whole tree, and where the branches stand."""

    kind: str
    name: str
    private: bool
    trees: dict[str, Tree] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, tree: Tree, branch: str = "main") -> str:
        sha = hashlib.sha1(f"{self.kind}{self.name}{len(self.trees)}".encode()).hexdigest()
        self.trees[sha], self.branches[branch] = tree, sha
        return sha

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.trees else None)


@dataclass
class Hub:
    """What lies on the server, what was asked of it, and what is to go wrong.

    Args:
        address: where it listens.
        failing: ``METHOD path`` pattern -> the status of the answer.
    """

    address: str = ""
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    failing: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, name: str, tree: Tree, private: bool = False) -> Repository:
        repository = self.repositories[kind, name] = Repository(kind, name, private)
        repository.commit(tree)
        return repository

    def asked(self, pattern: str) -> list[str]:
        return [request for request in self.requests if fnmatch.fnmatch(request, pattern)]


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty hub until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        path = unquote(url.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = f"{self.command} {path}"
        self.hub.requests.append(request)
        try:
            for pattern, status in self.hub.failing.items():
                if fnmatch.fnmatch(request, pattern):
                    raise _Refused(status, "", "the server is told to fail")
            for method, pattern, answer in _ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in method.split("|"):
                    answer(self, body, **match.groupdict())
                    return
            raise _Refused(404, "EntryNotFound", f"no such route: {request}")
        except _Refused as refusal:
            self._json({"error": refusal.message}, refusal.status, {"X-Error-Code": refusal.code})

    def _send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        message = {"X-Error-Message": str(value["error"])} if status >= 400 else {}
        self._send(
            json.dumps(value).encode(),
            status,
            {"Content-Type": "application/json", **message, **(headers or {})},
        )

    def _token(self) -> str:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", TOKEN, READ_ONLY_TOKEN):
            raise _Refused(401, "", "Invalid credentials in Authorization header")
        return token

    def _writer(self) -> None:
        if self._token() != TOKEN:
            raise _Refused(403, "", "this token may not write")

    def _repository(self, kind: str, name: str) -> Repository:
        token = self._token()
        found = self.hub.repositories.get((kind, name))
        if found is None or (found.private and not token):
            raise _Refused(404 if token else 401, "RepoNotFound", "Repository not found")
        return found

    def _tree(self, kind: str, name: str, revision: str) -> tuple[Repository, str, Tree]:
        found = self._repository(kind, name)
        sha = found.resolve(revision)
        if sha is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found, sha, found.trees[sha]

    def info(self, body: bytes, kind: str, name: str, revision: str | None = None) -> None:
        found, sha, tree = self._tree(kind, name, revision or "main")
        siblings = [{"rfilename": path} for path in tree]
        self._json({"id": name, "sha": sha, "private": found.private, "siblings": siblings, "tags": []})

    def create(self, body: bytes) -> None:
        self._writer()
        wanted = json.loads(body)
        self.hub.bodies.append(wanted)
        name, kind = f"{wanted['organization']}/{wanted['name']}", f"{wanted.get('type', 'model')}s"
        if (kind, name) in self.hub.repositories:
            raise _Refused(409, "", "You already created this repo")
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.hub.add(kind, name, {".gitattributes": b""}, bool(private))
        self._json({"url": f"{self.hub.address}/{name}", "name": name})

    def branch(self, body: bytes, kind: str, name: str, branch: str) -> None:
        self._writer()
        found = self._repository(kind, name)
        if branch in found.branches:
            raise _Refused(409, "", "Reference already exists")
        found.branches[branch] = found.branches["main"]
        self._json({})

    def validate(self, body: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    def preupload(self, body: bytes, kind: str, name: str, revision: str) -> None:
        self._writer()
        _, _, tree = self._tree(kind, name, revision)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if _is_large(file["path"]) else "regular",
                "shouldIgnore": False,
                "oid": _oid(file["path"], tree[file["path"]]) if file["path"] in tree else None,
            }
            for file in json.loads(body)["files"]
        ]
        self._json({"files": files})

    def batch(self, body: bytes, name: str, kind: str | None = None) -> None:
        self._writer()
        objects = [
            {"oid": entry["oid"], "size": entry["size"]}
            if entry["oid"] in self.hub.stored
            else {**entry, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{entry['oid']}"}}}
            for entry in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refused(400, "", "the content is not what its name says")
        self.hub.stored[oid] = body
        self._send(b"")

    def commit(self, body: bytes, kind: str, name: str, revision: str) -> None:
        self._writer()
        found, _, before = self._tree(kind, name, revision)
        tree = dict(before)
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                tree[value["path"]] = self.hub.stored[value["oid"]]
            elif entry["key"] == "deletedFile":
                del tree[value["path"]]
        sha = found.commit(tree, revision)
        self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{sha}", "commitOid": sha})

    def listing(self, body: bytes, kind: str, name: str, revision: str, path: str = "") -> None:
        _, _, tree = self._tree(kind, name, revision)
        folder = f"{path.strip('/')}/" if path.strip("/") else ""
        inside = [file for file in tree if file.startswith(folder)]
        deep = self.query.get("recursive", ["false"])[0].lower() in ("1", "true")
        entries: dict[str, dict[str, Any]] = {}
        for file in inside:
            parts = file.removeprefix(folder).split("/")
            for depth in range(1, len(parts) if deep else min(2, len(parts))):
                entries.setdefault(
                    folder + "/".join(parts[:depth]), {"type": "directory", "oid": "0" * 40, "size": 0}
                )
            if deep or len(parts) == 1:
                entries[file] = _entry(file, tree[file])
        if folder and not inside:
            raise _Refused(404, "EntryNotFound", f"{path} does not exist")
        self._json([{"path": file, **entry} for file, entry in entries.items()])

    def paths(self, body: bytes, kind: str, name: str, revision: str) -> None:
        _, _, tree = self._tree(kind, name, revision)
        wanted = parse_qs(body.decode()).get("paths") or json.loads(body or b"{}").get("paths", [])
        found = [{"path": path, **_entry(path, tree[path])} for path in wanted if path in tree]
        folders = [path for path in wanted if any(file.startswith(f"{path}/") for file in tree)]
        self._json(
            [*found, *({"path": path, "type": "directory", "oid": "0" * 40, "size": 0} for path in folders)]
        )

    def download(self, body: bytes, name: str, revision: str, path: str, kind: str | None = None) -> None:
        _, sha, tree = self._tree(kind or "models", name, revision)
        commit = {"X-Repo-Commit": sha}
        if path not in tree:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound", **commit})
            return
        content = tree[path]
        tags = {"ETag": f'"{_oid(path, content)}"', "Accept-Ranges": "bytes", **commit}
        if wanted := self.headers.get("Range"):
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            part = content[int(start) : int(end) + 1 if end else None]
            span = f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}"
            self._send(part, 206, {**tags, "Content-Range": span})
        else:
            self._send(content, 200, tags)


def _is_large(path: str) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in _LARGE)


def _oid(path: str, content: bytes) -> str:
    if _is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": _oid(path, content), "size": len(content)}
    if _is_large(path):
        entry["lfs"] = {"oid": _oid(path, content), "size": len(content), "pointerSize": 100}
    return entry


_NAME = r"(?P<name>[^/]+/[^/]+)"
_API = rf"/api/(?P<kind>models|datasets)/{_NAME}"
_ROUTES: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", rf"{_API}/branch/(?P<branch>.+)", _Handler.branch),
    ("POST", rf"{_API}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", rf"{_API}/commit/(?P<revision>.+)", _Handler.commit),
    ("POST", rf"{_API}/paths-info/(?P<revision>.+)", _Handler.paths),
    ("GET", rf"{_API}/tree/(?P<revision>[^/]+)/?(?P<path>.*)", _Handler.listing),
    ("GET", rf"{_API}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", _API, _Handler.info),
    ("POST", rf"/(?:(?P<kind>datasets)/)?{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", _Handler.store),
    (
        "GET|HEAD",
        rf"/(?:(?P<kind>datasets)/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
        _Handler.download,
    ),
)
