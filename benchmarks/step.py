"""Where the time of a training step of the post's network goes: the last layer with its loss as stock has it, as this library
does in pieces of several sizes and as torch does since 2.13, the network below it, the optimizers, and the whole step, on a GPU also without what makes the
processor wait for it.

    python benchmarks/step.py [--bs 128] [--rounds 5] [--steps 100] [--pack FOLDER]

With a --pack of benchmarks/gpu.sh the steps are on IMDb's batches. Writes benchmarks/results/step.md.
"""
import argparse, sys, time, traceback
from pathlib import Path
from statistics import median

import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.fp16 import MixedPrecision
from fastai.learner import AvgSmoothLoss
from fastai.optimizer import Adam
from fastai.text.all import AWD_LSTM, awd_lstm_lm_split, get_language_model
from torch.nn import functional as F

import imdb_lm.engine as engine
from imdb_lm.learner import SIZES, lm_learner
from machine import machine
from train import loaders

RESULT = Path(__file__).parent/'results'/'step.md'
POST, VOCAB = SIZES['post'], 60_008
CUDA = torch.cuda.is_available()
DEVICE, LOW = ('cuda', torch.float16) if CUDA else ('cpu', torch.float32)
MILLION = 1_000_000


def sync():
    if CUDA: torch.cuda.synchronize()


def timed(part, rounds):
    "Medians in ms: of the whole, and of what the processor has to do before it may go on"
    part()
    whole, launch = [], []
    for _ in range(rounds):
        sync()
        start = time.perf_counter()
        part()
        launch.append(time.perf_counter() - start)
        sync()
        whole.append(time.perf_counter() - start)
    return median(whole)*1e3, median(launch)*1e3


def low(): return torch.autocast('cuda', LOW, enabled=CUDA)


