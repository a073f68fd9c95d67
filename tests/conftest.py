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


@pytest.fixture(scope='session')
def words():
    "A vocabulary of 64: the special tokens, words, and fastai's fill"
    from imdb_lm.tokens import SPECIAL_TOKENS
    some = '''the a movie film is was i it you he and but not of in with good bad great terrible awful funny story actors
              because action never very this like has do ca n't 's . , ! ? " ' ( ) - ; : … 3 $'''.split()
    known = [*SPECIAL_TOKENS, *some, '\n\n']
    return known + ['xxfake']*(64 - len(known))


@pytest.fixture(scope='session')
def config():
    "The sizes of a network that a test can afford"
    return dict(emb_sz=12, n_hid=16, n_layers=3, pad_token=1, tie_weights=True, out_bias=True)


@pytest.fixture(scope='session')
def weights(words, config):
    "Tensors by fastai's names of a network that knows nothing and has strong opinions"
    import torch
    from imdb_lm.model import AWDLSTM, fastai_name
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = AWDLSTM(len(words), **config)
    return {fastai_name(n): 3*p.detach() for n,p in net.named_parameters()}


@pytest.fixture(scope='session')
def model_folder(tmp_path_factory, words, config, weights):
    "A small model folder; copy it before changing it"
    from imdb_lm.model import write_model
    return write_model(tmp_path_factory.mktemp('models')/'small', weights, words, config)


@pytest.fixture(scope='session')
def lm(model_folder):
    "The `LanguageModel` in `model_folder`"
    from imdb_lm.model import load_lm
    return load_lm(model_folder, precision='fp32')
