"""A Hugging Face Hub on loopback, held in memory, good enough for the real client.

Tests reach it through `huggingface_hub` itself, unpatched, so what they show about uploading,
loading and failing is true of the client people have. It goes wrong when told to: see `Fault`.

It answers on 127.0.0.1 and keeps large files on localhost: to the client two origins, as the Hub
and its file storage are. A redirect to the same origin it would follow, and so lose the headers
that carry a file's hash and size.

    python tests/hub_server.py --port 8000 --token owner-token=owner
"""

import argparse
import asyncio
import hashlib
import json
import re
import socket
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import uvicorn
from hub_repos import (
    GITATTRIBUTES,
    JSON,
    Repo,
    file_info,
    folder_tree,
    front_matter,
    is_large,
    refusal,
)
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

# What a list of models keeps back unless asked for `full`; one of data sets tells it all.
RESERVED = {"author", "sha", "gated", "lastModified", "siblings"}


@dataclass(eq=False)
class Fault:
    """What goes wrong with requests in whose path the regular expression `path` is found.

    `delay` holds them back, in seconds. `status` is answered in place of anything else. `cut`
    breaks the connection: in the middle of what a GET brings, before any work for the others.
    `lost` breaks it after the work, so that only the answer is missing.
    """

    path: str = ""
    method: str | None = None
    status: int | None = None
    delay: float = 0.0
    cut: bool = False
    lost: bool = False
    times: int | None = None  # how many requests more; None: until the faults are cleared

    def meets(self, method: str, path: str) -> bool:
        told = self.method in (None, method) and re.search(self.path, path) is not None
        return told and self.times != 0


class Call(Request):
    """A request, its body read, and what it is about."""

    data: bytes
    names: dict[str, str]  # rev, path and so on out of the URL, unquoted
    caller: str
    key: tuple[str, str]  # of the repository: its type and id
    repo: Repo

    @property
    def order(self) -> JSON:
        order: JSON = json.loads(self.data or b"{}")
        return order


