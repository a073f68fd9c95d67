"""Two stages of training, and what is seen of them."""
import re
import sys
import time
from itertools import cycle
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.training import GradientClip
from fastai.text.all import set_seed
from fastai.text.models.awdlstm import awd_lstm_lm_config

import imdb_lm.training  # noqa: F401 -- lends learners their fit_two_stage
from imdb_lm.engine import Chunked
from imdb_lm.learner import lm_learner, save_lm
from imdb_lm.loader import lm_dls
from imdb_lm.model import load_lm
from imdb_lm.training import _check_precision, fit_stages

SIZES = {**awd_lstm_lm_config, 'emb_sz': 8, 'n_hid': 12, 'n_layers': 2}


@pytest.fixture
def learn(reviews): return lm_learner(lm_dls(reviews, bs=4, seq_len=30, min_freq=2), config=SIZES, pretrained=False)


def test_the_bar_tells_speed_and_time(learn, capsys):
    learn.fit_two_stage(0, epochs=1)
    out = capsys.readouterr().out
    assert re.search(r'\d+\.\d{4}, [\d,]+ tokens/s, stage done in 00:\d\d', out)


def test_the_time_left_shrinks_to_nothing(learn, capsys):
    learn.fit_two_stage(1, epochs=2)
    left = [int(m)*60 + int(s) for m,s in re.findall(r'stage done in (\d\d):(\d\d)', capsys.readouterr().out)]
    assert left[-1] <= 1


def test_the_clock_may_jump(learn, capsys, monkeypatch):
    "Back and forth by years: the bar still tells what is left by a clock of its own"
    now, jumps = time.time, cycle((0, -1e9, 1e9))
    monkeypatch.setattr(time, 'time', lambda: now() + next(jumps))
    learn.fit_two_stage(0, epochs=1)
    assert set(re.findall(r'stage done in (-?\d+):', capsys.readouterr().out)) == {'00'}
    assert len(learn.history) == 1


def test_the_curve_has_every_step_of_both_stages(learn):
    with learn.no_bar(), learn.no_logging(): history = learn.fit_two_stage(1, 1e-2, 2, 1e-3)
    n = len(learn.dls.train)
    assert len(learn.curve) == 3*n and list(learn.curve) == ['loss', 'lr']
    assert learn.curve.loss[n:].tolist() == [float(o) for o in learn.recorder.losses]
    assert learn.curve.lr[:n].max() == pytest.approx(1e-2, rel=0.05) and learn.curve.lr[n:].max() == pytest.approx(1e-3, rel=0.05)
    assert learn.curve.loss[3*n - 1] == pytest.approx(history.train_loss.iloc[-1])


