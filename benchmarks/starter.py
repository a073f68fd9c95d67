"""The starter model: trained on all of IMDb but the held-out tenth, small enough for the package and for a laptop.

    python benchmarks/starter.py WORK [--imdb FOLDER] [--rounds 2]

WORK is a folder for the checkpoints and the models; the same command goes on where it was stopped. Each round is one cycle that
starts from the model of the round before; the last one becomes imdb_lm/starter. The first round reads all reviews, three hours on two
cores; the second reads half of them once more. Writes benchmarks/results/starter.md.
"""
import argparse, shutil, subprocess, sys, time
from functools import partial
from pathlib import Path
from statistics import median

import pandas as pd
from fastai.callback.training import GradientClip
from fastai.text.all import RandomSplitter, awd_lstm_lm_config, set_seed

from imdb_lm.data import review_files, untar_imdb
from imdb_lm.evaluate import evaluate_lm
from imdb_lm.learner import lm_learner, save_lm
from imdb_lm.loader import dls_summary, held_out_texts, lm_dls
from imdb_lm.model import STARTER, find_model, load_lm, read_vocab, shrink_model
from imdb_lm.scratch import scratch_learner
from machine import machine

RESULT = Path(__file__).parent/'results'/'starter.md'
CONFIG = {**awd_lstm_lm_config, 'emb_sz': 192, 'n_hid': 512, 'n_layers': 2}
LOADER = dict(bs=32, seq_len=64, max_vocab=16000, label='stars')
ROUNDS = [(1., 5e-3), (0.5, 3e-3)] # share of the reviews that are not held out, peak learning rate


def some_reviews(imdb, share, folder):
    "A folder of the held-out reviews and a `share` of the others"
    files = review_files(imdb)
    train, held_out = RandomSplitter(0.1, seed=42)(files)
    for part,places in dict(train=RandomSplitter(share, seed=1)(train)[1].map(train.__getitem__), held_out=held_out).items():
        for f in map(files.__getitem__, places):
            to = folder/part/f.relative_to(imdb)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(f, to)
    return folder


def corpus(work, imdb, number, before):
    "The `DataLoaders` of a round"
    if (share := ROUNDS[number - 1][0]) == 1: return lm_dls(imdb, **LOADER)
    return lm_dls(some_reviews(imdb, share, work/f'reviews-{number}'/'imdb'), valid='held_out', vocab=read_vocab(before), **LOADER)


def train(work, number, before, corpus, epochs=1):
    "The model of a round, unless it is there; `corpus` makes its `DataLoaders`"
    folder = work/f'round-{number}'
    if not (folder/'history.csv').exists():
        dls = corpus()
        set_seed(number)
        learn = lm_learner(dls, drop_mult=0.1, alpha=0, beta=0, pretrained=before, cbs=GradientClip(1.)) if before else scratch_learner(dls, config=CONFIG)
        learn.fit_one_stage(epochs, ROUNDS[number - 1][1], checkpoint=work/f'checkpoints-{number}')
        save_lm(learn, folder)
        learn.history.to_csv(folder/'history.csv', index=False)
    return folder


def ship(folder):
    "The model of `folder` in 8 bits, as it comes with the package"
    return shrink_model(folder, find_model(STARTER))


def words_per_second(lm, n):
    "Words of `n` reviews written side by side, the median of five times"
    def once(seed):
        start = time.perf_counter()
        lm.generate(['This movie']*n, n_words=100, stop=False, seed=seed)
        return 100*n/(time.perf_counter() - start)
    return median(map(once, range(5)))


def seconds_to_first_word():
    "From the command to its first word, each in a process of its own: the median of five"
    code = 'import sys; from imdb_lm.model import load_lm; next(load_lm("starter").stream("I like this movie because", seed=1)); print(1)'
    def once(_):
        start = time.perf_counter()
        subprocess.run([sys.executable, '-c', code], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start
    return median(map(once, range(5)))


def table(df): return '\n'.join(f'| {" | ".join(map(str, row))} |' for row in [df.columns, ['---']*len(df.columns), *df.values])


def report(work, imdb, summary, rounds):
    lm, folder = load_lm(STARTER), find_model(STARTER)
    r, size = evaluate_lm(lm, held_out_texts(imdb)), sum(f.stat().st_size for f in folder.iterdir())
    out = [f'# The starter model\n\n{machine()} '
           f'Made by `python benchmarks/starter.py WORK --rounds {rounds}`.\n\nCorpus: ' + ', '.join(f'{k} {v:,}' if isinstance(v, int) else f'{k} {v:.2%}' for k,v in summary.items()) + '.\n',
           f'{lm!r}; the folder takes {size/1e6:.1f} MB.\n',
           'As it comes with the package, on the held-out reviews without their ratings, each read on its own from its beginning. Goals: a perplexity under 60, 500 words a second, 3 s to the first word, 12 MB.\n',
           '| perplexity | as fastai computes it | bits per byte | accuracy | unknown | words/s, one review | words/s, 64 reviews | cold start to the first word |',
           '|---|---|---|---|---|---|---|---|',
           f'| {r["perplexity"]:.1f} | {r["stream_perplexity"]:.1f} | {r["bits_per_byte"]:.3f} | {r["accuracy"]:.1%} | {r["unknown"]:.1%} | '
           f'{words_per_second(lm, 1):,.0f} | {words_per_second(lm, 64):,.0f} | {seconds_to_first_word():.1f} s |']
    for i in range(1, rounds + 1):
        history = pd.read_csv(work/f'round-{i}'/'history.csv').round(4)
        share, lr = ROUNDS[i-1]
        out += [f'\n## Round {i}: {"all" if share == 1 else f"{share:.0%} of the"} reviews once, peak rate {lr:g}\n', 'On the held-out reviews with their ratings:\n', table(history)]
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
    summary, folder = dls_summary(lm_dls(imdb, **LOADER)), None
    print(summary)
    for i in range(1, a.rounds + 1): folder = train(a.work, i, folder, partial(corpus, a.work, imdb, i, folder))
    ship(folder)
    report(a.work, imdb, summary, a.rounds)
    print(RESULT.read_text())


if __name__ == '__main__': main()
