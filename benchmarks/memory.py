"""Memory while training on a CPU: stock fastai, this library without its `TrimMemory`, and with it.

    python benchmarks/memory.py [--steps 120]

Each trains the laptop's network at a vocabulary of 16,000 in a process of its own, on the same batches.
Writes benchmarks/results/memory.md.
"""
import argparse, subprocess, sys, time
from pathlib import Path

from fastai.callback.core import Callback, CancelFitException
from fastai.text.all import AWD_LSTM, language_model_learner

from imdb_lm.learner import SIZES, TrimMemory, lm_learner
from imdb_lm.loader import lm_dls
from imdb_lm.mini import mini_reviews
from machine import machine

RESULT = Path(__file__).parent/'results'/'memory.md'
KINDS = ['stock', 'without', 'ours']


def resident():
    "Megabytes that this process holds"
    return int(next(o for o in open('/proc/self/status') if o.startswith('VmRSS')).split()[1])//1024


class Watch(Callback):
    "Notes memory after 20 steps and after the last, and the CPU time of a step between them"
    def __init__(self, steps): self.steps, self.notes = steps, []
    def after_batch(self):
        if self.iter in (20, self.steps): self.notes.append((resident(), time.process_time()))
        if self.iter == self.steps: raise CancelFitException()


def train(kind, steps):
    words = lm_dls(mini_reviews(), bs=16).vocab
    dls = lm_dls(mini_reviews(), bs=16, seq_len=48, vocab=words + [f'word{i}' for i in range(16_000 - len(words))])
    config = SIZES['laptop']['config']
    learn = language_model_learner(dls, AWD_LSTM, config=config, pretrained=False) if kind == 'stock' else lm_learner(dls, config=config, pretrained=False)
    if kind == 'without': learn.remove_cb(TrimMemory)
    watch = Watch(steps)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=watch)
    (start, a), (end, b) = watch.notes
    print(start, end, (b-a)/(steps-20))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--steps', type=int, default=120, help='training steps of each, more than 20')
    p.add_argument('--kind', choices=KINDS, help='train one of them and print its figures')
    a = p.parse_args()
    if a.kind: return train(a.kind, a.steps)
    rows = []
    for kind in KINDS:
        out = subprocess.run([sys.executable, __file__, '--kind', kind, '--steps', str(a.steps)], check=True, capture_output=True, text=True).stdout
        start, end, step = map(float, out.split())
        rows.append(f'| {"ours without TrimMemory" if kind == "without" else kind} | {start:.0f} | {end:.0f} | {(end-start)/(a.steps-20):+.2f} | {step:.3f} |')
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(f'# Memory while training on a CPU\n\n{machine()} Made by `python benchmarks/memory.py --steps {a.steps}`.\n\n'
                      f'| | MB after 20 steps | MB after {a.steps} | MB a step | CPU seconds a step |\n|---|---|---|---|---|\n' + '\n'.join(rows) + '\n')
    print(RESULT.read_text())


if __name__ == '__main__': main()
