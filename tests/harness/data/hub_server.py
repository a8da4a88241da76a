"""A small server that speaks the hub's API on loopback, with faults on order."""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

SHA = "a" * 40


class Hub:
    """Files by repository path; ``faults`` maps a path to a list of faults, one used up by each GET."""

    def __init__(self, repo, files):
        self.repo, self.files, self.sha = repo, dict(files), SHA
        self.faults, self.api_faults, self.gets = {}, [], []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_HEAD(self):
                hub._file(self, body=False)

            def do_GET(self):
                if self.path.startswith("/api/"):
                    hub._revision(self)
                else:
                    hub._file(self, body=True)

            def do_POST(self):
                hub._paths_info(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _send(self, handler, status, content=b"", headers=(), body=True):
        handler.send_response(status)
        for key, value in headers:
            handler.send_header(key, value)
        if not any(key == "Content-Length" for key, _ in headers):
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if body:
            handler.wfile.write(content)

    def _revision(self, handler):
        if self.api_faults:
            self._send(handler, self.api_faults.pop(0), headers=[("Retry-After", "0")])
            return
        if f"/{self.repo}" not in handler.path:
            self._send(handler, 404, headers=[("X-Error-Code", "RepoNotFound")])
            return
        answer = {"id": self.repo, "sha": self.sha, "siblings": [], "private": False, "tags": [], "downloads": 0}
        self._send(handler, 200, json.dumps(answer).encode(), [("Content-Type", "application/json")])

    def _paths_info(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
        if handler.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(body)["paths"]
        else:
            paths = [unquote(p.split("=", 1)[1].replace("+", " ")) for p in body.split("&") if p.startswith("paths=")]
        found = [self._info(path) for path in paths if path in self.files]
        self._send(handler, 200, json.dumps(found).encode(), [("Content-Type", "application/json")])

    def _info(self, path):
        content = self.files[path]
        info = {"type": "file", "path": path, "size": len(content)}
        info["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if path.endswith(".bin"):
            info["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return info

    def _file(self, handler, body):
        path = unquote(handler.path.split(f"/resolve/{self.sha}/", 1)[-1])
        content = self.files.get(path)
        if content is None:
            self._send(handler, 404, headers=[("X-Error-Code", "EntryNotFound"), ("X-Repo-Commit", self.sha)])
            return
        fault = None
        if body:
            self.gets.append((path, handler.headers.get("Range")))
            faults = self.faults.get(path, [])
            fault = faults.pop(0) if faults else None
        if isinstance(fault, int):
            self._send(handler, fault, headers=[("Retry-After", "0")])
            return
        headers = [
            ("ETag", f'"{hashlib.sha256(content).hexdigest()}"'),
            ("X-Repo-Commit", self.sha),
            ("Accept-Ranges", "bytes"),
        ]
        if fault == "wrong":
            content = bytes(len(content))
        start = 0
        asked = handler.headers.get("Range")
        if asked:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers.append(("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"))
        part = content[start:]
        headers.append(("Content-Length", str(len(part))))
        self._send(handler, 206 if asked else 200, b"", headers, body=False)
        if not body:
            return
        try:
            if fault == "cut":
                handler.wfile.write(part[: len(part) // 2])
                handler.close_connection = True
                handler.connection.close()
            elif fault == "slow":
                for at in range(0, len(part), 1 + len(part) // 8):
                    handler.wfile.write(part[at : at + 1 + len(part) // 8])
                    handler.wfile.flush()
                    time.sleep(0.05)
            else:
                handler.wfile.write(part)
        except OSError:
            handler.close_connection = True
