"""Fixtures for all tests: a fastai home of one's own, and a web server on this machine."""
import os, tarfile, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import pytest
import torch
from fastai.data.external import fastai_cfg, fastai_path


@pytest.fixture
def fastai_home(tmp_path, monkeypatch):
    "A temporary FASTAI_HOME; fastai keeps its config for the whole process, so that is cleared before and after"
    home = tmp_path/'fastai_home'
    monkeypatch.setenv('FASTAI_HOME', str(home))
    fastai_cfg.cache_clear()
    yield home
    fastai_cfg.cache_clear()


@pytest.fixture(scope='session', autouse=True)
def tokens_folder(tmp_path_factory):
    "Token caches stay out of one's home; gives the function that says where they are otherwise"
    from imdb_lm import loader
    real = loader.tokens_folder
    with pytest.MonkeyPatch.context() as m:
        m.setattr(loader, 'tokens_folder', lambda: tmp_path_factory.getbasetemp()/'tokens')
        yield real


class Site:
    "What the server sends (`files`: name -> bytes), what it was asked for (`asked`), what it sends half of (`cut`), what without its size (`unsized`)"
    def __init__(self): self.files, self.asked, self.cut, self.unsized = {}, [], set(), set()

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
            if name not in site.unsized: self.send_header('Content-Length', str(len(body)))
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
    return {fastai_name(n): p.detach()*(30 if n.startswith('encoder') else 3) for n,p in net.named_parameters()}


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


def write_corpus(folder, n):
    "`n` reviews of the bundled corpus in each of IMDb's folders, twice as many without a label"
    from imdb_lm.mini import mini_texts
    for name,text in mini_texts({**{f'{a}/{b}': n for a in ('train', 'test') for b in ('pos', 'neg')}, 'unsup': 2*n}):
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text(text, encoding='utf-8')
    return folder


@pytest.fixture(scope='session')
def corpus(tmp_path_factory):
    "A folder of 60 reviews in IMDb's layout; copy it before changing it"
    return write_corpus(tmp_path_factory.mktemp('corpus')/'imdb', 10)


@pytest.fixture(scope='session')
def reviews(corpus):
    "The texts in `corpus`, in the order of their files"
    return [o.read_text(encoding='utf-8') for o in sorted(corpus.rglob('*.txt'))]


@pytest.fixture(scope='session')
def mini_corpus(tmp_path_factory):
    "The bundled corpus"
    from imdb_lm.mini import mini_reviews
    return mini_reviews(tmp_path_factory.mktemp('mini')/'mini_reviews')


IMDB_ARCHIVE = Path(__file__).resolve().parents[2]/'shared'/'data'/'imdb.tar.xz'

@pytest.fixture(scope='session')
def imdb_folder():
    "The real IMDb: the folder that IMDB_LM_DATA names, or fastai's"
    folder = Path(os.environ.get('IMDB_LM_DATA') or fastai_path('data')/'imdb')
    if not (folder/'unsup').is_dir(): pytest.skip(f'no IMDb in {folder.name}: set IMDB_LM_DATA to its folder, or call untar_imdb() once')
    return folder


@pytest.fixture(scope='session')
def imdb_sample(request, tmp_path_factory):
    "Every fiftieth review of the real IMDb, from its folder or from an archive beside the checkout: 2,000 files"
    to = tmp_path_factory.mktemp('sample')/'imdb'
    def keep(name, text):
        (to/name).parent.mkdir(parents=True, exist_ok=True)
        (to/name).write_bytes(text)
    if not os.environ.get('IMDB_LM_DATA') and IMDB_ARCHIVE.exists():
        with tarfile.open(IMDB_ARCHIVE) as tar:
            reviews = (m for m in tar if m.isfile() and m.name.endswith('.txt'))
            for m in islice(reviews, 0, None, 50): keep(Path(m.name).relative_to('imdb'), tar.extractfile(m).read())
    else:
        folder = request.getfixturevalue('imdb_folder')
        for f in sorted(folder.rglob('*_*.txt'))[::50]: keep(f.relative_to(folder), f.read_bytes())
    return to


@pytest.fixture(scope='module')
def one_thread():
    "Sums come out the same only when they are made in the same order"
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)
