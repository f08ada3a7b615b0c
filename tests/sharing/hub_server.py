"""A Hub on this machine: the HTTP calls that huggingface_hub 2.4 makes, over repositories that live in memory.

Models and data sets; commits with ids, branches, old revisions; regular files and LFS (batch + PUT); private
repositories; tokens that write, that only read, and wrong ones. It can be told to fail in the middle of an upload. What
it answers to whom is as the Hub does: 401 for a token it does not know, 404 with a reason in X-Error-Code for what is
not there, and the same 404 for what somebody may not see.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


def blob_id(content):
    """The id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """A repository: every commit is a whole tree, path -> (content, is it LFS)."""

    private: bool = False
    commits: dict = field(default_factory=dict)
    titles: dict = field(default_factory=dict)
    branches: dict = field(default_factory=dict)

    def commit(self, branch, tree, title):
        """A new commit on a branch."""
        told = json.dumps(
            [branch, title, len(self.commits), sorted((path, blob_id(data)) for path, (data, _) in tree.items())]
        )
        oid = hashlib.sha1(told.encode()).hexdigest()
        self.commits[oid], self.titles[oid], self.branches[branch] = tree, title, oid
        return oid

    def find(self, revision):
        """The id of a branch or commit; None for one that there is not."""
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class User:
    name: str
    role: str = "write"
    orgs: tuple = ()


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status, message, code=None, **headers):
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers


class LostError(Exception):
    """The connection is cut, without an answer."""


