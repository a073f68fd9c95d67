"""What fits in memory: found by trying, said when it runs out, and made up for by adding up gradients."""
import subprocess
import sys
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.training import GradientAccumulation
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.optimizer import SGD, OptimWrapper
from fastai.text.all import set_seed
from fastai.text.models.awdlstm import awd_lstm_lm_config

import imdb_lm.training  # noqa: F401 -- lends learners their fit_two_stage
from imdb_lm import memory
from imdb_lm.learner import lm_learner
from imdb_lm.loader import lm_dls
from imdb_lm.memory import free_memory, largest_bs, memory_explained, out_of_memory, split_batches

SIZES = {**awd_lstm_lm_config, 'emb_sz': 8, 'n_hid': 12, 'n_layers': 2}
OUT = [torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.20 GiB'), MemoryError(),
       RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12 (Cannot allocate memory)"),
       RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'), RuntimeError('could not create a primitive')]


pytestmark = pytest.mark.usefixtures('one_thread')


def learner(reviews, bs=8, **kwargs):
    set_seed(1)
    return lm_learner(lm_dls(reviews, bs=bs, seq_len=30, min_freq=2), **{**dict(config=SIZES, pretrained=False), **kwargs})


def fit(learn, **kwargs):
    with learn.no_bar(), learn.no_logging(): learn.fit_two_stage(**{**dict(frozen_epochs=1, frozen_lr=1e-2, epochs=1, lr=5e-3), **kwargs})
    return {k: v.clone() for k,v in learn.model.state_dict().items()}


def memory_for(learn, rows, error=OUT[0]):
    "As if there were memory for `rows` rows"
    def narrow(module, inputs):
        if len(inputs[0]) > rows: raise error
    return learn.model.register_forward_pre_hook(narrow)


def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---- what fits

@pytest.mark.parametrize('bs,rows,fits', [(8, 8, 8), (8, 7, 4), (8, 1, 1), (9, 8, 3), (7, 6, 1)])
def test_the_largest_part_that_fits(reviews, bs, rows, fits):
    learn = learner(reviews, bs)
    memory_for(learn, rows)
    assert largest_bs(learn) == fits and learn.dls.bs == bs


def test_nothing_fits(reviews):
    learn = learner(reviews)
    memory_for(learn, 0)
    with pytest.raises(MemoryError, match='there is not enough memory for one row of 30 tokens: lower seq_len'): largest_bs(learn)


def test_a_classifier_is_not_asked(reviews):
    "Its batches are as long as their longest text, and its batch norm wants two rows"
    with pytest.raises(TypeError, match='largest_bs is for language models'): largest_bs(object())


def test_other_errors_stay_themselves(reviews):
    learn = learner(reviews)
    memory_for(learn, 0, RuntimeError('shapes cannot be multiplied'))
    with pytest.raises(RuntimeError, match='shapes'): largest_bs(learn)
    with pytest.raises(RuntimeError, match='shapes'): fit(learn)


@pytest.mark.parametrize('pretrained', [False, True])
@pytest.mark.parametrize('rows', [8, 2])
def test_asking_changes_nothing(reviews, model_folder, pretrained, rows):
    new = lambda: learner(reviews, **(dict(pretrained=model_folder, config=None) if pretrained else {}))
    want = fit(new())
    learn = new()
    hook = memory_for(learn, rows)
    weights, frozen = deepcopy(learn.model.state_dict()), [p.requires_grad for p in learn.model.parameters()]
    assert all(frozen) != pretrained
    before, rand = (learn.opt, vars(learn.recorder).copy(), list(learn.cbs), learn.dls, learn.model.training), torch.get_rng_state()
    assert largest_bs(learn) == rows
    assert before == (learn.opt, vars(learn.recorder), list(learn.cbs), learn.dls, learn.model.training) and torch.equal(rand, torch.get_rng_state())
    assert same(learn.model.state_dict(), weights) and [p.requires_grad for p in learn.model.parameters()] == frozen
    assert all(p.grad is None for p in learn.model.parameters()) and all(o.learn is learn for o in learn.cbs)
    hook.remove()
    assert same(fit(learn), want)


def test_asking_a_learner_that_has_trained(reviews):
    learn = learner(reviews)
    fit(learn)
    weights, state, losses = deepcopy(learn.model.state_dict()), deepcopy(learn.opt.state_dict()), list(learn.recorder.losses)
    assert largest_bs(learn) == 8
    assert same(learn.model.state_dict(), weights) and learn.recorder.losses == losses and len(learn.history) == 2
    for a,b in zip(state['state'], learn.opt.state_dict()['state']): assert a.keys() == b.keys() and all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a)


