"""The parts of benchmarks/gpu.sh, which says how to use them: some minutes on a bare GPU machine.

    python benchmarks/gpu.py prepare PACK [--imdb FOLDER] | starter PACK OUT | post PACK OUT | collect OUT

A pack holds IMDb as numbers of 16 bits, the wheels that the machine lacks, and a stand-in for spaCy, which has nothing to do where
texts are tokens already. The last command joins what came home into benchmarks/results/gpu.md.
"""
import argparse, gc, json, lzma, os, platform, shutil, subprocess, sys, tarfile, tempfile, time
from functools import partial
from importlib.metadata import distribution, version
from pathlib import Path

import numpy as np

from machine import cpu

TINY = os.environ.get('SCALE') == 'tiny' # some reviews and networks of nothing, to see that all runs
RESULT = Path(__file__).parent/'results'/'gpu.md'
PARTS = ['train', 'step', 'starter', 'post']
BEGUN = time.monotonic()
WHEELS = ['fastai', 'fastcore', 'fastdownload', 'fasttransform', 'plum-dispatch', 'beartype', 'safetensors', 'requests', 'urllib3', 'idna',
          'certifi', 'charset-normalizer', 'PyYAML', 'rich'] # as they are here; of fastprogress an older one, which imports no web framework
PLATFORMS = ['manylinux_2_28_x86_64', 'manylinux_2_17_x86_64', 'manylinux2014_x86_64']
XZ = [dict(id=lzma.FILTER_LZMA2, preset=6, lc=0, lp=1, pb=1)] # numbers of two bytes
SPACY = '''"Has spaCy's name, and stands where nothing is left to tokenize"
class English:
    lang = 'en'
    def __init__(self): self.tokenizer = self
    def add_special_case(self, word, parts): pass
    def pipe(self, texts): raise RuntimeError('this is no spaCy: texts cannot be tokenized here')

def blank(lang): return English()
'''


def prepare(pack, imdb, python):
    "Everything that the machine lacks, in the folder `pack`"
    pack.mkdir(parents=True, exist_ok=True)
    if not (pack/'ids.xz').exists(): write_ids(pack, imdb)
    where = [o for p in PLATFORMS for o in ('--platform', p)]
    shutil.rmtree(pack/'wheels', ignore_errors=True)
    subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '--only-binary=:all:', '--implementation', 'cp', '--python-version', python, *where,
                    '-d', pack/'wheels', 'fastprogress<1.1', *(f'{o}=={version(o)}' for o in WHEELS)], check=True)
    spacy = distribution('spacy')
    meta = pack/'stand_in'/f'spacy-{spacy.version}.dist-info'/'METADATA'
    for file,text in {'spacy/__init__.py': SPACY, 'spacy/symbols.py': 'ORTH = 65\n', meta.relative_to(pack/'stand_in'): f'Metadata-Version: 2.1\nName: spacy\nVersion: {spacy.version}\n'}.items():
        (pack/'stand_in'/file).parent.mkdir(parents=True, exist_ok=True)
        (pack/'stand_in'/file).write_text(text)
    sizes = {o.name: sum(f.stat().st_size for f in o.rglob('*') if f.is_file()) if o.is_dir() else o.stat().st_size for o in pack.iterdir() if o.name != 'out'}
    print(', '.join(f'{k} {v/2**20:.1f} MB' for k,v in sizes.items()))


def write_ids(pack, imdb):
    "All of IMDb in the vocabulary of the post, and each review's rating; the ids last, for they say that all is there"
    from imdb_lm.data import review_files, untar_imdb
    from imdb_lm.labels import file_stars
    from imdb_lm.loader import lm_dls
    imdb = imdb or untar_imdb()
    dls = lm_dls(imdb)
    docs, corpus = dls.train.docs, dls.train_ds.tokenizer.corpus
    (pack/'words.json').write_text(json.dumps(list(dls.vocab)))
    np.savez_compressed(pack/'reviews.npz', lengths=corpus.lengths.astype(np.uint16), stars=np.array([int(file_stars(o) or 0) for o in review_files(imdb)], np.uint8))
    (pack/'ids.part').write_bytes(lzma.compress(docs.vocab[corpus.ids].astype(np.uint16).tobytes(), filters=XZ))
    (pack/'ids.part').rename(pack/'ids.xz')


