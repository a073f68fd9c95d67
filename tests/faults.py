"""Faults at random moments of five kinds of work, after which the same call must go on to the same result: `make faults`, or

    python tests/faults.py [--moments 200] [NAME ...]

NAME is a kind of work: download, tokenize, train, save, write; without any, all of them. The faults: kill -9, SIGTERM, Ctrl-C, a disk
with no room left and little memory (limits of the process, Linux only). Writes benchmarks/results/faults.md.
"""
import argparse, hashlib, json, multiprocessing, os, platform, random, resource, signal, tarfile, tempfile, threading, time
from collections import Counter
from functools import lru_cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from fastai.data.external import fastai_cfg
from fastai.text.all import awd_lstm_lm_config, set_seed

import imdb_lm.training  # noqa: F401 -- lends learners their fit_two_stage
from imdb_lm import checkpoint, loader
from imdb_lm.cache import cached_tokens
from imdb_lm.checkpoint import checkpoints, read_checkpoint
from imdb_lm.data import untar_imdb
from imdb_lm.learner import lm_learner, save_lm
from imdb_lm.mini import mini_texts
from imdb_lm.model import AWDLSTM, fastai_name, load_lm, write_model
from imdb_lm.reviews import write_reviews
from imdb_lm.tokens import SPECIAL_TOKENS, tokenize

RESULT = Path(__file__).parents[1]/'benchmarks'/'results'/'faults.md'
SIZES = dict(emb_sz=48, n_hid=96, n_layers=2, pad_token=1, tie_weights=True, out_bias=True)


def digest(*contents):
    h = hashlib.sha256()
    for o in contents: h.update(o)
    return h.hexdigest()


@lru_cache
def texts(): return dict(mini_texts({f'{a}/{b}': 60 for a in ('train', 'test') for b in ('pos', 'neg')} | {'unsup': 120}))

@lru_cache
def words(): return [*SPECIAL_TOKENS, *sorted({o for t in tokenize([*texts().values()][:60]) for o in t} - {*SPECIAL_TOKENS})]

def weights(seed):
    torch.manual_seed(seed)
    return {fastai_name(n): p.detach() for n,p in AWDLSTM(len(words()), **SIZES).named_parameters()}

@lru_cache
def model():
    "A folder with a model that knows words and no grammar, and the model"
    folder = write_model(Path(tempfile.mkdtemp())/'model', weights(0), words(), SIZES)
    return folder, load_lm(folder, precision='fp32')


@lru_cache
def archive_url():
    "Where a server on this machine has an archive in IMDb's layout"
    folder = Path(tempfile.mkdtemp())
    for name,text in texts().items():
        (folder/'imdb'/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/'imdb'/name).write_text(text, encoding='utf-8')
    with tarfile.open(folder/'imdb.tgz', 'w:gz') as tar: tar.add(folder/'imdb', 'imdb')
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f'http://127.0.0.1:{server.server_port}/imdb.tgz'


# ---- kinds of work: `do` in a folder, what `half` of it must already be, and the `result`

class Download:
    def do(self, folder):
        os.environ['FASTAI_HOME'] = str(folder)
        fastai_cfg.cache_clear()
        untar_imdb(archive_url())
    def prepare(self, folder): archive_url()
    def half(self, folder):
        if (folder/'data'/'imdb').exists(): assert len([*(folder/'data'/'imdb').rglob('*.txt')]) == len(texts()), 'an archive half unpacked has its name'
    def result(self, folder):
        files = sorted((folder/'data'/'imdb').rglob('*.txt'))
        return digest(*[f'{o.relative_to(folder)}'.encode() + o.read_bytes() for o in files])

class Tokenize:
    def prepare(self, folder): texts()
    def do(self, folder): cached_tokens([*texts().values()], folder/'tokens', n_workers=1)
    def half(self, folder): assert all((o/'about.json').exists() for o in (folder/'tokens').glob('*') if not o.name.startswith('part-')), 'a cache half written has its name'
    def result(self, folder):
        corpus = cached_tokens([*texts().values()], folder/'tokens', n_workers=1)
        return digest(json.dumps(corpus.words).encode(), corpus.ids.tobytes())

class Train:
    def prepare(self, folder): texts()
    def do(self, folder):
        checkpoint.SHORTEST = checkpoint.SPARING = 0
        loader.tokens_folder = lambda: folder/'tokens'
        set_seed(1)
        dls = loader.lm_dls([*texts().values()][:40], bs=4, seq_len=30, min_freq=2)
        learn = lm_learner(dls, config={**awd_lstm_lm_config, 'emb_sz': 8, 'n_hid': 12, 'n_layers': 2}, pretrained=False)
        learn.fit_two_stage(1, 1e-2, 1, 5e-3, checkpoint=folder/'run')
        save_lm(learn, folder/'model')
    def half(self, folder):
        found = checkpoints(folder/'run') if (folder/'run').exists() else []
        for o in found[:1]: read_checkpoint(o)
    def result(self, folder): return digest((folder/'model'/'model.safetensors').read_bytes())