class HubServer:
    """The Hub; `tokens` says which user each access token belongs to.

    Users own what is under their name. A name that is no user's is an organization of them all.
    """

    def __init__(self, tokens: Mapping[str, str] | None = None) -> None:
        self.tokens = dict(tokens or {})
        self.repos: dict[tuple[str, str], Repo] = {}  # by type and id: ("model", "owner/name")
        self.storage: dict[str, bytes] = {}  # large files by SHA-256; a test may spoil one
        self.static: dict[str, bytes] = {}  # plain files by path, outside any repository
        self.requests: list[tuple[str, str]] = []  # method and unquoted path, in order
        self.faults: list[Fault] = []

    def start(self, port: int = 0) -> None:
        listener = socket.create_server(("127.0.0.1", port))  # connections wait from here on
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else 40 ms an answer
        port = listener.getsockname()[1]
        self.url, self.storage_url = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        config = uvicorn.Config(self, lifespan="off", ws="none", log_config=None)
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._uvicorn.run, args=([listener],), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.clear_faults()
        self._uvicorn.should_exit = True
        self._thread.join(timeout=5)

    def reset(self) -> None:
        """Forget everything but the users."""
        for memory in (self.repos, self.storage, self.static, self.requests, self.faults):
            memory.clear()

    def fault(self, **what: Any) -> None:
        """Let something go wrong; the keywords are the fields of `Fault`."""
        self.faults.append(Fault(**what))

    def clear_faults(self) -> None:
        """Work again. Connections that a delay still holds are dropped."""
        self.faults.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, well or badly; this is the ASGI application."""
        method, path, call = scope["method"], scope["path"], Call(scope, receive)
        self.requests.append((method, path))
        try:
            call.data = await call.body()
        except ClientDisconnect:
            return
        fault = next((f for f in self.faults if f.meets(method, path)), Fault())
        fault.times = fault.times and fault.times - 1
        held_until = time.monotonic() + fault.delay
        while time.monotonic() < held_until:
            await asyncio.sleep(0.02)
            if fault not in self.faults:
                return await hang_up(send)
        if fault.cut and method != "GET":
            return await hang_up(send)
        told = {"error": "Told to fail"}
        answer = JSONResponse(told, fault.status) if fault.status else self._respond(call)
        if fault.cut and answer.body:
            start = {"type": "http.response.start", "status": answer.status_code}
            await send({**start, "headers": answer.raw_headers})
            half = bytes(answer.body[: len(answer.body) // 2])
            await send({"type": "http.response.body", "body": half, "more_body": True})
        if fault.cut or fault.lost:
            return await hang_up(send)
        await answer(scope, receive, send)

    def _respond(self, call: Call) -> Response:
        path = call.scope["raw_path"].decode()  # quoted: the revision `exp/two` is one segment
        try:
            for methods, pattern, handler in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and call.method.replace("HEAD", "GET") in methods:
                    call.names = {k: unquote(v) for k, v in found.groupdict().items() if v}
                    self._admit(call, path)
                    answer = handler(self, call)
                    return answer if isinstance(answer, Response) else JSONResponse(answer)
            raise refusal(404, "Not found")
        except HTTPException as error:
            told = {"error": error.detail, "errors": [{"message": error.detail}]}
            return JSONResponse(told, error.status_code, error.headers)

    def _admit(self, call: Call, path: str) -> None:
        """Find out who asks and about what. What a user may not see does not exist."""
        token = call.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            raise refusal(401, "Invalid credentials in Authorization header")
        call.caller, creates = self.tokens.get(token, ""), path == "/api/repos/create"
        if "id" in call.names:
            call.key = call.names.get("kind", "models").removesuffix("s"), call.names["id"]
        elif path.startswith("/api/repos/"):
            owner = call.order.get("organization") or call.caller
            call.key = call.order.get("type") or "model", f"{owner}/{call.order['name']}"
        else:
            return
        owned, reads = self._owns(call.caller, call.key[1]), call.method in ("GET", "HEAD")
        repo = self.repos.get(call.key, Repo(call.key[1]) if creates else None)
        if repo is None or (repo.private and not owned):
            raise refusal(404 if call.caller else 401, "Repository not found", "RepoNotFound")
        if not (owned or reads or "/paths-info/" in path):
            raise refusal(403 if call.caller else 401, f"You may not write to {repo.id}")
        call.repo = repo

    def _owns(self, user: str, id: str) -> bool:
        owner = id.split("/")[0]
        return user != "" and (user == owner or owner not in self.tokens.values())

    def whoami(self, call: Call) -> JSON:
        if not call.caller:
            raise refusal(401, "Invalid username or password.")
        auth = {"accessToken": {"displayName": "test", "role": "write"}}
        return {"type": "user", "name": call.caller, "fullname": "", "orgs": [], "auth": auth}

    def validate_yaml(self, call: Call) -> JSON:
        card = front_matter(call.order["content"].encode())
        warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
        return {"errors": [], "warnings": warnings}

    def create_repo(self, call: Call) -> Response:
        kind, id = call.key
        url = f"{self.url}/{id}" if kind == "model" else f"{self.url}/{kind}s/{id}"
        if call.key in self.repos:
            return JSONResponse({"error": "You already created this repo", "url": url}, 409)
        call.repo.private = call.order.get("visibility") == "private"
        files = {".gitattributes": GITATTRIBUTES.encode()}
        call.repo.commit("main", files, call.caller, "initial commit")
        self.repos[call.key] = call.repo
        return JSONResponse({"url": url, "id": id, "name": id})

    def delete_repo(self, call: Call) -> None:
        del self.repos[call.key]

    def change_settings(self, call: Call) -> None:
        if "visibility" in call.order:
            call.repo.private = call.order["visibility"] == "private"

    def list_repos(self, call: Call) -> list[JSON]:
        query, wanted = call.query_params, call.names["kind"].removesuffix("s")
        hidden = {"cardData"} | (RESERVED if wanted == "model" and "full" not in query else set())
        hidden -= {*query, *query.getlist("expand")}
        found = [
            {key: info[key] for key in info if key not in hidden}
            for (kind, id), repo in list(self.repos.items())
            if kind == wanted and (not repo.private or self._owns(call.caller, id))
            for info in [repo.info()]
            if query.get("author", info["author"]) == info["author"]
            and query.get("search", "").lower() in id.lower()
            and {*query.getlist("filter"), *query.getlist("pipeline_tag")} <= set(info["tags"])
        ]
        return found[: int(query.get("limit", len(found)))]

    def repo_info(self, call: Call) -> JSON:
        return call.repo.info(call.names.get("rev", "main"), blobs="blobs" in call.query_params)

    def commits(self, call: Call) -> list[JSON]:
        told, commit = [], call.repo.commits.get(call.repo.at(call.names["rev"]).id)
        while commit:
            told.append({"id": commit.id, **commit.about})
            commit = call.repo.commits.get(commit.parent or "")
        return told

    def refs(self, call: Call) -> JSON:
        def told(refs: dict[str, str], prefix: str) -> list[JSON]:
            return [{"name": n, "ref": prefix + n, "targetCommit": id} for n, id in refs.items()]

        repo = call.repo
        branches, tags = told(repo.branches, "refs/heads/"), told(repo.tags, "refs/tags/")
        return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}

    def change_ref(self, call: Call) -> None:
        """A branch has its name in the URL and its start in the body, a new tag the reverse."""
        name, revision = call.names["rev"], call.order.get("startingPoint") or "main"
        refs = call.repo.tags if call.names["ref"] == "tag" else call.repo.branches
        if "tag" in call.order:
            name, revision = call.order["tag"], name
        if call.method == "POST" and name in refs:
            raise refusal(409, f"Reference already exists: {name}")
        if call.method == "POST":
            refs[name] = call.repo.at(revision).id
        elif refs.pop(name, None) is None:
            raise refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")

    def preupload(self, call: Call) -> JSON:
        known, told = call.repo.at(call.names["rev"]).files, []
        for file in call.order["files"]:
            path, sample = file["path"], b64decode(file["sample"])
            mode = "lfs" if is_large(path, sample, file["size"]) else "regular"
            oid = file_info(path, known[path])["etag"] if path in known else None
            told.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": told}

    def lfs_batch(self, call: Call) -> JSON:
        objects = call.order["objects"]
        for wanted in objects:
            if (oid := wanted["oid"]) not in self.storage:
                upload, verify = f"{self.storage_url}/lfs/{oid}", f"{self.url}/lfs/{oid}"
                wanted["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
        return {"transfer": "basic", "objects": objects}

    def lfs_object(self, call: Call) -> Response:
        """PUT it, POST to verify that it has arrived, GET it."""
        oid = call.names["oid"]
        if call.method == "PUT" and hashlib.sha256(call.data).hexdigest() == oid:
            self.storage[oid] = call.data
        if oid not in self.storage:
            raise refusal(400, f"Nothing with the SHA-256 {oid} has arrived")
        return ranged(call, self.storage[oid], {"ETag": f'"{oid}"'})

    def commit(self, call: Call) -> JSON:
        repo, branch = call.repo, call.names["rev"]
        header, *changes = [json.loads(line) for line in call.data.splitlines()]
        title, message = header["value"]["summary"], header["value"].get("description", "")
        head = repo.at(repo.branches.get(branch, f"no branch {branch}"))
        if header["value"].get("parentCommit", head.id) != head.id:
            raise refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for change in changes:
            value, path = change["value"], change["value"]["path"].rstrip("/")
            if change["key"] == "file":
                files[path] = b64decode(value["content"])
            elif change["key"] == "lfsFile":
                if value["oid"] not in self.storage:
                    raise refusal(400, f"{path} points to an object that was never uploaded")
                files[path] = self.storage[value["oid"]]
            else:
                kept = {p: data for p, data in files.items() if not f"{p}/".startswith(f"{path}/")}
                if len(kept) == len(files):
                    raise refusal(404, "A file with this name doesn't exist", "EntryNotFound")
                files = kept
        front_matter(files.get("README.md", b""))  # or refuse it
        if files != head.files:
            head = repo.commit(branch, files, call.caller, title, message)
        return {"commitOid": head.id, "commitUrl": f"{self.url}/{repo.id}/commit/{head.id}"}

    def tree(self, call: Call) -> list[JSON]:
        folder, deep = call.names.get("path"), call.query_params.get("recursive") == "true"
        tree = folder_tree(call.repo.at(call.names["rev"]).files)
        prefix = f"{folder}/" if folder else ""
        if folder and folder not in tree:
            raise refusal(404, f"{folder} does not exist", "EntryNotFound")
        inside = {path.removeprefix(prefix): path for path in tree if path.startswith(prefix)}
        return [tree[path] for below, path in inside.items() if deep or "/" not in below]

    def paths_info(self, call: Call) -> list[JSON]:
        tree = folder_tree(call.repo.at(call.names["rev"]).files)
        return [tree[path] for path in parse_qs(call.data.decode())["paths"] if path in tree]

    def resolve(self, call: Call) -> Response:
        commit, path = call.repo.at(call.names["rev"]), call.names["path"]
        headers = {"X-Repo-Commit": commit.id}
        if path not in commit.files:
            raise refusal(404, f"{path} does not exist", "EntryNotFound", headers)
        info = file_info(path, commit.files[path])
        if "lfs" not in info:
            return ranged(call, commit.files[path], {**headers, "ETag": f'"{info["etag"]}"'})
        headers |= {"X-Linked-Etag": f'"{info["etag"]}"', "X-Linked-Size": str(info["size"])}
        # The hash finds the file; the path is there for the sake of faults and assertions.
        headers["Location"] = f"{self.storage_url}/lfs/{info['etag']}/{quote(path)}"
        return Response(status_code=302, headers=headers)

    def static_file(self, call: Call) -> Response:
        if (path := call.scope["path"]) not in self.static:
            raise refusal(404, "Not found")
        return ranged(call, self.static[path], {})


def ranged(call: Call, data: bytes, headers: dict[str, str]) -> Response:
    """All of the data, or the stretch of it that was asked for."""
    headers = {"Accept-Ranges": "bytes", **headers}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("range", ""))
    if not asked:
        return Response(data, headers=headers)
    first, last = asked.groups()
    start = int(first) if first else max(len(data) - int(last), 0)
    stop = min(int(last) + 1, len(data)) if first and last else len(data)
    if start >= stop:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Response(data[start:stop], 206, headers)


async def hang_up(send: Any) -> None:
    """Close the connection. ASGI has no word for that, so it takes uvicorn's own handle on it."""
    request = send.__self__
    request.transport.close()
    while not request.disconnected:
        await asyncio.sleep(0.001)