def last_layer(rows, rounds, network):
    "Features come in, loss and all gradients go out; pieces as large as 'everything' are one"
    decoder = network[1].decoder
    w, b = decoder.weight, decoder.bias
    x = torch.randn(rows, w.shape[1], device=DEVICE, requires_grad=True)
    y = torch.randint(len(w), (rows,), device=DEVICE)

    def stock():
        with low(): logits = F.linear(x, w, b)
        F.cross_entropy(logits.float(), y).backward()

    def ours(piece):
        engine.PIECE = engine.GPU_PIECE = piece
        with low(): loss, _ = engine.linear_cross_entropy(x, w, b, y)
        loss.backward()
    usual = engine.PIECE, engine.GPU_PIECE, engine.MOST_ROWS
    engine.MOST_ROWS = rows
    res = {'last layer and loss, stock': timed(stock, rounds)}
    for piece in [o*MILLION for o in (4, 16, 32, 64, 128, 256)] + [rows*len(w)]:
        name = 'one piece' if piece == rows*len(w) else f'pieces of {piece//MILLION} M logits'
        res[f'the same, ours, {name}{", the default" if piece == usual[CUDA] else ""}'] = timed(lambda: ours(piece), rounds)
    engine.PIECE, engine.GPU_PIECE, engine.MOST_ROWS = usual
    if hasattr(F, 'linear_cross_entropy'): # from torch 2.13 on
        def torchs(options): F.linear_cross_entropy(x.to(LOW), w.to(LOW), y, linear_bias=b.to(LOW), options=options).backward()
        for name,options in {'as it comes': {}, 'in the pieces of our default': dict(chunking_method=None, batch_chunk_size=usual[CUDA]//len(w))}.items():
            res[f"torch's `F.linear_cross_entropy`, {name}"] = timed(lambda: torchs(torch.nn.LinearCrossEntropyOptions(**options)), rounds)
    return res


def below(bs, seq_len, rounds, network):
    x = torch.randint(VOCAB, (bs, seq_len), device=DEVICE)

    def encode():
        with low(): h = network[0](x)
        h.float().pow(2).mean().backward()
    return {'embedding and LSTMs, there and back': timed(encode, rounds)}


def optimizers(rounds, network):
    groups = [[p for p in o if p.requires_grad] for o in awd_lstm_lm_split(network)] # as in a training
    for p in sum(groups, []): p.grad = torch.randn_like(p)
    return {f'optimizer, {name}': timed(cls(groups, lr=1e-9).step, rounds) for name,cls in (('stock', Adam), ('ours', engine.FusedAdam))}


class Lazy(AvgSmoothLoss):
    "The smoothed loss, left where it is: fastai brings it to the processor, which waits for that at every step"
    def accumulate(self, learn):
        self.count += 1
        loss = learn.loss.detach().mean()
        self.val = torch.lerp(loss, self.val.to(loss.device), self.beta)


class NoWait(MixedPrecision):
    "Mixed precision that does not ask the GPU whether gradients are finite"
    def before_step(self): self.scaler.unscale_(self)


class Watch(Callback):
    run_valid = False
    def __init__(self, warm, steps): self.warm, self.steps, self.done = warm, steps, 0
    def after_batch(self):
        self.done += 1
        if self.done == self.warm:
            sync()
            self.start = time.perf_counter()
        if self.done == self.warm + self.steps:
            sync()
            self.step = (time.perf_counter() - self.start)/self.steps*1e3
            raise CancelFitException


def fit(learn, warm, steps):
    watch = Watch(warm, steps)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 2e-3, cbs=watch)
    return watch.step


def whole_steps(dls, steps):
    "Our training step, and on a GPU what it takes where the processor waits less"
    make = lambda: lm_learner(dls, config=POST['config'], pretrained=False)
    ways = {'step, ours': make}
    if CUDA:
        def bf16(): return make().to_fp32().to_bf16()
        def lazy(learn):
            learn.recorder.smooth_loss = Lazy()
            return learn
        ways |= {'the same, the loss left on the GPU': lambda: lazy(make()), 'the same, and its scale, too': lambda: lazy(make().to_fp32().add_cb(NoWait(init_scale=1024.))),
                 'the same in bf16, with no scale to ask for': bf16, 'the same in bf16, the loss left on the GPU': lambda: lazy(bf16())}
    for name,way in ways.items(): yield name, fit(way(), 20 if CUDA else 1, steps)


def operations(dls, steps=5, most=16):
    "What keeps the device in some steps of ours: rows of a table, and the time of a step in all"
    learn, seen = lm_learner(dls, config=POST['config'], pretrained=False), torch.profiler.profile()

    class Between(Callback):
        "After the first step: an epoch begins by bringing its batches to the GPU"
        def after_batch(self):
            if self.iter not in (0, steps): return
            sync()
            if not self.iter: return seen.start()
            seen.stop()
            raise CancelFitException
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 2e-3, cbs=Between())
    time_of = lambda o: (o.self_device_time_total if CUDA else o.self_cpu_time_total)/1e3/steps
    found = sorted((o for o in seen.key_averages() if o.device_type.name.lower() == DEVICE), key=time_of, reverse=True)
    return [f'| `{o.key[:60]}` | {time_of(o):,.2f} | {o.count/steps:,.1f} |' for o in found[:most]], sum(map(time_of, found)), sum(o.count for o in found)/steps


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--bs', type=int, default=POST['bs'], help='rows of a batch')
    p.add_argument('--rounds', type=int, default=5, help='runs of each part alone, after one that is not timed')
    p.add_argument('--steps', type=int, default=100 if CUDA else 3, help='timed steps of the whole')
    p.add_argument('--pack', type=Path, help='IMDb, packed by benchmarks/gpu.sh')
    p.add_argument('--result', type=Path, default=RESULT, help='where the table goes')
    a = p.parse_args()
    seq_len = POST['seq_len']
    network = get_language_model(AWD_LSTM, VOCAB, config=POST['config'], drop_mult=0.3).to(DEVICE)
    network.reset() # its hidden states are no buffers: they stay where they were made
    dls = loaders(a.pack, a.bs, seq_len, POST['max_vocab'], False)
    where = f'{torch.cuda.get_device_name()}. {machine()}' if CUDA else machine()
    a.result.parent.mkdir(exist_ok=True)
    page = [f'# The parts of a training step\n\n{where} Made by `python benchmarks/step.py`.\n\nThe post\'s network at a vocabulary of {VOCAB:,}, a batch of {a.bs} x {seq_len} in {str(LOW).removeprefix("torch.")}; '
            f'parts alone, the median of {a.rounds} times, and whole steps, the mean of {a.steps}.\n\n| | ms | of which the processor is busy |\n|---|---|---|\n']

    def said(lines):
        page.extend(lines)
        a.result.write_text(''.join(page), encoding='utf-8')
    failed = [name for name,part in {
        'the last layer': lambda: said(_rows(last_layer(a.bs*seq_len, a.rounds, network))),
        'the network below': lambda: said(_rows(below(a.bs, seq_len, a.rounds, network))),
        'the optimizers': lambda: said(_rows(optimizers(a.rounds, network))),
        'the whole step': lambda: [said([f'| {name} | {step:,.1f} | |\n']) for name,step in whole_steps(dls, a.steps)],
        'the operations': lambda: said(_operations(dls))}.items() if not done(part)]
    print(a.result.read_text(encoding='utf-8'))
    if failed: sys.exit(f'failed: {", ".join(failed)}')


def done(part):
    "Whether it could be done: what one part lacks does not cost the others"
    try: part()
    except Exception: traceback.print_exc()
    else: return True


def _rows(parts): return [f'| {name} | {whole:,.1f} | {launch:,.1f} |\n' for name,(whole, launch) in parts.items()]


def _operations(dls):
    found, busy, count = operations(dls)
    return [f'\nThe operations of a step, {count:,.0f} in {busy:,.1f} ms, and those that take most of it:\n\n| | ms | times |\n|---|---|---|\n', *(f'{o}\n' for o in found)]


if __name__ == '__main__': main()
