"""The real run: a base trained on unlabelled IMDb reviews, fine-tuned on labelled ones in two stages, and the same without the base.

    python benchmarks/real_run.py WORK [--base 10000] [--tune 5000] [--imdb FOLDER]

WORK is a folder for the two corpora, the models and the logs; what is complete there is not done again.
Writes benchmarks/results/real_run.md: tables, perplexities, nine generated reviews, the machine and the commands.
"""
import argparse, random, shlex, shutil, subprocess, sys, time
from pathlib import Path

import pandas as pd

from imdb_lm.card import PROMPTS
from imdb_lm.data import untar_imdb
from imdb_lm.evaluate import evaluate_lm
from imdb_lm.loader import held_out_texts
from imdb_lm.model import load_lm
from machine import machine

RESULT = Path(__file__).parent/'results'/'real_run.md'
COMMANDS = {
    'base':    'imdb_lm train --data base_reviews --out base --frozen-epochs 0 --epochs 1 --lr 3e-3',
    'tuned':   'imdb_lm train --data tune_reviews --out tuned --pretrained base --frozen-epochs 1 --frozen-lr 1e-2 --epochs 1 --lr 3e-3',
    'scratch': 'imdb_lm train --data tune_reviews --out scratch --pretrained none --frozen-epochs 1 --frozen-lr 1e-2 --epochs 1 --lr 3e-3',
}


def choose(imdb, folders, n, dest):
    "Copy `n` reviews of `folders`, chosen with seed 42, to `dest`"
    if dest.exists(): return
    files = sorted(f for d in folders for f in (imdb/d).rglob('*.txt'))
    tmp = dest.with_suffix('.part')
    shutil.rmtree(tmp, ignore_errors=True)
    for f in random.Random(42).sample(files, n):
        to = tmp/f.relative_to(imdb)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(f, to)
    tmp.rename(dest)


def run(name, work):
    "Run one of the commands, unless its model is there; its output goes to a log, its CPU minutes beside it"
    if (work/name/'history.csv').exists(): return
    _, *args = shlex.split(COMMANDS[name])
    start, before = time.time(), children_cpu()
    with open(work/f'{name}.log', 'w') as log:
        subprocess.run([sys.executable, '-c', 'from imdb_lm.cli import main; main()', *args], cwd=work, stdout=log, stderr=log, check=True)
    (work/f'{name}.minutes').write_text(f'{(time.time()-start)/60:.0f} {(children_cpu()-before)/60:.0f}')


def children_cpu():
    import resource
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return use.ru_utime + use.ru_stime


def said(work, name, start):
    "The line of a log that begins with `start`"
    return next((line for line in (work/f'{name}.log').read_text().splitlines() if line.startswith(start)), '')


def report(work, imdb_counts):
    before = float(said(work, 'tuned', 'before training').split()[-1])
    tables = {name: pd.read_csv(work/name/'history.csv') for name in COMMANDS}
    stage = lambda name, s: tables[name].query('stage == @s').perplexity.iloc[-1]
    judged = {name: evaluate_lm(load_lm(work/name), held_out_texts(work/'tune_reviews')) for name in COMMANDS}
    out = [f'# A real run on real reviews\n\n{machine()} {imdb_counts}. Made by `python benchmarks/real_run.py`, which runs\n']
    for name, command in COMMANDS.items():
        wall, busy = (work/f'{name}.minutes').read_text().split()
        out += [f'    {command}    # {wall} minutes, {busy} minutes of CPU']
    out += ['\nPerplexity on the same held-out tenth, in one vocabulary (fastai\'s figure, the reviews as one stream):\n',
            '| | before | after stage one | after stage two |', '|---|---|---|---|',
            f'| fine-tuned from the base | {before:.1f} | {stage("tuned", 1):.1f} | {stage("tuned", 2):.1f} |',
            f'| without pretraining | {vocab_size(work):,} (blind) | {stage("scratch", 1):.1f} | {stage("scratch", 2):.1f} |',
            '\nEach review read on its own from its beginning (`imdb_lm evaluate`); the base has its own vocabulary, so its row is not comparable:\n',
            '| | perplexity | accuracy | unknown |', '|---|---|---|---|']
    out += [f'| {name} | {r["perplexity"]:.1f} | {r["accuracy"]:.3f} | {r["unknown"]:.3f} |' for name, r in judged.items()]
    for name, t in tables.items():
        out += [f'\n## {name}\n', said(work, name, 'data:'), '  ', said(work, name, 'size:'), '\n', markdown(t)]
    out += ['\n## Nine reviews by the fine-tuned model\n', 'Temperature 0.75, 70 words, seed 42.\n']
    for prompt, reviews in zip(PROMPTS, load_lm(work/'tuned').generate(PROMPTS, n=3, seed=42)):
        out += [f'**{prompt}**\n'] + ['> ' + ' '.join(r.split()) + '\n' for r in reviews]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text('\n'.join(out) + '\n', encoding='utf-8')


def vocab_size(work): return len(load_lm(work/'scratch').vocab)


def markdown(t):
    rows = [[f'{v:.3f}' if isinstance(v, float) else str(v) for v in row] for row in t.itertuples(index=False)]
    return '\n'.join('| ' + ' | '.join(r) + ' |' for r in [list(t.columns), ['---']*len(t.columns), *rows])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('work', type=Path)
    p.add_argument('--base', type=int, default=10_000, help='unlabelled reviews for the base')
    p.add_argument('--tune', type=int, default=5_000, help='labelled reviews to fine-tune on')
    p.add_argument('--imdb', type=Path, help="IMDb's folder; default: untar_imdb()")
    a = p.parse_args()
    imdb = a.imdb or untar_imdb()
    a.work.mkdir(parents=True, exist_ok=True)
    choose(imdb, ['unsup'], a.base, a.work/'base_reviews')
    choose(imdb, ['train', 'test'], a.tune, a.work/'tune_reviews')
    for name in COMMANDS: run(name, a.work)
    report(a.work, f'{a.base:,} reviews of unsup for the base, {a.tune:,} of train and test to fine-tune on')
    print(RESULT.read_text())


if __name__ == '__main__': main()