API = r"/api/(?P<kind>models|datasets|spaces)"
ID, REV, PATH = r"/(?P<id>[^/]+/[^/]+?)", r"/(?P<rev>[^/]+)", r"/(?P<path>.+)"
WEB = f"(?:/(?P<kind>datasets|spaces))?{ID}"
ROUTES: list[tuple[str, str, Callable[[HubServer, Call], Any]]] = [
    ("GET", "/api/whoami-v2", HubServer.whoami),
    ("POST", "/api/validate-yaml", HubServer.validate_yaml),
    ("POST", "/api/repos/create", HubServer.create_repo),
    ("DELETE", "/api/repos/delete", HubServer.delete_repo),
    ("GET", API, HubServer.list_repos),
    ("GET", f"{API}{ID}(?:/revision{REV})?", HubServer.repo_info),
    ("PUT", f"{API}{ID}/settings", HubServer.change_settings),
    ("GET", f"{API}{ID}/commits{REV}", HubServer.commits),
    ("GET", f"{API}{ID}/refs", HubServer.refs),
    ("POST DELETE", f"{API}{ID}/(?P<ref>branch|tag){REV}", HubServer.change_ref),
    ("POST", f"{API}{ID}/preupload{REV}", HubServer.preupload),
    ("POST", rf"{WEB}\.git/info/lfs/objects/batch", HubServer.lfs_batch),
    ("GET PUT POST", f"/lfs/(?P<oid>[0-9a-f]+)(?:{PATH})?", HubServer.lfs_object),
    ("POST", f"{API}{ID}/commit{REV}", HubServer.commit),
    ("GET", f"{API}{ID}/tree{REV}(?:{PATH})?", HubServer.tree),
    ("POST", f"{API}{ID}/paths-info{REV}", HubServer.paths_info),
    ("GET", f"{WEB}/resolve{REV}{PATH}", HubServer.resolve),
    ("GET", ".*", HubServer.static_file),
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a Hugging Face Hub on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--token", action="append", default=[], metavar="NAME=USER")
    arguments = parser.parse_args()
    server = HubServer(dict(token.split("=", 1) for token in arguments.token))
    server.start(arguments.port)
    print(server.url, flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    server.stop()


if __name__ == "__main__":
    main()
