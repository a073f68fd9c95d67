"""What changes of the recipe bring on the same text: short runs of the starter's small network, one change at a time.

    python benchmarks/recipe.py WORK [--imdb FOLDER] [--tokens 1.5] [--seeds 1] [--rows NAME...]

Every run reads the same reviews once and is judged on the same held-out ones. What is done is kept in WORK: the same command goes on
where it was stopped. Writes benchmarks/results/recipe.md after each run.
"""
import argparse, json, math, random, time
from pathlib import Path
from statistics import fmean, median

import pandas as pd
import torch
from fastai.callback.core import Callback, CancelValidException
from fastai.callback.training import GradientClip
from fastai.losses import LabelSmoothingCrossEntropyFlat
from fastai.text.all import set_seed

from imdb_lm.data import read_reviews, review_files, untar_imdb
from imdb_lm.evaluate import stream_perplexity
from imdb_lm.labels import file_stars
from imdb_lm.learner import language_model, lm_learner
from imdb_lm.loader import lm_dls
from imdb_lm.scratch import louder
from machine import machine
from starter import CONFIG

RESULT = Path(__file__).parent/'results'/'recipe.md'
HELD_OUT, MAX_VOCAB = 500, 16000
BASE = dict(fit='one cycle', pct_start=0.05, div=2., lr=5e-3, bs=32, seq_len=64, wd=0.01, average=None, smoothing=0., drop_mult=0.1, alpha=0., beta=0., clip=1., loud=True, ratings=False)
POST = dict(pct_start=0.25, div=25., lr=2e-3, bs=128, seq_len=72, drop_mult=0.3, alpha=2., beta=1., clip=None, loud=False)
ROWS = {
    'base': {},
    'the post': POST,
    'the post, batches of 32 x 64': {**POST, 'bs': 32, 'seq_len': 64},
    'rate 1.25e-3': dict(lr=1.25e-3), 'rate 2.5e-3': dict(lr=2.5e-3), 'rate 1e-2': dict(lr=1e-2), 'rate 2e-2': dict(lr=2e-2),
    'batches of 16 x 64': dict(bs=16), 'batches of 64 x 64': dict(bs=64), 'batches of 32 x 32': dict(seq_len=32), 'batches of 32 x 128': dict(seq_len=128),
    'warm-up over 25%, from a 25th': dict(pct_start=0.25, div=25.),
    'warm-up over 25%, batches of 32 x 32': dict(pct_start=0.25, div=25., seq_len=32),
    'flat, then cosine over the last 25%': dict(fit='flat cosine'),
    'flat': dict(fit='flat'),
    'flat, mean of the weights of the last half (ASGD)': dict(fit='flat', average='mean'),
    'flat, moving average of the weights (EMA, 0.99)': dict(fit='flat', average=0.99),
    'moving average of the weights (EMA, 0.99)': dict(average=0.99),
    'no weight decay': dict(wd=0.), 'weight decay 0.1': dict(wd=0.1), 'weight decay 0.3': dict(wd=0.3),
    'labels smoothed by 0.1': dict(smoothing=0.1),
    'no dropout': dict(drop_mult=0.), 'dropout x 0.3': dict(drop_mult=0.3), 'dropout x 0.6': dict(drop_mult=0.6),
    "AWD-LSTM's penalties, alpha 2 and beta 1": dict(alpha=2., beta=1.),
    'gradients not clipped': dict(clip=None),
    'first weights as torch draws them': dict(loud=False),
    'ratings as fields': dict(ratings=True),
}


class Average(Callback):
    "An average of the weights: it takes their place in the end"
    order, run_valid = 90, False
    def __init__(self, kind): self.kind = kind # 'mean' of the last half, or how much of a moving average stays
    def before_fit(self): self.mean, self.n = None, 0

    @torch.no_grad()
    def after_batch(self):
        if self.kind == 'mean' and self.pct_train < 0.5: return
        params = self.params()
        if self.mean is None: self.mean = [p.clone() for p in params]
        self.n += 1
        share = 1/self.n if self.kind == 'mean' else max(1 - self.kind, 1/self.n) # at first what came before counts for little
        for m,p in zip(self.mean, params): m.lerp_(p, share)

    @torch.no_grad()
    def after_fit(self):
        if self.mean is not None:
            for m,p in zip(self.mean, self.params()): p.copy_(m)

    def params(self): return [p for p in self.learn.model.parameters() if isinstance(p, torch.nn.Parameter)]


class Spare(Callback):
    "No validation: there is one at the end, the same for all"
    order = -100
    def before_validate(self): raise CancelValidException


def sample(imdb, tokens):
    "Reviews of about `tokens` tokens with their ratings, chosen with seed 42, after those to hold out"
    files = random.Random(42).sample(list(review_files(imdb)), HELD_OUT + math.ceil(tokens/290)) # tokens of a review on average
    return pd.DataFrame(dict(text=read_reviews(files), stars=list(map(file_stars, files))))