def test_the_picture(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit_two_stage(1, 1e-2, 2, 1e-3)
    losses, rates = learn.plot_two_stage().axes
    assert [len(o.get_xdata()) for o in losses.lines] == [3*len(learn.dls.train), 3]
    assert losses.lines[1].get_ydata().tolist() == learn.history.valid_loss.tolist()
    assert len(rates.lines[0].get_ydata()) == 3*len(learn.dls.train)


def test_a_recipe_with_numbers_of_others(learn, tmp_path):
    "numpy's and torch's, which JSON does not know; and nothing is left of the training before"
    with learn.no_bar(), learn.no_logging():
        learn.fit_two_stage(0, epochs=1, pct_start=np.float32(.5), cbs=[GradientClip(torch.tensor(.5)), Chunked()])
        assert load_lm(save_lm(learn, tmp_path/'model')).config['recipe'].items() >= dict(max_norm=.5, pct_start=.5, alpha=2.).items()
        fit_stages(learn, [(1, 1, 1e-3, None)], cbs=GradientClip)
        assert learn.recipe['max_norm'] == 1 and not {'pct_start', 'epochs'} & set(learn.recipe)


def test_what_ctrl_c_leaves_in_the_first_epoch(learn, tmp_path):
    "No figures of a training before, beside the rates of this one"
    class Stop(Callback):
        def before_batch(self):
            if self.iter == self.at: raise KeyboardInterrupt
    Stop.at = 0
    with learn.no_bar(), learn.no_logging():
        learn.fit_two_stage(0, epochs=1)
        with pytest.raises(KeyboardInterrupt): learn.fit_two_stage(0, epochs=2, cbs=Stop())
        assert len(learn.history) == learn.recipe['epochs'] == 1 # no step was done: it is what it was
        Stop.at = 2
        with pytest.raises(KeyboardInterrupt): learn.fit_two_stage(0, epochs=3, cbs=Stop())
    assert learn.history.empty and learn.curve.empty
    config = load_lm(save_lm(learn, tmp_path/'model')).config
    assert config['recipe']['epochs'] == 3 and config['metrics'] is None


def test_what_ctrl_c_leaves_can_be_drawn(learn):
    "The table and the curve of the epochs that were done, not those of a training before"
    class Stop(Callback):
        def before_batch(self):
            if self.training and self.epoch == 1 and self.iter == 2: raise KeyboardInterrupt
    with learn.no_bar(), learn.no_logging():
        learn.fit_two_stage(1, 1e-2, 2, 1e-3)
        with pytest.raises(KeyboardInterrupt): learn.fit_two_stage(0, epochs=3, cbs=Stop())
    n = len(learn.dls.train)
    assert len(learn.history) == 1 and learn.curve.loss.tolist() == [float(o) for o in learn.recorder.losses[:n]]
    assert learn.plot_two_stage().axes[0].lines[1].get_xdata().tolist() == [n - 1]


@pytest.mark.parametrize('train', [False, True])
def test_nothing_to_draw(learn, train):
    if train: learn.fit_two_stage(0, epochs=0)
    with pytest.raises(ValueError, match='^there is no training to draw: call learn.fit_two_stage first'): learn.plot_two_stage()


def test_days_are_told(learn, monkeypatch, capsys):
    "A clock by which each batch takes an hour"
    clock = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(time, 'perf_counter', lambda: next(clock))
    learn.fit_two_stage(0, epochs=2)
    left = [int(o) for o in re.findall(r'stage done in (\d+):00:00', capsys.readouterr().out)]
    assert left[0] == 2*len(learn.dls.train) - 1 > 24 and left == sorted(left, reverse=True)


def test_history_is_there_while_it_trains(learn):
    seen = []
    class Look(Callback):
        order = 90
        def after_epoch(self): seen.append(len(self.learn.history))
    with learn.no_bar(), learn.no_logging(): learn.fit_two_stage(1, 1e-2, 2, 1e-3, cbs=Look())
    assert seen == [1, 2, 3] and isinstance(learn.history, pd.DataFrame)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_loss_that_is_no_number_stops_the_training(learn, value):
    class Poison(Callback):
        def before_batch(self):
            if self.training and self.iter == 3: self.model[1].decoder.bias.data.fill_(value)
    with learn.no_bar(), learn.no_logging(), pytest.raises(FloatingPointError, match='the loss is (nan|inf) at batch 4 of'):
        learn.fit_two_stage(0, epochs=1, cbs=Poison())


def test_an_overflow_in_validation_is_shown_and_not_fatal(learn):
    class Poison(Callback):
        def after_loss(self):
            if not self.training: self.learn.loss = torch.tensor(float('inf'))
    with learn.no_bar(), learn.no_logging(): assert learn.fit_two_stage(0, epochs=1, cbs=Poison()).valid_loss.iloc[0] == float('inf')


# ---- half precision that is not there

@pytest.mark.parametrize('name', ['fp16', 'bf16'])
def test_half_precision_without_a_gpu(learn, name):
    match = f'^{name} needs an NVIDIA GPU, but the data are on the cpu: call learn.to_fp32'
    with pytest.raises(ValueError, match=match): learn.fit_two_stage(cbs=MixedPrecision(name))
    getattr(learn, f'to_{name}')()
    with pytest.raises(ValueError, match=match): learn.fit_two_stage()
    with learn.no_bar(), learn.no_logging(): assert len(learn.to_fp32().fit_two_stage(0, epochs=1)) == 1


@pytest.mark.parametrize('name,capability,fine', [('bf16', (7, 5), False), ('bf16', (8, 0), True), ('bf16', (9, 0), True), ('fp16', (7, 5), True)])
def test_half_precision_on_a_gpu(monkeypatch, name, capability, fine):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'Tesla T4')
    learn = SimpleNamespace(cbs=[MixedPrecision(name)], dls=SimpleNamespace(device=torch.device('cuda')))
    if fine: return _check_precision(learn, None)
    with pytest.raises(ValueError, match=r'^bf16 is not supported by Tesla T4: call learn.to_fp32\(\).to_fp16\(\)'): _check_precision(learn, None)


# ---- fastai's own tools

def weights(learn): return torch.cat([p.detach().flatten() for p in learn.model.parameters()])