class Hub:
    """The server, its repositories, and who may do what.

    Attributes:
        users: token -> user.
        repos: (kind, owner/name) -> repository; kind is model or dataset.
        requests: method and path of every request so far.
        breaks: "upload", "commit" or "answer": lose the connection there, once; the last one has committed before.
        lfs_from: files of this many bytes and more go by LFS.
    """

    def __init__(self, lfs_from=100_000):
        self.users, self.repos, self.objects, self.requests = {}, {}, {}, []
        self.breaks, self.lfs_from, self.lock = None, lfs_from, threading.Lock()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def add(self, kind, name, files, private=False):
        """A repository with files, path -> bytes; returns the id of its commit."""
        repo = self.repos[kind, name] = Repo(private)
        return repo.commit("main", {path: (data, len(data) >= self.lfs_from) for path, data in files.items()}, "first")

    def head(self, name, branch="main", kind="model"):
        """The newest commit."""
        return self.repos[kind, name].branches[branch]

    def tree(self, name, revision="main", kind="model"):
        """Path -> bytes at a revision."""
        repo = self.repos[kind, name]
        return {path: data for path, (data, _) in repo.commits[repo.find(revision)].items()}

    def lose(self, where):
        """Cut the connection, if it was to be lost here."""
        if self.breaks == where:
            self.breaks = None
            raise LostError


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Nothing is printed."""

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self):
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append((self.command, url.path))
        try:
            for method, pattern, work in ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and self.command in method.split():
                    with self.hub.lock:
                        work(self, *(group if group is None else unquote(group) for group in match.groups()))
                    return
            raise Refusal(404, f"no such page: {url.path}")
        except Refusal as refusal:
            extra = {"X-Error-Message": refusal.message, **refusal.headers}
            if refusal.code:
                extra["X-Error-Code"] = refusal.code
            self._send(json.dumps({"error": refusal.message}).encode(), status=refusal.status, **extra)
        except LostError:
            self.close_connection = True
            self.connection.close()

    def _send(self, content, status=200, kind="application/json", **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value, status=200):
        self._send(json.dumps(value).encode(), status)

    def _user(self, needed=False):
        """Who asks; None for somebody without a token."""
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if given and given not in self.hub.users:
            raise Refusal(401, "Invalid username or password.")
        if needed and not given:
            raise Refusal(401, "Invalid username or password.")
        return self.hub.users.get(given)

    def _repo(self, kind, name, write=False):
        """A repository that whoever asks may see, and write to."""
        user = self._user(needed=write)
        repo = self.hub.repos.get((kind.rstrip("s"), name))
        owns = user is not None and name.split("/")[0] in (user.name, *user.orgs)
        if repo is None or (repo.private and not owns):
            raise Refusal(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if write and not (owns and user.role == "write"):
            raise Refusal(403, "You don't have the rights to write to this repository")
        return repo

    def _revision(self, repo, revision):
        oid = repo.find(revision)
        if oid is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    def whoami(self):
        user = self._user(needed=True)
        access = {"displayName": "test", "role": user.role}
        self._json({"type": "user", "name": user.name, "orgs": [{"name": org} for org in user.orgs],
                    "auth": {"type": "access_token", "accessToken": access}})  # fmt: skip

    def create(self):
        user, asked = self._user(needed=True), json.loads(self.body)
        owner = asked.get("organization") or user.name
        key = (asked.get("type") or "model", f"{owner}/{asked['name']}")
        if owner not in (user.name, *user.orgs) or user.role != "write":
            raise Refusal(403, f"You don't have the rights to create a {key[0]} under the namespace {owner}")
        if key in self.hub.repos:
            self._json({"error": "You already created this repo", "url": f"{self.hub.url}/{key[1]}"}, 409)
            return
        repo = self.hub.repos[key] = Repo(asked.get("visibility") == "private" or bool(asked.get("private")))
        repo.commit("main", {".gitattributes": (ATTRIBUTES, False)}, "initial commit")
        self._json({"url": f"{self.hub.url}/{key[1]}", "name": key[1]})

    def info(self, kind, name, revision="main"):
        repo = self._repo(kind, name)
        oid = self._revision(repo, revision)
        self._json({"id": name, "modelId": name, "author": name.split("/")[0], "sha": oid, "private": repo.private,
                    "disabled": False, "gated": False, "tags": [], "downloads": 0, "likes": 0,
                    "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
                    "siblings": [{"rfilename": path} for path in sorted(repo.commits[oid])]})  # fmt: skip

    def refs(self, kind, name):
        branches = self._repo(kind, name).branches
        named = [
            {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": oid} for branch, oid in branches.items()
        ]
        self._json({"branches": named, "converts": [], "tags": []})

    def branch(self, kind, name, branch):
        repo = self._repo(kind, name, write=True)
        if branch in repo.branches:
            raise Refusal(409, "Reference already exists")
        start = json.loads(self.body or b"{}").get("startingPoint") or "main"
        repo.branches[branch] = self._revision(repo, start)
        self._json({})

    def _entry(self, path, data, is_lfs):
        entry = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
        if is_lfs:
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    def tree(self, kind, name, revision, _slash=None, folder=""):
        repo = self._repo(kind, name)
        tree = repo.commits[self._revision(repo, revision)]
        start = f"{folder}/" if folder else ""
        inside = {path: file for path, file in tree.items() if path.startswith(start)}
        if start and not inside:
            raise Refusal(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        deep = self.query.get("recursive", ["false"])[0].lower() in ("1", "true")
        folders = {start + path[len(start) :].rsplit("/", 1)[0] for path in inside if "/" in path[len(start) :]}
        entries = [
            {"type": "directory", "path": path, "size": 0, "oid": blob_id(path.encode())} for path in sorted(folders)
        ]
        entries += [self._entry(path, *file) for path, file in inside.items() if deep or "/" not in path[len(start) :]]
        self._json(entries)

    def paths_info(self, kind, name, revision):
        repo = self._repo(kind, name)
        tree = repo.commits[self._revision(repo, revision)]
        is_json = "json" in (self.headers.get("Content-Type") or "")
        asked = json.loads(self.body)["paths"] if is_json else parse_qs(self.body.decode()).get("paths", [])
        folders = [path for path in asked if any(there.startswith(f"{path}/") for there in tree)]
        found = [self._entry(path, *tree[path]) for path in asked if path in tree]
        self._json(found + [{"type": "directory", "path": path, "oid": blob_id(path.encode())} for path in folders])

    def preupload(self, kind, name, revision):
        repo = self._repo(kind, name, write=True)
        tree = repo.commits[self._revision(repo, revision)]
        answers = []
        for asked in json.loads(self.body)["files"]:
            there, was_lfs = tree.get(asked["path"], (None, False))
            oid = None if there is None else hashlib.sha256(there).hexdigest() if was_lfs else blob_id(there)
            mode = "lfs" if asked["size"] >= self.hub.lfs_from else "regular"
            answers.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answers})

    def lfs_batch(self, kind, name):
        self._repo(kind or "models", name, write=True)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            one = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.objects:
                href = f"{self.hub.url}/lfs/{asked['oid']}?X-Amz-Signature=very-secret"
                one["actions"] = {"upload": {"href": href}}
            objects.append(one)
        self._json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        self.hub.lose("upload")
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "the content is not what was announced")
        self.hub.objects[oid] = self.body
        self._send(b"")

    def commit(self, kind, name, revision):
        repo = self._repo(kind, name, write=True)
        self.hub.lose("commit")
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repo.branches.get(revision)):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(repo.commits[self._revision(repo, revision)])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = (base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                tree[value["path"]] = (self.hub.objects[value["oid"]], True)
            elif line["key"] == "deletedFile":
                if value["path"] not in tree:
                    raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
                del tree[value["path"]]
            else:
                raise Refusal(400, f"no such operation: {line['key']}")
        oid = repo.commit(revision, tree, header["summary"])
        self.hub.lose("answer")
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def validate(self):
        """What the Hub says of a card's head: broken YAML and a broken model-index are refused."""
        asked = json.loads(self.body)
        try:
            head = yaml.safe_load(re.match(r"\s*---\n(.*?)\n---", asked["content"], re.DOTALL)[1])
            if "model-index" in head:
                model_index_to_eval_results(head["model-index"])
        except Exception as error:
            self._json({"errors": [{"message": f"{type(error).__name__}: {error}"}], "warnings": []}, 400)
            return
        self._json({"errors": [], "warnings": []})

    def resolve(self, kind, name, revision, path):
        repo = self._repo(kind or "models", name)
        oid = self._revision(repo, revision)
        if path not in repo.commits[oid]:
            raise Refusal(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": oid})
        data, is_lfs = repo.commits[oid][path]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest() if is_lfs else blob_id(data)}"', "X-Repo-Commit": oid,
                   "Accept-Ranges": "bytes"}  # fmt: skip
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if part and data:
            first, last = int(part[1]), min(int(part[2] or len(data) - 1), len(data) - 1)
            if first >= len(data):
                raise Refusal(416, "Range not satisfiable", **{"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            self._send(data[first : last + 1], 206, "application/octet-stream", **headers)
            return
        self._send(data, kind="application/octet-stream", **headers)


_KIND, _NAME = r"(models|datasets)", r"([\w.-]+/[\w.-]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("GET", rf"/api/{_KIND}/{_NAME}", _Handler.info),
    ("GET", rf"/api/{_KIND}/{_NAME}/revision/([^/]+)", _Handler.info),
    ("GET", rf"/api/{_KIND}/{_NAME}/refs", _Handler.refs),
    ("POST", rf"/api/{_KIND}/{_NAME}/branch/([^/]+)", _Handler.branch),
    ("GET", rf"/api/{_KIND}/{_NAME}/tree/([^/]+)(/(.+))?", _Handler.tree),
    ("POST", rf"/api/{_KIND}/{_NAME}/paths-info/([^/]+)", _Handler.paths_info),
    ("POST", rf"/api/{_KIND}/{_NAME}/preupload/([^/]+)", _Handler.preupload),
    ("POST", rf"/api/{_KIND}/{_NAME}/commit/([^/]+)", _Handler.commit),
    ("POST", rf"/(?:(datasets)/)?{_NAME}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/lfs/([0-9a-f]{64})", _Handler.lfs_put),
    ("GET HEAD", rf"/(?:(datasets)/)?{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
]
