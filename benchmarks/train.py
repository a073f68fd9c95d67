"""A training step: stock fastai and this library, on whatever device there is.

    python benchmarks/train.py [--steps 4] [--rounds 2] [--size post] [--bs 128] [--pack FOLDER]

Each runs in a process of its own, by turns, on the same batches: the post's network at a vocabulary of 60,008, or the laptop's
at 16,008. With a --pack of benchmarks/gpu.sh the batches are IMDb's, and stock reads them through its own loader, and once more
through this library's, which shows what of its time is the network's. Writes benchmarks/results/train.md.
"""
import argparse, json, platform, resource, subprocess, sys, time
from pathlib import Path
from statistics import median

from machine import cpu

RESULT = Path(__file__).parent/'results'/'train.md'
IMDB_TOKENS = 26_900_000 # of training, a tenth held out
BOTH = 'stock, batches from our loader'
KINDS = ['stock', BOTH, 'ours']


def loaders(pack, bs, seq_len, max_vocab, stock):
    "`DataLoaders` of the bundled corpus in as large a vocabulary as IMDb's; or of IMDb, stock's with fastai's own loader"
    from fastai.text.all import DataLoaders, LMDataLoader
    from imdb_lm.loader import lm_dls
    from imdb_lm.mini import mini_reviews
    if pack is None:
        words = lm_dls(mini_reviews(), bs=8).vocab
        vocab = words + [f'word{i}' for i in range(max_vocab + 8 - len(words))]
        return lm_dls(mini_reviews(), bs=bs, seq_len=seq_len, vocab=vocab)
    from gpu import packed_dls
    dls = packed_dls(pack, bs=bs, seq_len=seq_len, max_vocab=max_vocab)
    if not stock: return dls
    return DataLoaders(*(LMDataLoader(o.dataset, lens=o.docs.lengths.tolist(), bs=bs, seq_len=seq_len, shuffle=o is dls.train, drop_last=o is dls.train, device=dls.device) for o in dls))


def train(kind, size, bs, steps, pack):
    import torch
    from fastai.callback.core import Callback, CancelFitException
    from fastai.text.all import AWD_LSTM, language_model_learner
    from imdb_lm.learner import SIZES, lm_learner
    preset, cuda = SIZES[size], torch.cuda.is_available()
    bs = bs or preset['bs']
    dls = loaders(pack, bs, preset['seq_len'], preset['max_vocab'], kind == 'stock')
    if kind == 'ours': learn = lm_learner(dls, config=preset['config'], pretrained=False)
    else:
        learn = language_model_learner(dls, AWD_LSTM, config=preset['config'], drop_mult=0.3, pretrained=False)
        if cuda: learn.to_fp16()
    times = []

    if size == 'laptop' and not cuda: steps *= 10
    warm = 20 if cuda else 1
    class Watch(Callback):
        run_valid = False
        def after_batch(self):
            if cuda and len(times) in (warm - 1, warm + steps - 1): torch.cuda.synchronize()
            times.append(time.perf_counter())
            if len(times) == warm + steps: raise CancelFitException
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 2e-3, cbs=Watch())
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024
    step = (times[-1] - times[warm - 1])/steps if cuda else median(b - a for a,b in zip(times, times[1:])) # a GPU runs behind: only the whole can be timed
    flops = 6*sum(p.numel() for p in learn.model.parameters() if isinstance(p, torch.nn.Parameter))*bs*preset['seq_len']
    print('\n' + json.dumps(dict(rate=bs*preset['seq_len']/step, peak=peak/2**20, share=flops/step/limit(torch, cuda), device=torch.cuda.get_device_name() if cuda else cpu())))


def limit(torch, cuda):
    "Operations a second that a large product of matrices reaches here, in the precision of the training"
    n, times = (8192, 10) if cuda else (4096, 1) # a single small one is done before a GPU is asked whether it is
    a = torch.randn(n, n, **(dict(device='cuda', dtype=torch.float16) if cuda else {}))
    a @ a
    best = 0
    for _ in range(3):
        if cuda: torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(times): a @ a
        if cuda: torch.cuda.synchronize()
        best = max(best, times*2*n**3/(time.perf_counter() - start))
    return best


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--steps', type=int, default=4, help='timed steps of each process, after one that is not, on a GPU 20; the laptop network takes ten times as many on a CPU')
    p.add_argument('--rounds', type=int, default=2, help='processes of each kind')
    p.add_argument('--size', choices=['post', 'laptop'], nargs='+', default=['laptop', 'post'])
    p.add_argument('--bs', type=int, help='rows of a batch; default: 128 for post, 16 for laptop')
    p.add_argument('--pack', type=Path, help='IMDb, packed by benchmarks/gpu.sh')
    p.add_argument('--result', type=Path, default=RESULT, help='where the table goes')
    p.add_argument('--kind', choices=KINDS, help='train one of them, in the first --size, and print its figures')
    a = p.parse_args()
    if a.kind: return train(a.kind, a.size[0], a.bs, a.steps, a.pack)
    from imdb_lm.learner import SIZES
    rows = []
    for size in a.size:
        bs, seen = a.bs or SIZES[size]['bs'], {kind: [] for kind in KINDS if a.pack or kind != BOTH}
        for kind in [*seen]*a.rounds:
            args = [sys.executable, __file__, '--kind', kind, '--size', size, '--bs', str(bs), '--steps', str(a.steps),
                    *(['--pack', str(a.pack)] if a.pack else [])]
            done = subprocess.run(args, stdout=subprocess.PIPE, text=True)
            if done.returncode: print(f'{size}, {kind}: failed, and has no part in the figures', file=sys.stderr)
            else:
                seen[kind].append(json.loads(done.stdout.splitlines()[-1]))
                print(size, kind, seen[kind][-1], file=sys.stderr, flush=True)
        if not (seen['stock'] and seen['ours']): sys.exit(f'{size}: nothing to compare')
        value = lambda kind, key: median(o[key] for o in seen[kind])
        for kind in filter(seen.get, seen):
            rows.append(f'| {size} | {bs} | {kind} | {value(kind, "rate"):,.0f} | {value(kind, "peak"):,.0f} | {IMDB_TOKENS/value(kind, "rate")/60:,.0f} | {value(kind, "share"):.0%} |')
        rows.append(f'| {size} | {bs} | ours / stock | {value("ours", "rate")/value("stock", "rate"):.2f} | {value("ours", "peak")/value("stock", "peak"):.2f} | | |')
        most = f'With the {size} network whatever computes the same in the same precision is at most {1/value("stock", "share"):.2f} times as fast as stock: then all is products of matrices, at their limit.'
        a.result.parent.mkdir(exist_ok=True)
        a.result.write_text(f'# A training step\n\nMachine: {seen["ours"][0]["device"]}, Python {platform.python_version()}. Made by `python benchmarks/train.py`. The goals for the post\'s network: on two CPU cores 1.5 times the tokens a second '
                            'in a third of the memory, on a GPU 5 times.\n\n| network | bs | | tokens/s | peak MB | minutes an epoch of IMDb | share of the limit of matrix products |\n|---|---|---|---|---|---|---|\n' + '\n'.join(rows) + f'\n\n{most}\n')
    print(a.result.read_text())


if __name__ == '__main__': main()