@pytest.mark.parametrize('chunked', [True, False])
def test_the_learning_rate_finder(reviews, tmp_path, chunked):
    "It finds a rate, and leaves the learner as it was: what is trained after it comes out as if nobody had asked"
    def train(find):
        set_seed(1)
        learn = lm_learner(lm_dls(reviews, bs=4, seq_len=30, min_freq=2), config=SIZES, pretrained=False, chunked=chunked, path=tmp_path)
        with learn.no_bar(), learn.no_logging():
            if find:
                before = weights(learn)
                assert 1e-7 < learn.lr_find(num_it=40, show_plot=False).valley < 10
                assert torch.equal(weights(learn), before) and not learn.opt.state_dict()['state'][0].get('step')
            set_seed(2)
            learn.dls = lm_dls(reviews, bs=4, seq_len=30, min_freq=2) # not shuffled yet
            return learn, learn.fit_two_stage(1, 1e-2, 1, 1e-3)
    (a, history), (b, found) = train(False), train(True)
    assert torch.equal(weights(a), weights(b)) and history.drop(columns='time').equals(found.drop(columns='time')) and a.curve.equals(b.curve)
    assert len(b.recorder.losses) == len(b.dls.train) and not list(tmp_path.rglob('*.pth'))


def test_finding_a_rate_between_two_trainings(learn, tmp_path):
    learn.path = tmp_path
    with learn.no_bar(), learn.no_logging():
        learn.fit_two_stage(0, epochs=1)
        before, moments, history, curve = weights(learn), learn.opt.state_dict()['state'][0]['grad_avg'].clone(), learn.history, learn.curve
        learn.lr_find(num_it=10, show_plot=False)
    assert torch.equal(weights(learn), before) and torch.equal(learn.opt.state_dict()['state'][0]['grad_avg'], moments)
    assert learn.history is history and learn.curve is curve


def test_no_stage_leaves_what_is_noted(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit_two_stage(0, epochs=1)
    history, curve, recipe = learn.history, learn.curve, learn.recipe
    assert learn.fit_two_stage(0, epochs=0).empty
    assert learn.history is history and learn.curve is curve and learn.recipe is recipe


def test_no_times_where_they_are_not_wanted(learn, tmp_path):
    learn.recorder.add_time = False
    with learn.no_bar(), learn.no_logging(): history = learn.fit_two_stage(0, epochs=1, checkpoint=tmp_path/'run')
    assert not learn.recorder.add_time and 'time' not in history


def test_tensorboard(learn, tmp_path):
    pytest.importorskip('tensorboard', reason='tensorboard is not installed here: pip install tensorboard')
    from fastai.callback.tensorboard import TensorBoardCallback
    with learn.no_bar(), learn.no_logging(): learn.fit_two_stage(1, epochs=1, cbs=TensorBoardCallback(tmp_path, trace_model=False, log_preds=False))
    assert len(list(tmp_path.rglob('events.*'))) == 2


def test_what_tensorboard_is_told(learn, monkeypatch, tmp_path):
    "With a stand-in for TensorBoard, which need not be there: each stage is a run, and resumed ones are no different"
    told = []
    class SummaryWriter:
        def __init__(self, log_dir): told.append({})
        def add_scalar(self, name, value, step): told[-1].setdefault(name, []).append((step, float(value)))
        def close(self): pass
    for name in ('tensorboard', 'torch.utils.tensorboard'): monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules['torch.utils.tensorboard'].SummaryWriter = SummaryWriter
    monkeypatch.delitem(sys.modules, 'fastai.callback.tensorboard', raising=False)
    try: from fastai.callback.tensorboard import TensorBoardCallback
    except (ImportError, RuntimeError) as e: pytest.skip(f'fastai.callback.tensorboard cannot be imported here: {e}')
    with learn.no_bar(), learn.no_logging(): history = learn.fit_two_stage(1, 1e-2, 2, 1e-3, cbs=TensorBoardCallback(trace_model=False, log_preds=False))
    assert len(told) == 2 and [v for _,v in told[1]['valid_loss']] == history.valid_loss[1:].tolist()
    assert {'train_loss', 'lr_0', 'accuracy', 'perplexity'} <= set(told[0]) and len({s for s,_ in told[0]['train_loss']}) == len(learn.dls.train)
    class Stop(Callback):
        def after_batch(self):
            if self.epoch == 1: raise KeyboardInterrupt
    def fit(*cbs):
        with learn.no_bar(), learn.no_logging(): learn.fit_two_stage(0, epochs=2, checkpoint=tmp_path/'run', cbs=[TensorBoardCallback(trace_model=False, log_preds=False), *cbs])
    with pytest.raises(KeyboardInterrupt): fit(Stop())
    fit()
    assert [s for s,_ in told[-1]['valid_loss']] == [s for s,_ in told[1]['valid_loss']] and told[-1]['valid_loss'][0] == told[-2]['valid_loss'][0]
