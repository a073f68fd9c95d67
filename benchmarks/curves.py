"""Loss curves with dropout on: stock fastai and this library over 300 steps on the same batches, each with five seeds.

    python benchmarks/curves.py [--data FOLDER] [--steps 300] [--seeds 5]

A seed decides the first weights and the dropout; the batches are the same for all. Writes benchmarks/results/curves.md and .png.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.text.all import AWD_LSTM, awd_lstm_lm_config, language_model_learner, set_seed

from imdb_lm.data import read_reviews, review_files
from imdb_lm.learner import lm_learner
from imdb_lm.loader import lm_dls
from imdb_lm.mini import mini_reviews
from machine import cpu

RESULT = Path(__file__).parent/'results'/'curves.md'
CONFIG = {**awd_lstm_lm_config, 'emb_sz': 128, 'n_hid': 256, 'n_layers': 2}


class Stop(Callback):
    order, run_valid = 100, False
    def __init__(self, steps): self.steps = steps
    def after_batch(self):
        if len(self.recorder.losses) >= self.steps: raise CancelFitException


def curve(kind, texts, seed, steps):
    "The training loss of each step"
    set_seed(0)
    dls = lm_dls(texts, bs=16, seq_len=48, max_vocab=8000)
    set_seed(seed)
    make = {'stock': lambda: language_model_learner(dls, AWD_LSTM, config=CONFIG, drop_mult=0.3, pretrained=False),
            'ours': lambda: lm_learner(dls, config=CONFIG, drop_mult=0.3, pretrained=False)}
    learn = make[kind]()
    set_seed(seed)
    with learn.no_bar(), learn.no_logging(): learn.fit(steps, 3e-3, cbs=Stop(steps))
    return np.array([float(o) for o in learn.recorder.losses])


def report(curves, steps):
    mean = {k: np.array([np.convolve(c, np.ones(25)/25, 'valid') for c in o]) for k,o in curves.items()}
    rows = []
    for step in range(50, steps + 1, 50):
        a, b = (mean[k][:, step - 25] for k in ('stock', 'ours'))
        rows.append(f'| {step} | {a.min():.4f} | {a.max():.4f} | {b.min():.4f} | {b.max():.4f} | {np.abs(a - b).max():.1e} |')
    within = np.mean((mean['ours'] > mean['stock'].min(0) - 1e-5) & (mean['ours'] < mean['stock'].max(0) + 1e-5)) # sums in another order differ by less
    spread = (mean['stock'].max(0) - mean['stock'].min(0)).mean()
    RESULT.write_text(f'# Loss curves with dropout\n\nMachine: {cpu()}, torch {torch.__version__}. Made by `python benchmarks/curves.py`. Means of 25 steps, {len(curves["stock"])} seeds.\n\n'
        '![Loss curves](curves.png)\n\n| step | stock, lowest | stock, highest | ours, lowest | ours, highest | largest difference for one seed |\n|---|---|---|---|---|---|\n' + '\n'.join(rows) +
        f"\n\nThe seeds of stock lie {spread:.4f} apart on average. {within:.1%} of our points are within stock's spread; of one seed, stock and ours differ by {np.abs(mean['stock'] - mean['ours']).mean():.1e} on average.\n")
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots(figsize=(7, 3.5), layout='constrained')
    x = np.arange(25, steps + 1)
    ax.fill_between(x, mean['stock'].min(0), mean['stock'].max(0), alpha=.4, label="the spread of stock's seeds")
    for i,c in enumerate(mean['ours']): ax.plot(x, c, color='tab:red', lw=.6, label=None if i else 'ours, each seed')
    ax.set(xlabel='step', ylabel='loss, mean of 25 steps')
    ax.legend()
    fig.savefig(RESULT.with_suffix('.png'), dpi=110)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', type=Path, help='a folder of reviews, of which every 50th is taken; default: the bundled corpus')
    p.add_argument('--steps', type=int, default=300)
    p.add_argument('--seeds', type=int, default=5)
    a = p.parse_args()
    texts = read_reviews(review_files(a.data or mini_reviews())[::50 if a.data else 1])
    curves = {kind: [curve(kind, texts, seed, a.steps) for seed in range(1, a.seeds + 1)] for kind in ('stock', 'ours')}
    report(curves, a.steps)
    print(RESULT.read_text())


if __name__ == '__main__': main()
