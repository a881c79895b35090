"""A Hugging Face Hub on the loopback interface: what huggingface_hub, datasets and diffusers ask of the real one.

Repositories with commits (each a whole snapshot), tags, private repositories, tokens that may read or write, small
files and LFS files, byte ranges, and the error headers from which the clients make their exceptions. Only the standard
library.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

OWNER = "tester"
WRITE_TOKEN, READ_TOKEN = "hf_write", "hf_read"
LFS_BYTES = 4096
"""Files from this size up go through LFS."""
_DATE = "2026-01-01T00:00:00.000Z"
_PREFIXES = {"": "model", "datasets/": "dataset", "spaces/": "space"}


@dataclass(frozen=True)
class Blob:
    """A file of a commit."""

    data: bytes
    lfs: bool = False

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass
class Repository:
    """Commits oldest first; each is all files at that time."""

    private: bool = False
    commits: list[tuple[str, dict[str, Blob]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, Blob]) -> str:
        content = repr([len(self.commits), sorted((name, blob.oid) for name, blob in files.items())])
        sha = hashlib.sha1(content.encode()).hexdigest()
        self.commits.append((sha, files))
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, Blob]] | None:
        """The commit of a branch, tag or sha."""
        if revision == "main":
            return self.commits[-1]
        wanted = self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit[0] == wanted), None)


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    range: str | None


class LoopbackHub:
    """The server, its repositories and the log of what was asked."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.lfs: dict[str, bytes] = {}
        self.log: list[Request] = []
        hub = self

        class Handler(_Handler):
            def __init__(self, *args: Any) -> None:
                self.hub = hub
                super().__init__(*args)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def files(self, repo_id: str, kind: str = "model") -> dict[str, Blob]:
        """The newest files of a repository."""
        return self.repositories[kind, repo_id].commits[-1][1]

    def requests(self, text: str) -> list[Request]:
        """Logged requests whose path contains `text`."""
        return [request for request in self.log if text in request.path]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No one answers at the address from now on, on connections that are open neither."""
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()

    def environment(self, home: Path, token: str | None = WRITE_TOKEN, **more: str) -> dict[str, str]:
        """For a client process: this Hub, and a cache of its own below `home`."""
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING")) and "OFFLINE" not in k}
        return {
            **mine, "HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1", **({} if token is None else {"HF_TOKEN": token}), **more,
        }  # fmt: skip


@contextlib.contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    """A Hub that runs inside the block."""
    hub = LoopbackHub()
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


class _Server(ThreadingHTTPServer):
    """Remembers its connections, which clients keep open."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):  # its client was first
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no error of the server's; anything else is."""
        if not isinstance(sys.exception(), (BrokenPipeError, ConnectionResetError)):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **headers} | ({"X-Error-Code": code} if code else {})


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the Hub's own log is asked instead."""

    def handle_request(self) -> None:
        url = urlsplit(self.path)
        self.hub.log.append(Request(self.command, unquote(url.path), self.headers.get("Range")))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if self.command in ("POST", "PUT") else b""
        try:
            self.answer(unquote(url.path), parse_qs(url.query), body)
        except _Refused as refusal:
            self.send(refusal.status, {"error": str(refusal)}, headers=refusal.headers)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def send(self, status: int, body: bytes | dict | list, *, headers: Mapping[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if body is data else "application/json")
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def answer(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if path == "/api/whoami-v2":
            role = "write" if self.role() == "write" else "read"
            token = {"type": "access_token", "accessToken": {"role": role, "displayName": "test"}}
            self.send(200, {"type": "user", "name": OWNER, "fullname": OWNER, "orgs": [], "auth": token})
        elif path == "/api/validate-yaml":
            self.send(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif match := re.fullmatch(r"/_lfs/([0-9a-f]{64})", path):
            assert hashlib.sha256(body).hexdigest() == match[1]
            self.hub.lfs[match[1]] = body
            self.send(200, b"")
        elif match := re.fullmatch(r"/(datasets/|spaces/|)([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.lfs_batch(json.loads(body))
        elif match := re.fullmatch(
            r"/api/(model|dataset|space)s/([^/]+/[^/]+)(?:/([a-z-]+)(?:/([^/]+)(?:/(.*))?)?)?", path
        ):
            self.api(match[1], match[2], match[3], match[4] or "main", match[5] or "", query, body)
        elif match := re.fullmatch(r"/(datasets/|spaces/|)([^/]+/[^/]+)/(?:resolve|raw)/([^/]+)/(.+)", path):
            self.resolve(_PREFIXES[match[1]], match[2], match[3], match[4])
        else:
            raise _Refused(404, f"no such route: {path}")

    def role(self) -> str | None:
        """What the token of the request allows; None without a token."""
        header = self.headers.get("Authorization")
        if header is None:
            return None
        roles = {f"Bearer {WRITE_TOKEN}": "write", f"Bearer {READ_TOKEN}": "read"}
        if header not in roles:
            raise _Refused(401, "Invalid credentials in Authorization header")
        return roles[header]

    def need_write(self) -> None:
        role = self.role()
        if role is None:
            raise _Refused(401, "Invalid username or password.")
        if role != "write":
            raise _Refused(403, "You don't have the rights to write to this repository")

    def create(self, wanted: dict[str, Any]) -> None:
        self.need_write()
        kind, repo_id = wanted.get("type") or "model", f"{wanted.get('organization') or OWNER}/{wanted['name']}"
        if not repo_id.startswith(f"{OWNER}/"):
            raise _Refused(403, f"You don't have the rights to create a {kind} under this namespace")
        prefix = next(prefix for prefix, name in _PREFIXES.items() if name == kind)
        answer = {"url": f"{self.hub.url}/{prefix}{repo_id}", "name": repo_id, "id": "0"}
        if (kind, repo_id) in self.hub.repositories:
            return self.send(409, {"error": "You already created this repo", **answer})
        repository = self.hub.repositories[kind, repo_id] = Repository(
            bool(wanted.get("private")) or wanted.get("visibility") == "private"
        )
        repository.commit({".gitattributes": Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")})
        self.send(200, answer)

    def repository(self, kind: str, repo_id: str) -> Repository:
        role = self.role()
        repository = self.hub.repositories.get((kind, repo_id))
        if repository is None or (repository.private and role is None):
            # As on the real one: who is not logged in is not told whether it exists. There the client knows by the
            # host's name that 401 means this; here it has to be said.
            raise _Refused(401 if role is None else 404, "Repository not found", "RepoNotFound")
        return repository

    def snapshot(self, kind: str, repo_id: str, revision: str) -> tuple[str, dict[str, Blob]]:
        found = self.repository(kind, repo_id).at(revision)
        if found is None:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def api(
        self, kind: str, repo_id: str, verb: str | None, revision: str, rest: str, query: dict[str, list[str]],
        body: bytes,
    ) -> None:  # fmt: skip
        repository = self.repository(kind, repo_id)
        sha, files = self.snapshot(kind, repo_id, "main" if verb == "tag" else revision)
        if verb in (None, "revision"):
            self.send(200, {
                "_id": "0", "id": repo_id, "modelId": repo_id, "sha": sha, "private": repository.private,
                "disabled": False, "gated": False, "downloads": 0, "likes": 0, "tags": [], "createdAt": _DATE,
                "lastModified": _DATE, "siblings": [{"rfilename": name} for name in sorted(files)],
            })  # fmt: skip
        elif verb == "tree":
            self.send(200, self.tree(files, rest.strip("/"), query.get("recursive", ["false"])[0].lower() == "true"))
        elif verb == "paths-info":
            is_json = "json" in self.headers.get("Content-Type", "")
            wanted = json.loads(body)["paths"] if is_json else parse_qs(body.decode())["paths"]
            folders = [n for n in wanted if n not in files and any(f.startswith(f"{n}/") for f in files)]
            self.send(200, [*(_entry(n, files[n]) for n in wanted if n in files), *map(_folder, folders)])
        elif verb == "refs":
            heads = [{"name": "main", "ref": "refs/heads/main", "targetCommit": repository.commits[-1][0]}]
            tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": c} for n, c in repository.tags.items()]
            self.send(200, {"branches": heads, "tags": tags, "converts": []})
        elif verb == "tag":
            self.need_write()
            repository.tags[json.loads(body)["tag"]] = sha
            self.send(200, {})
        elif verb == "preupload":
            self.need_write()
            self.send(200, {"files": [_upload_mode(file, files) for file in json.loads(body)["files"]]})
        elif verb == "commit":
            self.need_write()
            commit = repository.commit(self.changed(files, body))
            url = f"{self.hub.url}/{repo_id}/commit/{commit}"
            self.send(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})
        else:
            raise _Refused(404, f"no such call: {verb}")

    def tree(self, files: dict[str, Blob], folder: str, recursive: bool) -> list[dict[str, Any]]:
        inside = [name for name in sorted(files) if not folder or name.startswith(f"{folder}/")]
        if not inside:
            raise _Refused(404, f"{folder} does not exist", "EntryNotFound")
        depth = len(folder.split("/")) if folder else 0
        parents = {"/".join(name.split("/")[:n]) for name in inside for n in range(depth + 1, name.count("/") + 1)}
        shown = [name for name in inside if recursive or name.count("/") == depth]
        return [
            *(_folder(name) for name in sorted(parents) if recursive or name.count("/") == depth),
            *(_entry(name, files[name]) for name in shown),
        ]

    def changed(self, files: dict[str, Blob], body: bytes) -> dict[str, Blob]:
        """The files after a commit."""
        files = dict(files)
        for line in body.decode().splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                files[value["path"]] = Blob(self.hub.lfs[value["oid"]], lfs=True)
            elif key == "deletedFile":
                del files[value["path"]]
            else:
                assert key == "header", key
        return files

    def lfs_batch(self, wanted: dict[str, Any]) -> None:
        self.need_write()
        objects = []
        for item in wanted["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.lfs:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/_lfs/{item['oid']}", "header": {}}}
            objects.append(answer)
        self.send(200, {"transfer": "basic", "objects": objects})

    def resolve(self, kind: str, repo_id: str, revision: str, name: str) -> None:
        sha, files = self.snapshot(kind, repo_id, revision)
        if name not in files:
            raise _Refused(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": sha})
        blob = files[name]
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes", "ETag": f'"{blob.oid}"'}
        if blob.lfs:
            headers |= {
                "ETag": f'"{blob.sha256}"', "X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.data))
            }  # fmt: skip
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None or self.command == "HEAD":
            return self.send(200, blob.data, headers=headers)
        first, last = int(asked[1]), min(int(asked[2] or len(blob.data) - 1), len(blob.data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(blob.data)}"
        self.send(206, blob.data[first : last + 1], headers=headers)


def _entry(name: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": len(blob.data), "path": name}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 130}
    return entry


def _folder(name: str) -> dict[str, Any]:
    return {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}


def _upload_mode(file: dict[str, Any], files: dict[str, Blob]) -> dict[str, Any]:
    name = file["path"]
    mode = "lfs" if file["size"] >= LFS_BYTES or name.endswith(".safetensors") else "regular"
    there = files[name].oid if name in files else None
    return {"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": there}
