"""The starter model: trained on all of IMDb but the held-out tenth, small enough for the package and for a laptop.

    python benchmarks/starter.py WORK [--imdb FOLDER] [--rounds 2]

WORK is a folder for the checkpoints and the models; the same command goes on where it was stopped. Each round is one cycle that
starts from the model of the round before. Writes benchmarks/results/starter.md.
"""
import argparse, platform
from pathlib import Path

import pandas as pd
import torch
from fastai.callback.training import GradientClip
from fastai.text.all import awd_lstm_lm_config, set_seed

import imdb_lm.training  # noqa: F401 -- lends learners their fit_two_stage
from imdb_lm.data import untar_imdb
from imdb_lm.evaluate import evaluate_lm
from imdb_lm.learner import lm_learner, save_lm
from imdb_lm.loader import dls_summary, held_out_texts, lm_dls
from imdb_lm.model import load_lm

RESULT = Path(__file__).parent/'results'/'starter.md'
CONFIG = {**awd_lstm_lm_config, 'emb_sz': 256, 'n_hid': 640, 'n_layers': 2}
ROUNDS = [(1, 5e-3), (2, 3e-3)] # epochs, peak learning rate
DROP_MULT = 0.1 # in so few epochs little is learned by heart: AWD-LSTM's penalties on activations, alpha and beta, are left out, too


def train(work, dls, number, before):
    "The model of a round, unless it is there"
    folder, (epochs, lr) = work/f'round-{number}', ROUNDS[number - 1]
    if not (folder/'history.csv').exists():
        set_seed(number)
        learn = lm_learner(dls, config=CONFIG, drop_mult=DROP_MULT, alpha=0, beta=0, pretrained=before or False)
        learn.unfreeze()
        learn.fit_two_stage(0, lr, epochs, lr, checkpoint=work/f'checkpoints-{number}', cbs=GradientClip(1.))
        save_lm(learn, folder)
        learn.history.to_csv(folder/'history.csv', index=False)
    return folder


def cpu(): return next((o.split(':')[1].strip() for o in open('/proc/cpuinfo') if o.startswith('model name')), platform.processor())


def report(work, imdb, summary, rounds):
    out = [f'# The starter model\n\nMachine: {cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}. '
           'Made by `python benchmarks/starter.py`.\n\n' + ', '.join(f'{k} {v:,}' if isinstance(v, int) else f'{k} {v:.2%}' for k,v in summary.items()) + '.\n',
           'Held-out reviews without their ratings, each read on its own from its beginning. Goal: a perplexity under 60.\n',
           '| round | epochs | peak rate | perplexity | accuracy | unknown |', '|---|---|---|---|---|---|']
    texts = held_out_texts(imdb)
    for i in range(1, rounds + 1):
        r = evaluate_lm(load_lm(work/f'round-{i}'), texts)
        out.append(f'| {i} | {ROUNDS[i-1][0]} | {ROUNDS[i-1][1]} | {r["perplexity"]:.1f} | {r["accuracy"]:.3f} | {r["unknown"]:.3f} |')
    for i in range(1, rounds + 1):
        out += [f'\n## Round {i}\n', pd.read_csv(work/f'round-{i}'/'history.csv').round(4).to_csv(index=False, sep='|')]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text('\n'.join(out) + '\n', encoding='utf-8')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('work', type=Path)
    p.add_argument('--imdb', type=Path, help="IMDb's folder; default: untar_imdb()")
    p.add_argument('--rounds', type=int, default=len(ROUNDS), choices=range(1, len(ROUNDS) + 1))
    a = p.parse_args()
    imdb = a.imdb or untar_imdb()
    a.work.mkdir(parents=True, exist_ok=True)
    dls, folder = lm_dls(imdb, bs=32, seq_len=64, max_vocab=16000, label='stars'), None
    summary = dls_summary(dls)
    print(summary)
    for i in range(1, a.rounds + 1): folder = train(a.work, dls, i, folder)
    report(a.work, imdb, summary, a.rounds)
    print(RESULT.read_text())


if __name__ == '__main__': main()