def test_asking_a_learner_with_an_optimizer_that_is_made(reviews):
    "The trial has to use it, and leaves its averages and its weight decay as they were"
    learn = learner(reviews)
    learn.opt_func = OptimWrapper([p for p in learn.model.parameters() if isinstance(p, torch.nn.Parameter)], torch.optim.AdamW, lr=.1, weight_decay=.1)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    before = deepcopy(learn.opt_func.state_dict())
    assert largest_bs(learn) == 8
    torch.testing.assert_close(learn.opt_func.state_dict(), before, rtol=0, atol=0)


def test_the_whole_network_is_tried(reviews, model_folder):
    "Stage two needs more than the frozen stage one, and the optimizer its averages"
    learn, seen = learner(reviews, pretrained=model_folder, config=None), []
    learn.model.register_forward_pre_hook(lambda module, inputs: seen.append(all(p.requires_grad for p in module.parameters())))
    largest_bs(learn)
    assert seen and all(seen)


# ---- measured on a CPU

@pytest.fixture
def machine(tmp_path, monkeypatch):
    "A machine whose files say what a test wants"
    (tmp_path/'self').mkdir()
    def say(free, rss=1000, **group):
        (tmp_path/'meminfo').write_text(f'MemTotal:       99999 kB\nMemAvailable:   {free} kB\n')
        (tmp_path/'self'/'status').write_text(f'Name:\tpython\nVmRSS:\t    {rss} kB\n')
        for k,v in group.items(): (tmp_path/k.replace('_', '.')).write_text(v)
    monkeypatch.setattr(memory, 'PROC', tmp_path)
    monkeypatch.setattr(memory, 'CGROUP', tmp_path)
    return say


def test_free_memory(machine):
    machine(5000)
    assert free_memory() == 5000*1024
    machine(5000, memory_max='max\n', memory_current='100\n', memory_stat='file 7\ninactive_file 5\n')
    assert free_memory() == 5000*1024
    machine(5000, memory_max='1000\n', memory_current='100\n', memory_stat='file 7\ninactive_file 5\n')
    assert free_memory() == 905


@pytest.mark.parametrize('free,room', [(1000, 4 + 860/10), (110, 4 + 59/10), (10, 2)])
def test_a_line_through_two_trials(machine, monkeypatch, free, room):
    "1040 kB with 4 rows, 10 kB more for each: of what is free nine tenths are taken"
    machine(free)
    monkeypatch.setattr(memory, '_peak', lambda learn, bs: 1024*(1000 + 10*bs))
    assert memory._room(None, 16) == pytest.approx(room) # of a trial that was taken the rows are there


def test_what_does_not_fit_is_not_even_tried(reviews, machine, monkeypatch):
    learn, seen = learner(reviews), []
    learn.model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    machine(60)
    monkeypatch.setattr(memory, '_peak', lambda learn, bs: 1024*(1000 + 10*bs))
    assert largest_bs(learn) == 4 and set(seen) == {4}


def test_a_small_trial_that_fails(reviews):
    learn = learner(reviews, 32)
    memory_for(learn, 3)
    assert memory._room(learn, 32) == 3 and largest_bs(learn) == 2


def test_where_nobody_tells(reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, 'PROC', tmp_path)
    learn = learner(reviews)
    memory_for(learn, 5)
    assert memory._room(learn, 8) == float('inf') and largest_bs(learn) == 4


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='memory is measured on Linux only')
def test_the_highest_memory(reviews, monkeypatch):
    "A megabyte a row is seen, and what was held before is not"
    torch.ones(500_000_000, dtype=torch.uint8)
    monkeypatch.setattr(memory, '_take_steps', lambda learn, bs: torch.ones(bs*1_000_000, dtype=torch.uint8))
    learn = learner(reviews)
    least, more = (memory._peak(learn, n) for n in (100, 300))
    assert (more - least)/200 == pytest.approx(1_000_000, rel=0.1)


# ---- fewer rows, the same recipe

class FromNothing(Callback):
    "Each batch by itself"
    def before_batch(self): self.model.reset()