class Save:
    "Over a model that is there"
    def prepare(self, folder):
        words()
        write_model(folder/'model', weights(0), words(), SIZES)
    def do(self, folder): write_model(folder/'model', weights(1), words(), SIZES)
    def half(self, folder):
        net = load_lm(folder/'model', precision='fp32').net
        assert any(all(torch.equal(p, w[fastai_name(n)]) for n,p in net.named_parameters()) for w in (weights(0), weights(1))), 'a model of two halves'
    def result(self, folder): return digest((folder/'model'/'model.safetensors').read_bytes())

class Write:
    def prepare(self, folder): model()
    def do(self, folder): write_reviews(model()[1], folder/'reviews.jsonl', ['The movie', 'I'], 'm', resume=True, n=60, n_words=40, seed=1, stop=False)
    def half(self, folder):
        lines = (folder/'reviews.jsonl').read_bytes().split(b'\n')[:-1] if (folder/'reviews.jsonl').exists() else []
        for o in lines: json.loads(o)
    def result(self, folder): return digest((folder/'reviews.jsonl').read_bytes())

WORK = dict(download=Download, tokenize=Tokenize, train=Train, save=Save, write=Write)


# ---- faults

SIGNALS = {'kill -9': signal.SIGKILL, 'SIGTERM': signal.SIGTERM, 'Ctrl-C': signal.SIGINT}
LIMITS = {'no room on the disk': resource.RLIMIT_FSIZE, 'little memory': resource.RLIMIT_AS}
SPARE = 16*2**20 # Bytes of memory beyond those that are taken, at most
FAULTS = [*LIMITS, *SIGNALS]


def limit(kind, most):
    "Let this process take no more than so many bytes: of memory, or for a file"
    taken = int(Path('/proc/self/statm').read_text().split()[0])*resource.getpagesize() if kind == 'little memory' else 0
    resource.setrlimit(LIMITS[kind], (taken + most,)*2)


def child(do, folder, *limits):
    "Start `do` in a process of its own"
    def run():
        out = os.open(os.devnull, os.O_WRONLY)
        for o in (1, 2): os.dup2(out, o)
        torch.set_num_threads(1)
        if limits: limit(*limits)
        do(folder)
    p = multiprocessing.get_context('fork').Process(target=run)
    p.start()
    return p


def finish(do, folder):
    "How many seconds it takes"
    start, p = time.monotonic(), child(do, folder)
    p.join(300)
    assert p.exitcode == 0, f'it did not go on: exit code {p.exitcode}'
    return time.monotonic() - start


def strike(do, folder, kind, dice, seconds, size):
    "Was `do`, which takes so many seconds and writes files of so many bytes, in its midst when it was struck?"
    most = int(dice.random()*(SPARE if kind == 'little memory' else size))
    p = child(do, folder, *[kind, most][:2*(kind in LIMITS)])
    p.join(dice.uniform(0, seconds) if kind in SIGNALS else 300)
    struck = p.is_alive()
    if struck: os.kill(p.pid, SIGNALS.get(kind, signal.SIGKILL))
    p.join(60)
    assert p.exitcode is not None and (kind in SIGNALS or not struck), f'{kind}: it hangs'
    return bool(p.exitcode)


def survive(name, moments, seed=0):
    "Strike work of this kind at so many moments, four for each time that it is done; how many of each kind of fault there were, and how many struck it in its midst"
    work, dice, done, hits = WORK[name](), random.Random(f'{name} {seed}'), Counter(), Counter()
    with tempfile.TemporaryDirectory() as d:
        def folder(n):
            res = Path(d)/str(n)
            res.mkdir()
            work.prepare(res)
            return res
        seconds, want = finish(work.do, first := folder('alone')), work.result(first)
        size = max(o.stat().st_size for o in first.rglob('*') if o.is_file())
        for n in range(0, moments, 4):
            at = folder(n)
            for _ in range(min(4, moments - n)):
                kind = FAULTS[done.total()%len(FAULTS)]
                done[kind] += 1
                hits[kind] += strike(work.do, at, kind, dice, seconds, size)
                work.half(at)
            finish(work.do, at)
            assert work.result(at) == want, f'{name} ends otherwise after faults'
    return done, hits


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', metavar='NAME', default=[*WORK])
    p.add_argument('--moments', type=int, default=200)
    a = p.parse_args()
    rows = []
    for name in a.names:
        done, hits = survive(name, a.moments//len(a.names))
        rows.append(f'| {name} | ' + ' | '.join(f'{done[o]} ({hits[o]})' for o in FAULTS) + ' |')
        print(rows[-1], flush=True)
    RESULT.write_text(f'# Faults at random moments\n\n{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}. Made by `python tests/faults.py --moments {a.moments}`.\n\n'
        'How many faults there were, and in brackets how many of them struck the work before it was done. After each, nothing half made had the name of something whole; '
        'after every four the same call went on, and its result was that of an undisturbed one, to the last byte.\n\n'
        f'| | {" | ".join(FAULTS)} |\n|---|{"---|"*len(FAULTS)}\n' + '\n'.join(rows) + '\n')


if __name__ == '__main__': main()