def packed_corpus(pack, heads):
    "The `Corpus` of the pack's first reviews, as many as there are `heads`: the tokens that are put before a review's own"
    from imdb_lm.cache import Corpus
    words, lengths = json.loads((pack/'words.json').read_text()), np.load(pack/'reviews.npz')['lengths'][:len(heads)].astype(np.int64)
    o2i = {w: i for i,w in enumerate(words)}
    ids = np.frombuffer(lzma.decompress((pack/'ids.xz').read_bytes()), np.uint16)[:lengths.sum()].astype(np.int32)
    heads = [[o2i[w] for w in o.split()] for o in heads]
    n = np.array(list(map(len, heads)))
    ids = np.insert(ids, np.repeat(lengths.cumsum() - lengths + 1, n), [i for o in heads for i in o]) # after xxbos
    first = np.full(len(words), len(ids))
    first[ids[::-1]] = np.arange(len(ids))[::-1]
    order = first.argsort(kind='stable') # in which a corpus has its words: of equally common ones the vocabulary takes the first
    ids = order.argsort().astype(np.int32)[ids]
    return Corpus(ids, (lengths + n).cumsum(), [words[i] for i in order], np.bincount(ids, minlength=len(words)))


def packed_dls(pack, **kwargs):
    "What `lm_dls` makes of IMDb; but of the few labelled reviews that begin with blank lines, these are left out"
    import pandas as pd
    from imdb_lm import loader, tokens
    stars = np.load(pack/'reviews.npz')['stars'][:300 if TINY else None]
    table = pd.DataFrame(dict(text='', stars=[int(o) if o else None for o in stars]))
    loader.cached_tokens = lambda heads, *_: packed_corpus(pack, heads)
    tokens._memo().update({o: (o,) for o in ('xxfld', *map(str, range(1, 11)))}) # of the prompts, the library knows by heart what else is in them
    return loader.lm_dls(table, **kwargs)


def machine():
    import torch
    return f'Machine: {torch.cuda.get_device_name() if torch.cuda.is_available() else cpu()}, torch {torch.__version__}, Python {platform.python_version()}. Made by `benchmarks/gpu.sh`.'


def table(df): return '\n'.join(f'| {" | ".join(map(str, row))} |' for row in [df.columns, ['---']*len(df.columns), *df.round(4).values])


def reviews(lm):
    from imdb_lm.card import PROMPTS
    return '\n'.join(f'**{p}**\n\n' + '\n\n'.join('> ' + ' '.join(o.split()) for o in texts) + '\n' for p,texts in zip(PROMPTS, lm.generate(PROMPTS, n=3, seed=42)))


def without_bars():
    from fastai.callback.progress import ProgressCallback
    from fastai.torch_core import defaults
    defaults.callbacks.remove(ProgressCallback)


def epoch_seconds(learn, steps=40):
    "About how long an epoch takes"
    import torch
    from fastai.callback.core import Callback, CancelFitException
    times = []
    class Watch(Callback):
        run_valid = False
        def after_batch(self):
            if torch.cuda.is_available(): torch.cuda.synchronize()
            times.append(time.perf_counter())
            if len(times) > steps: raise CancelFitException
    with learn.no_logging(): learn.fit(1, 1e-5, cbs=Watch())
    half = len(times)//2
    return (times[-1] - times[half])/(len(times) - 1 - half)*len(learn.dls.train)*1.15 # its validation, too


def starter(pack, out, minutes):
    "The rounds of benchmarks/starter.py, of all reviews, the last one with as many epochs as there is time for; each comes home when it is done"
    import pandas as pd
    import starter as s
    from imdb_lm.model import load_lm, shrink_model
    work, before, seconds = Path(tempfile.mkdtemp()), None, None
    if TINY: s.CONFIG.update(emb_sz=16, n_hid=24)
    corpus = partial(packed_dls, pack, **s.LOADER)
    for number in range(1, len(s.ROUNDS) + 1):
        start = time.monotonic()
        epochs = 1 if number == 1 or TINY else int((minutes*60 - (start - BEGUN))/seconds)
        if epochs < 1: break
        before = s.train(work, number, before, corpus, epochs)
        seconds = (time.monotonic() - start)/epochs
        home = Path(tempfile.mkdtemp())
        shrink_model(before, home/f'round-{number}')
        for i in range(1, number + 1):
            (home/f'round-{i}').mkdir(exist_ok=True)
            shutil.copy(work/f'round-{i}'/'history.csv', home/f'round-{i}')
        with tarfile.open(out/'starter.part', 'w:gz') as tar: tar.add(home, 'starter')
        (out/'starter.part').rename(out/'starter.tar.gz')
        tables = [f'Round {i}, peak rate {s.ROUNDS[i-1][1]:g}:\n\n' + table(pd.read_csv(work/f'round-{i}'/'history.csv')) for i in range(1, number + 1)]
        (out/'starter.md').write_text(f'# The starter model on a GPU\n\n{machine()}\n\nOn the held-out reviews with their ratings, {time.monotonic() - BEGUN:.0f} s in all.\n\n'
                                      + '\n\n'.join(tables) + '\n\n' + reviews(load_lm(home/f'round-{number}')), encoding='utf-8')
        shutil.rmtree(home)
    shutil.rmtree(work)