def same_rows(reviews, cut, opt_func=SGD, **kwargs):
    "A learner without dropout, on four batches of eight rows that are cut into `cut` each"
    learn = learner(reviews, drop_mult=0, opt_func=opt_func, **kwargs)
    learn.dls.train.rng.seed(0)
    whole = [b for b,_ in zip(learn.dls.valid, range(4))]
    parts = [(x[i:i + 8//cut], y[i:i + 8//cut]) for x,y in whole for i in range(0, 8, 8//cut)]
    learn.dls = DataLoaders(DataLoader(parts, bs=None), DataLoader(parts, bs=None))
    return learn


def weights_after(learn, *cbs):
    with learn.no_bar(), learn.no_logging(): learn.fit(2, 0.1, cbs=[FromNothing(), *cbs])
    return torch.cat([v.flatten() for v in learn.model.state_dict().values()])


@pytest.mark.parametrize('chunked', [True, False])
@pytest.mark.parametrize('cut,beta', [(2, 1.), (4, 1.), (8, 0.)]) # of a single row fastai leaves out what beta weighs
def test_parts_add_up_to_the_whole(reviews, cut, beta, chunked):
    "The same update, activation regularization and all"
    new = lambda cut: same_rows(reviews, cut, chunked=chunked, beta=beta)
    start = torch.cat([v.flatten() for v in new(1).model.state_dict().values()])
    whole, parts, alone = weights_after(new(1)), weights_after(new(cut), GradientAccumulation(8)), weights_after(new(cut))
    assert (whole - start).abs().max() > 1e-2
    torch.testing.assert_close(parts, whole, atol=1e-7, rtol=1e-5)
    assert (alone - whole).abs().max() > 1e-3


def test_the_weights_change_once_in_as_many_rows(reviews):
    learn, seen = split_batches(learner(reviews), 2), []
    class Watch(Callback):
        def after_batch(self):
            if self.training: seen.append(self.model[1].decoder.bias.detach().clone())
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2, cbs=Watch())
    changed = [i + 2 for i,(a,b) in enumerate(zip(seen, seen[1:])) if not torch.equal(a, b)]
    assert changed == list(range(4, len(seen) + 1, 4))[:len(changed)] and len(changed) >= len(seen)//4 - 1


def test_split_batches(reviews):
    learn = learner(reviews)
    dls = learn.dls
    assert split_batches(learn, 2) is learn and learn.dls is not dls and (dls.bs, dls.valid.bs) == (8, 8)
    assert (learn.dls.bs, learn.dls.valid.bs, learn.dls.train.seq_len, learn.dls.vocab) == (2, 2, 30, dls.vocab)
    assert len(learn.dls.train) == pytest.approx(4*len(dls.train), abs=4)
    split_batches(learn, 4)
    assert [o.n_acc for o in learn._grab_cbs(GradientAccumulation)] == [8] and learn.dls.bs == 4
    split_batches(learn, 8)
    assert not learn._grab_cbs(GradientAccumulation)


def test_the_whole_batch_changes_nothing(reviews):
    learn = learner(reviews)
    before = learn.dls, torch.get_rng_state()
    split_batches(learn, 8)
    assert learn.dls is before[0] and torch.equal(before[1], torch.get_rng_state())


def test_a_number_of_numpys(reviews):
    learn = split_batches(learner(reviews), np.int64(2))
    assert type(learn.dls.bs) is int and learn.dls.bs == 2


@pytest.mark.parametrize('bs', [0, -1, 3, 16, 2., '2', None, True, float('nan')])
def test_parts_that_cannot_be(reviews, bs):
    with pytest.raises(ValueError, match=r'bs=.* cannot be: it must divide 8 rows without a remainder, one of \[8, 4, 2, 1\]'): split_batches(learner(reviews), bs)


def test_a_stage_begins_with_no_gradients(reviews):
    "What the end of a stage cuts off does not reach into the next"
    learn = split_batches(learner(reviews), 1)
    left = []
    class Look(Callback):
        def before_batch(self):
            if self.training and self.train_iter == 0: left.append(all(p.grad is None or not p.grad.any() for p in self.model.parameters()))
        def after_fit(self): left.append(bool(self.learn.gradient_accumulation.count))
    fit(learn, cbs=Look())
    assert left[:3] == [True, True, True] # nothing, a rest, nothing


# ---- when it runs out

@pytest.mark.parametrize('error', OUT, ids=lambda e: str(e)[:20] or 'MemoryError')
def test_the_error_says_what_fits(reviews, error):
    learn = learner(reviews)
    memory_for(learn, 3, error)
    with pytest.raises(MemoryError, match=r'^out of memory with batches of 8 x 30: a trial of 2 steps shows that bs=2 fits; split_batches\(learn, 2\) .* same 8 rows, as .* --bs auto does$') as e: fit(learn)
    assert e.value.__suppress_context__


def test_the_same_learner_trains_on_with_what_fits(reviews):
    learn = learner(reviews)
    memory_for(learn, 3)
    with pytest.raises(MemoryError): fit(learn)
    fit(split_batches(learn, 2))
    memory_for(learn, 1)
    with pytest.raises(MemoryError, match='out of memory with batches of 2 x 30: .* bs=1 fits.* same 8 rows'): learn.fit_two_stage()
    assert len(learn.history) == 2 and len(learn.curve) == 2*len(learn.dls.train)


def test_the_error_where_nothing_fits(reviews):
    learn = learner(reviews)
    memory_for(learn, 0)
    with pytest.raises(MemoryError, match='^out of memory with batches of 8 x 30: there is not enough memory for one row of 30 tokens: lower seq_len'): fit(learn)


def test_the_error_of_a_single_row(reviews):
    learn = learner(reviews, 1)
    memory_for(learn, 0)
    with pytest.raises(MemoryError, match='not enough memory for one row'): fit(learn)


def test_out_in_mid_run_keeps_the_checkpoints(reviews, tmp_path):
    want = fit(learner(reviews))
    learn = learner(reviews)
    class Later(Callback):
        def before_batch(self):
            if self.training and self.learn.run_log.stage == 2 and self.iter == 3: memory_for(learn, 4)
    with pytest.raises(MemoryError, match=f'bs=4 fits.*; the checkpoints in {tmp_path}/run are kept, and with more memory the same call resumes'): fit(learn, checkpoint=tmp_path/'run', cbs=Later())
    assert same(fit(learner(reviews), checkpoint=tmp_path/'run'), want)


def test_what_the_training_held_is_let_go_first(reviews):
    "What a trial finds taken, it would find too little of"
    learn, held, tried = learner(reviews), [], []
    class Fail(Callback):
        def after_loss(self):
            if self.training and self.iter == 2: raise torch.OutOfMemoryError('CUDA out of memory')
    with pytest.MonkeyPatch.context() as m:
        m.setattr(memory, '_first_that_fits', lambda learn, sizes: tried.extend(sizes) or held.extend([learn.pred, learn.loss_grad, learn.rnn.out, learn.xb, *[p.grad for p in learn.model.parameters()]]) or 4)
        with pytest.raises(MemoryError): fit(learn, cbs=Fail())
    assert all(o is None or o == (None,) for o in held)
    assert tried == [4, 2, 1] # eight rows have just failed


def test_autocast_is_left(monkeypatch):
    "fastai enters it before a batch, and an error keeps it from leaving"
    inside = [True]
    class Autocast:
        def __exit__(self, *args): inside[0] = False
    half = MixedPrecision()
    half.autocast = Autocast()
    monkeypatch.setattr(torch, 'is_autocast_enabled', lambda kind: inside[0])
    memory._leave_autocast(SimpleNamespace(cbs=[half]))
    assert inside == [False]
    memory._leave_autocast(SimpleNamespace(cbs=[]), MixedPrecision())


def test_what_is_no_want_of_memory():
    for e in (RuntimeError('CUDA error: device-side assert triggered'), ValueError('out of memory'), KeyError('x')): assert not out_of_memory(e)
    with pytest.raises(ZeroDivisionError), memory_explained(None): 1/0


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='memory can be limited on Linux only')
def test_a_real_want_of_memory(tmp_path):
    "A process that may take 150 MB more than it has"
    code = '''
import resource, sys
import torch
torch.set_num_threads(1)
from fastai.text.all import awd_lstm_lm_config
from imdb_lm.all import lm_dls, lm_learner
from imdb_lm.memory import PROC, _field
from imdb_lm.mini import mini_texts
texts = [text for _,text in mini_texts(dict.fromkeys(['train/pos', 'train/neg', 'test/pos', 'test/neg', 'unsup'], 20))]
learn = lm_learner(lm_dls(texts, bs=512, seq_len=72, min_freq=1, n_workers=0), config={**awd_lstm_lm_config, 'emb_sz': 64, 'n_hid': 128, 'n_layers': 2}, pretrained=False)
learn.dls.one_batch()
limit = 1024*_field(PROC/'self'/'status', 'VmSize') + 150*2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with learn.no_bar(), learn.no_logging(): learn.fit_two_stage(0, epochs=1)
'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert 'MemoryError: out of memory with batches of 512 x ' in done.stderr.splitlines()[-1], done.stderr
    assert 'fits; split_batches' in done.stderr.splitlines()[-1]


def test_several_processes_do_not_try(reviews, monkeypatch):
    "One of them would wait for the others"
    learn = learner(reviews)
    monkeypatch.setattr(memory, 'num_distrib', lambda: 2)
    with pytest.raises(ValueError, match='what fits is tried in one process'): largest_bs(learn)
    with pytest.raises(MemoryError, match=r'^out of memory with batches of 8 x 30: lower bs; largest_bs tells in one process what fits; the checkpoints in run are kept'):
        with memory_explained(learn, 'run'): raise OUT[0]
