"""Several processes: they train as one would, go on with each other's checkpoints, end together, and share work."""
import json
import multiprocessing
import os
import queue
import signal
import socket
import subprocess
import sys
import time
import traceback
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.text.all import set_seed
from fastai.text.models.awdlstm import awd_lstm_lm_config

import imdb_lm.training  # noqa: F401 -- lends learners their fit_two_stage
from imdb_lm.checkpoint import checkpoints, read_checkpoint
from imdb_lm.cli import main
from imdb_lm.evaluate import evaluate_lm
from imdb_lm.learner import lm_learner
from imdb_lm.loader import held_out_texts, lm_dls
from imdb_lm.model import load_lm
from imdb_lm.reviews import write_reviews
from imdb_lm.processes import from_all, from_first, greatest, my_share, n_processes, rank, together

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='processes are forked here')
SIZES = {**awd_lstm_lm_config, 'emb_sz': 8, 'n_hid': 12, 'n_layers': 2}
RECIPE = dict(frozen_epochs=1, frozen_lr=1e-2, epochs=2, lr=5e-3)


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def launched(n, f, limit=60):
    "What `f` returns in each of `n` processes that know of each other; None where one dies"
    fork = multiprocessing.get_context('fork')
    answers, port, res, end = fork.Queue(), free_port(), {}, time.monotonic() + limit
    def run(i):
        os.environ.update(RANK=str(i), LOCAL_RANK=str(i), WORLD_SIZE=str(n), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        torch.set_num_threads(1)
        try: answers.put((i, f()))
        except BaseException: answers.put((i, traceback.format_exc()))
    processes = [fork.Process(target=run, args=(i,)) for i in range(n)]
    for p in processes: p.start()
    while (alive := any(p.is_alive() for p in processes)) or not answers.empty():
        try: res.update([answers.get(timeout=.1)])
        except queue.Empty: pass
        if alive and time.monotonic() > end:
            for p in processes: p.kill()
            pytest.fail(f'{n} processes took more than {limit} s')
    return [res.get(i) for i in range(n)]


def test_processes_share_and_tell():
    def f():
        before = n_processes()
        with together(): return before, rank(), n_processes(), list(my_share(10)), from_all(rank()), from_first(rank()), greatest((rank(), -rank()))
    assert launched(3, f) == [(1, i, 3, share, [0, 1, 2], 0, [2, 0]) for i,share in enumerate(([0, 1, 2], [3, 4, 5], [6, 7, 8, 9]))]


# ---- training

def learner(reviews, bs, drop_mult=0., seed=1):
    "What happens to be random in the second process and is not to count, is another"
    set_seed(seed + int(os.environ.get('RANK', 0)))
    return lm_learner(lm_dls(reviews, bs=bs, seq_len=60, min_freq=2), config=SIZES, pretrained=False, drop_mult=drop_mult)


def fit(learn, folder=None, cbs=(), **kwargs):
    with learn.no_bar(), learn.no_logging(): learn.fit_two_stage(**{**RECIPE, **kwargs}, checkpoint=folder, cbs=list(cbs))
    return learn


def outcome(learn):
    "What can be sent to another process"
    return SimpleNamespace(weights={k: v.numpy().copy() for k,v in learn.model.state_dict().items()}, curve=learn.curve, history=learn.history.drop(columns='time'))


def check(a, b, tol=2e-5):
    for k in a.weights: np.testing.assert_allclose(a.weights[k], b.weights[k], rtol=0, atol=10*tol)
    for x,y in ((a.curve, b.curve), (a.history, b.history)): pd.testing.assert_frame_equal(x, y, check_exact=not tol, rtol=tol, atol=0)


class At(Callback):
    "Does something in the training batch `step` of stage two, after all else"
    order = 200
    def __init__(self, step, do): self.step, self.do = step, do
    def after_batch(self):
        if self.training and self.learn.run_log.stage == 2 and self.train_iter == self.step: self.do()


@pytest.fixture(scope='module')
def one(reviews):
    "What one process comes to, with as many rows as two have together"
    return outcome(fit(learner(reviews, 8)))


def test_two_train_as_one(reviews, one):
    a, b = launched(2, lambda: outcome(fit(learner(reviews, 4))))
    check(a, one)
    check(a, b, 0)


def test_within_fastai_s_own_context(reviews):
    def f():
        learn = learner(reviews, 4)
        with learn.no_bar(), learn.no_logging(), learn.distrib_ctx(sync_bn=False): learn.fit_one_cycle(1, 1e-2)
        return learn.recorder.losses[-1].item(), learn.validate()[0]
    alone = learner(reviews, 8)
    with alone.no_bar(), alone.no_logging(): alone.fit_one_cycle(1, 1e-2)
    expected = alone.recorder.losses[-1].item(), alone.validate()[0]
    for o in launched(2, f): np.testing.assert_allclose(o, expected, rtol=2e-5)


def test_not_with_any_loader(reviews):
    def f():
        dls = lm_dls(reviews, bs=4, seq_len=30)
        learner(reviews, 4).dls # they have met
        learn = imdb_lm.training.LMLearner(dls, torch.nn.Linear(1, 1), loss_func=lambda: 0)
        with pytest.raises(ValueError, match='need a learner of lm_learner'): learn.fit_two_stage()
    assert launched(2, f) == [None, None]


def broken_off(n, reviews, folder, **kwargs):
    "Train in `n` processes until the last one is told to stop"
    def f():
        def terminate():
            if rank() == n - 1: os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit, match='143'): fit(learner(reviews, 8//n, **kwargs), folder, [At(9, terminate)])
        return [read_checkpoint(o)[1]['place'] for o in checkpoints(folder)]
    res = launched(n, f)
    assert res == [res[0]]*n and res[0][0] in ([2, 0, 9], [2, 0, 10]) and res[0][1] == [2, 0, 0], res


@pytest.mark.parametrize('n,then', [(2, 1), (1, 2)])
def test_as_many_others_go_on(reviews, one, tmp_path, n, then):
    broken_off(n, reviews, tmp_path)
    for o in launched(then, lambda: outcome(fit(learner(reviews, 8//then), tmp_path))): check(o, one)


def test_two_go_on_to_the_same_last_bit(reviews, tmp_path):
    "With dropout, whose masks are each process's own"
    whole = launched(2, lambda: outcome(fit(learner(reviews, 4, drop_mult=1.))))
    broken_off(2, reviews, tmp_path, drop_mult=1.)
    tensors, _ = read_checkpoint(checkpoints(tmp_path)[0])
    assert not torch.equal(tensors['0.random.torch'], tensors['1.random.torch'])
    for a,b in zip(launched(2, lambda: outcome(fit(learner(reviews, 4, drop_mult=1., seed=7), tmp_path))), whole): check(a, b, 0)


def test_other_batches_are_refused(reviews, tmp_path):
    fit(learner(reviews, 4), tmp_path, frozen_epochs=0, epochs=1)
    def f():
        with pytest.raises(ValueError, match='other bs: 4 there, 8 now'): fit(learner(reviews, 4), tmp_path, frozen_epochs=0, epochs=1)
    res = launched(2, lambda: f() if not int(os.environ['RANK']) else learner(reviews, 4) and None)
    assert res == [None, None]


# ---- started as users do

DIE = '''
import os, signal
from fastai.callback.core import Callback
from test_distributed import fit, learner
class Die(Callback):
    def after_batch(self):
        if self.iter == 3 and os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)
fit(learner({!r}, 4), cbs=[Die()])
print('never')
'''

@pytest.mark.slow
def test_torchrun_tells_who_died(tmp_path, corpus, monkeypatch):
    (tmp_path/'run.py').write_text(DIE.format(str(corpus)))
    monkeypatch.setenv('PYTHONPATH', os.path.dirname(__file__))
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_addr', '127.0.0.1', '--master_port', str(free_port()), tmp_path/'run.py']
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and 'never' not in done.stdout
    assert 'Signal 9 (SIGKILL)' in done.stderr and 'rank      : 1' in done.stderr


def test_one_dies_and_the_other_ends(reviews):
    def die():
        if rank() == 1: os.kill(os.getpid(), signal.SIGKILL)
    other, dead = launched(2, lambda: fit(learner(reviews, 4), cbs=[At(3, die)]) and 'never')
    assert dead is None and 'RuntimeError' in other and 'by peer' in other


def command_line(tmp_path, *args):
    "What each of two processes prints"
    def f():
        sys.argv[1:] = map(str, args)
        with open(tmp_path/f'out{os.environ["RANK"]}', 'w') as sys.stdout, pytest.raises(SystemExit, match='^0$'): main()
        return (tmp_path/f'out{os.environ["RANK"]}').read_text()
    return launched(2, f)


def test_the_command_line(tmp_path, corpus, model_folder):
    out, none = command_line(tmp_path, 'train', '--data', corpus, '--out', tmp_path/'model', '--frozen-epochs', 0, '--epochs', 1, '--bs', 32, '--pretrained', model_folder)
    assert out.count('The model is in') == 1 and 'batches of 64 x 48' in out and (tmp_path/'model'/'history.csv').exists(), out
    assert none == ''
    out, none = command_line(tmp_path, 'evaluate', tmp_path/'model', '--data', corpus, '--json')
    figures = evaluate_lm(load_lm(tmp_path/'model'), held_out_texts(corpus))
    assert json.loads(out) == pytest.approx(figures) and none == ''
    out, none = command_line(tmp_path, 'generate', 'The movie', '--model', tmp_path/'model', '--n', 4, '--out', tmp_path/'reviews.jsonl', '--seed', 1)
    assert len((tmp_path/'reviews.jsonl').read_text().splitlines()) == 4
    out, none = command_line(tmp_path, 'generate', 'The movie', '--model', tmp_path/'model')
    assert out and not none


# ---- work that is shared

def test_reviews_are_shared(lm, tmp_path):
    prompts, how = ['The movie', '', 'a "good" film'], dict(n=3, n_words=9, seed=3)
    whole = write_reviews(lm, tmp_path/'one.jsonl', prompts, 'a1', **how).read_bytes()
    def f(name, **kwargs):
        with together(): return write_reviews(lm, tmp_path/name, prompts, 'a1', **{**how, **kwargs}).read_bytes()
    assert launched(2, lambda: f('two.jsonl')) == [whole]*2
    assert launched(11, lambda: f('eleven.jsonl')) == [whole]*11
    lines = whole.splitlines(True)
    (tmp_path/'half.jsonl').write_bytes(b''.join(lines[:3]) + lines[3][:20])
    (tmp_path/'half.jsonl.part-6-9').write_bytes(lines[6] + lines[7][:9])
    (tmp_path/'half.jsonl.part-4-9').write_bytes(b'of another number of processes')
    assert launched(2, lambda: f('half.jsonl', resume=True, seed=None)) == [whole]*2
    (tmp_path/'new.jsonl.part-0-4').write_bytes(lines[5])
    assert launched(2, lambda: f('new.jsonl')) == [whole]*2
    assert sorted(o.name for o in tmp_path.iterdir()) == sorted(f'{o}.jsonl' for o in ('one', 'two', 'eleven', 'half', 'new'))


def test_judging_is_shared(lm, reviews):
    def f():
        with together(): return evaluate_lm(lm, reviews, bs=5, seq_len=20), evaluate_lm(lm, reviews[:1], bs=1)
    alone = f()
    for res in launched(3, f):
        for a,b in zip(res, alone):
            assert a.keys() == b.keys()
            np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-6)
