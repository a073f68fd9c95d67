"""A training of some hours that is killed again and again and goes on: the first round of the starter model.

    python benchmarks/resume.py WORK [--imdb FOLDER] [--kills 5] [--minutes 5 15]

WORK is the folder of benchmarks/starter.py. Its training is killed (SIGKILL) after a random number of minutes, started again, and
so on; the last start is left alone. The same command goes on when it was stopped itself. Writes benchmarks/results/resume.md and .png.
"""
import argparse, random, subprocess, sys, time
from pathlib import Path

import numpy as np
import torch
from machine import cpu

RESULT = Path(__file__).parent/'results'/'resume.md'


def child(work, imdb, run):
    "One start of the training, which notes each step's loss and the time of each checkpoint"
    import starter
    from imdb_lm.checkpoint import Checkpointer, RunLog
    log, begun = open(work/f'run-{run}.log', 'w', buffering=1), time.monotonic()
    step, write = RunLog.after_batch, Checkpointer.write
    def noted_step(self):
        step(self)
        if self.training: print('step', len(self.losses), float(self.losses[-1]).hex(), f'{time.monotonic() - begun:.2f}', file=log)
    def timed_write(self, note):
        start = time.monotonic()
        write(self, note)
        print('checkpoint', self.step, f'{time.monotonic() - start:.3f}', file=log)
    RunLog.after_batch, Checkpointer.write = noted_step, timed_write
    sys.argv = ['starter.py', str(work), '--imdb', str(imdb), '--rounds', '1']
    starter.main()


def train(work, imdb, kills, minutes):
    "Start, kill, and start again"
    while not (work/'round-1'/'history.csv').exists():
        run = len(list(work.glob('run-*.log')))
        with open(work/f'run-{run}.err', 'w') as err:
            p = subprocess.Popen([sys.executable, __file__, str(work), '--imdb', str(imdb), '--run', str(run)], stdout=subprocess.DEVNULL, stderr=err)
            try: p.wait(random.Random(run).uniform(*minutes)*60 if run < kills else None)
            except subprocess.TimeoutExpired: p.kill()
            finally: p.wait()
        if p.returncode not in (0, -9): sys.exit((work/f'run-{run}.err').read_text()[-2000:])


def read(log):
    "Of one start: steps, losses, seconds at each, and the checkpoints' seconds"
    lines = [o.split() for o in log.read_text().splitlines() if o.count(' ') >= 2]
    steps = [(int(o[1]), float.fromhex(o[2]), float(o[3])) for o in lines if o[0] == 'step' and len(o) == 4]
    return steps, [float(o[2]) for o in lines if o[0] == 'checkpoint']


def report(work):
    runs = [read(work/f'run-{i}.log') for i in range(len(list(work.glob('run-*.log'))))]
    curve, rows, twice, same = {}, [], 0, 0
    for i,(steps, _) in enumerate(runs):
        again = [(n, loss) for n,loss,_ in steps if n in curve]
        twice, same = twice + len(again), same + sum(curve[n] == loss for n,loss in again)
        curve |= {n: loss for n,loss,_ in steps}
        rows.append(f'| {i+1} | {steps[0][0]:,} | {steps[-1][0]:,} | {(steps[-1][2] - steps[0][2])/60:.0f} | {len(again)} |')
    kept = len(curve) == max(curve)
    writes = [o for _,c in runs for o in c]
    spent, total = sum(writes), sum(s[-1][2] - s[0][2] for s,_ in runs)
    history = (work/'round-1'/'history.csv').read_text().strip().replace(',', ' | ')
    RESULT.write_text(f'# A run that was killed {len(runs)-1} times\n\nMachine: {cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}. Made by `python benchmarks/resume.py`, '
        'which trains the first round of the starter model and kills it with SIGKILL.\n\n![The loss of each step](resume.png)\n\n'
        f'{len(curve):,} steps in {total/3600:.1f} hours, none missing: {kept}. Of {twice:,} steps that were done twice, {same:,} had the same loss to the last bit. '
        f'{len(writes)} checkpoints took {spent:.0f} s, {spent/total:.2%} of the time.\n\n'
        '| start | first step | last step | minutes | steps done again |\n|---|---|---|---|---|\n' + '\n'.join(rows) + f'\n\nIts history: {" -> ".join(history.splitlines())}\n')
    draw(curve, [s[0][0] for s,_ in runs[1:]])


def draw(curve, restarts):
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    losses = np.array([curve[n] for n in sorted(curve)])
    mean = np.convolve(losses, np.ones(50)/50, 'valid')
    fig, ax = plt.subplots(figsize=(8, 3.5), layout='constrained')
    ax.plot(losses, color='tab:blue', alpha=.2, lw=.5)
    ax.plot(np.arange(len(mean)) + 49, mean, color='tab:blue', label='loss, mean of 50 steps')
    for i,n in enumerate(restarts): ax.axvline(n, color='tab:red', lw=.8, label=None if i else 'went on from here after a kill')
    ax.set(xlabel='step', ylabel='loss', ylim=(mean.min() - .3, mean[:200].max()))
    ax.legend()
    fig.savefig(RESULT.with_suffix('.png'), dpi=110)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('work', type=Path)
    p.add_argument('--imdb', type=Path, help="IMDb's folder; default: untar_imdb()")
    p.add_argument('--kills', type=int, default=5)
    p.add_argument('--minutes', type=float, nargs=2, default=(5, 15), help='the least and the most between a start and a kill')
    p.add_argument('--run', type=int, help='be one start of the training')
    a = p.parse_args()
    if a.imdb is None:
        from imdb_lm.data import untar_imdb
        a.imdb = untar_imdb()
    if a.run is not None: return child(a.work, a.imdb, a.run)
    a.work.mkdir(parents=True, exist_ok=True)
    train(a.work, a.imdb, a.kills, a.minutes)
    report(a.work)
    print(RESULT.read_text())


if __name__ == '__main__': main()