def post(pack, out, minutes):
    "The post's recipe from scratch, its 3 and 10 epochs in as many as fit; the table, the curves and the reviews are written at each epoch's end"
    import matplotlib
    import torch
    from fastai.callback.core import Callback
    from fastai.text.all import set_seed
    import imdb_lm.training  # noqa: F401 -- lends learners their fit_two_stage and plot_two_stage
    from imdb_lm.learner import SIZES, lm_learner
    size = SIZES['post']
    config = {**size['config'], **(dict(emb_sz=16, n_hid=24) if TINY else {})}
    dls = packed_dls(pack, bs=8 if TINY else size['bs'], seq_len=size['seq_len'], max_vocab=size['max_vocab'])
    make = lambda: lm_learner(dls, config=config, pretrained=False)
    set_seed(42)
    seconds = epoch_seconds(make())
    gc.collect() # a learner refers to itself
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    epochs = 2 if TINY else max(1, min(13, int((minutes*60 - 20 - (time.monotonic() - BEGUN))/seconds)))
    frozen = round(epochs*3/13)

    class Keep(Callback):
        order, run_valid = 99, False
        def after_epoch(self):
            rows = self.learn.history
            peak = f', {torch.cuda.max_memory_allocated()/2**30:.1f} GB at most' if torch.cuda.is_available() else ''
            (out/'post.md').write_text(f"# The post's recipe from scratch\n\n{machine()}\n\nEpochs {len(rows)} of {epochs}: {frozen} at 2e-2, {epochs - frozen} at 2e-3, where the post has 3 and 10"
                                       f"; {time.monotonic() - BEGUN:.0f} s in all{peak}.\n\n{table(rows)}\n\n{self.reviews()}", encoding='utf-8')
        def reviews(self):
            try: return reviews(self.learn)
            except Exception as e: return f'No reviews: {e!r}' # the table is worth more
    set_seed(42)
    learn = make()
    learn.fit_two_stage(frozen, 2e-2, epochs - frozen, 2e-3, cbs=Keep())
    matplotlib.use('Agg')
    learn.plot_two_stage().savefig(out/'post.png', dpi=110)


def collect(out):
    "The tables and reviews in `out` as one page, with the curves beside it"
    parts = [o.read_text(encoding='utf-8') for o in (out/f'{n}.md' for n in PARTS) if o.exists()]
    if not parts: sys.exit(f'{out} has none of {", ".join(f"{o}.md" for o in PARTS)}: run benchmarks/gpu.sh first')
    if (out/'post.png').exists():
        shutil.copy(out/'post.png', RESULT.with_suffix('.png'))
        parts.append('![Loss and rate](gpu.png)\n')
    RESULT.write_text('# On a GPU\n\n' + '\n'.join(o.replace('# ', '## ', 1) for o in parts), encoding='utf-8')
    print(RESULT.read_text(encoding='utf-8'))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=['prepare', 'starter', 'post', 'collect'])
    p.add_argument('pack', type=Path, help='the folder of the pack; for collect, of what came home')
    p.add_argument('out', type=Path, nargs='?', help='where the results go')
    p.add_argument('--imdb', type=Path, help="IMDb's folder; default: untar_imdb()")
    p.add_argument('--python', default='3.12', help="the machine's Python")
    p.add_argument('--minutes', type=float, default=8)
    a = p.parse_args()
    if a.what == 'prepare': return prepare(a.pack, a.imdb, a.python)
    if a.what == 'collect': return collect(a.pack)
    if a.out is None: p.error('give PACK and OUT')
    a.out.mkdir(parents=True, exist_ok=True)
    without_bars()
    {'starter': starter, 'post': post}[a.what](a.pack, a.out, a.minutes)


if __name__ == '__main__': main()
