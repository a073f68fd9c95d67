"""Fixtures for all tests: a fastai home of one's own, and a web server on this machine."""
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastai.data.external import fastai_cfg


@pytest.fixture
def fastai_home(tmp_path, monkeypatch):
    "A temporary FASTAI_HOME; fastai keeps its config for the whole process, so that is cleared before and after"
    home = tmp_path/'fastai_home'
    monkeypatch.setenv('FASTAI_HOME', str(home))
    fastai_cfg.cache_clear()
    yield home
    fastai_cfg.cache_clear()


class Site:
    "What the server sends (`files`: name -> bytes), what it was asked for (`asked`), what it sends half of (`cut`)"
    def __init__(self): self.files, self.asked, self.cut = {}, [], set()

    def url(self, name): return f'http://127.0.0.1:{self.port}/{name}'


@pytest.fixture
def site():
    "A `Site` served from 127.0.0.1"
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip('/')
            site.asked.append(name)
            body = site.files.get(name)
            if body is None: return self.send_error(404)
            self.send_response(200)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body[:len(body)//2] if name in site.cut else body)

        def log_message(self, *args): pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()