def run(row, reviews, seed):
    "The perplexity that a recipe reaches in one reading of the reviews, on those held out, without their ratings"
    o = {**BASE, **row}
    set_seed(seed)
    dls = lm_dls(reviews, label='stars' if o['ratings'] else None, bs=o['bs'], seq_len=o['seq_len'], max_vocab=MAX_VOCAB, valid=range(HELD_OUT))
    learn = lm_learner(dls, config=CONFIG, drop_mult=o['drop_mult'], alpha=o['alpha'], beta=o['beta'], wd=o['wd'], pretrained=False, metrics=[], chunked=not o['smoothing'])
    if o['smoothing']: learn.loss_func = LabelSmoothingCrossEntropyFlat(eps=o['smoothing'])
    if o['loud']: louder(learn.model)
    cbs = [Spare()] + [GradientClip(o['clip'])]*(o['clip'] is not None) + [Average(o['average'])]*(o['average'] is not None)
    start = time.monotonic()
    with learn.no_bar(), learn.no_logging():
        if o['fit'] == 'one cycle': learn.fit_one_cycle(1, o['lr'], pct_start=o['pct_start'], div=o['div'], cbs=cbs)
        elif o['fit'] == 'flat cosine': learn.fit_flat_cos(1, o['lr'], div_final=1e5, pct_start=0.75, cbs=cbs)
        else: learn.fit(1, o['lr'], cbs=cbs)
    minutes = (time.monotonic() - start)/60
    return dict(perplexity=stream_perplexity(language_model(learn), reviews.text.tolist()[:HELD_OUT], bs=32, seq_len=64), steps=len(learn.recorder.losses), minutes=minutes)


def report(done):
    "A table for every number of tokens, of what has been read so far"
    tables = {}
    for k,o in done.items():
        name, tokens, seed = k.rsplit(', ', 2)
        tables.setdefault(tokens, {}).setdefault(name, {})[seed] = o
    names = ', '.join(f'{k} {v}' for k,v in BASE.items())
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(f'# What changes of the recipe bring\n\n{machine()} Made by `python benchmarks/recipe.py`.\n\n'
        f"The starter's network, {CONFIG['n_layers']} layers of {CONFIG['n_hid']}, vocabulary {MAX_VOCAB:,}, reads some tokens of IMDb once; perplexity on {HELD_OUT} held-out reviews, in the mean of the seeds, and against the base seed by seed. "
        f'Each row changes the base in what it names. The base: {names}.\n' + ''.join(f'\n## {t}\n\n{table(got)}\n' for t,got in sorted(tables.items())), encoding='utf-8')


def table(got):
    "The rows, the best one first"
    mean = {k: fmean(o['perplexity'] for o in v.values()) for k,v in got.items()}
    order = sorted(got, key=lambda k: mean[k] if math.isfinite(mean[k]) else math.inf)
    spread = {k: ' to '.join(f'{f(o["perplexity"] for o in v.values()):.1f}' for f in (min, max)) if len(v) > 1 else '' for k,v in got.items()}
    base = got.get('base', {})
    against = {k: [o['perplexity']/base[s]['perplexity'] - 1 for s,o in v.items() if s in base] for k,v in got.items()}
    rows = [f'| {k} | {mean[k]:.1f} | {spread[k]} | {fmean(against[k] or [math.nan]):+.1%} | {len(got[k])} | {median(o["steps"] for o in got[k].values()):,.0f} | {median(o["minutes"] for o in got[k].values()):.1f} |' for k in order]
    return '| | perplexity | lowest to highest | against the base | seeds | steps | minutes |\n|---|---|---|---|---|---|---|\n' + '\n'.join(rows)


def key(name, tokens, seed): return f'{name}, {tokens:g} M tokens, seed {seed}'


def keep(done, file):
    part = file.with_suffix('.part')
    part.write_text(json.dumps(done, indent=1))
    part.rename(file)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('work', type=Path, help='a folder for what is done')
    p.add_argument('--imdb', type=Path, help="IMDb's folder; default: untar_imdb()")
    p.add_argument('--tokens', type=float, default=1.5, help='millions of tokens that a run reads')
    p.add_argument('--seeds', type=int, default=1, help='runs of each row')
    p.add_argument('--rows', nargs='+', choices=list(ROWS), metavar='NAME', default=list(ROWS), help='some of: ' + '; '.join(ROWS).replace('%', '%%'))
    a = p.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    file, reviews = a.work/'recipe.json', sample(a.imdb or untar_imdb(), a.tokens*1e6)
    done = json.loads(file.read_text()) if file.exists() else {}
    for seed in range(1, a.seeds + 1):
        for name in a.rows:
            if (k := key(name, a.tokens, seed)) not in done:
                done[k] = run(ROWS[name], reviews, seed)
                keep(done, file)
            report(done)
    print(RESULT.read_text(encoding='utf-8'))


if __name__ == '__main__': main()
