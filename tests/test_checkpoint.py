"""Checkpoints: a run that was killed goes on to the same last bit, and what does not belong together is refused."""
import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.tracker import SaveModelCallback
from fastai.callback.training import GradientAccumulation, GradientClip, ShortEpochCallback
from fastai.learner import Metric
from fastai.losses import LabelSmoothingCrossEntropyFlat
from fastai.optimizer import OptimWrapper, ranger
from fastai.text.all import set_seed
from fastai.text.data import LMDataLoader
from fastai.text.models.awdlstm import awd_lstm_lm_config

import imdb_lm.training  # noqa: F401 -- lends learners their fit_two_stage
from imdb_lm import card, checkpoint
from imdb_lm.checkpoint import batch_size, checkpoints, describe_run, read_checkpoint, write_checkpoint
from imdb_lm.engine import BF16
from imdb_lm.learner import lm_learner
from imdb_lm.loader import lm_dls
from imdb_lm.memory import split_batches
from imdb_lm.model import load_lm

pytestmark = [pytest.mark.usefixtures('one_thread'), pytest.mark.skipif(not hasattr(os, 'fork'), reason='training processes are forked here')]
SIZES = {**awd_lstm_lm_config, 'emb_sz': 8, 'n_hid': 12, 'n_layers': 2}
RECIPE = dict(frozen_epochs=1, frozen_lr=1e-2, epochs=2, lr=5e-3)


class At(Callback):
    "Does something in the training batch `step` of `stage`, after all else"
    order = 200
    def __init__(self, step, do, stage=2): self.step, self.do, self.stage = step, do, stage
    def after_batch(self):
        if self.training and self.learn.run_log.stage == self.stage and self.train_iter == self.step: self.do()


def learner(reviews, seed=1, **kwargs):
    set_seed(seed)
    dls = lm_dls(reviews, **{**dict(bs=4, seq_len=70, min_freq=2), **{k: kwargs.pop(k) for k in list(kwargs) if k in ('bs', 'seq_len', 'valid_pct', 'min_freq', 'seed', 'backwards')}})
    return lm_learner(dls, **{**dict(config=SIZES, pretrained=False), **kwargs})


def fit(learn, folder=None, cbs=(), **kwargs):
    with learn.no_bar(), learn.no_logging(): learn.fit_two_stage(**{**RECIPE, **kwargs}, checkpoint=folder, cbs=list(cbs))
    return learn


def outcome(learn):
    return SimpleNamespace(weights={k: v.clone() for k,v in learn.model.state_dict().items()}, curve=learn.curve, history=learn.history.drop(columns='time'))


def result(learn):
    "The outcome, and what the last stage leaves in the optimizer and in the recorder"
    return SimpleNamespace(**vars(outcome(learn)), moments=[dict(o) for o in learn.opt.state_dict()['state']], values=[list(o) for o in learn.recorder.values],
                           losses=[float(o) for o in learn.recorder.losses], lrs=learn.recorder.lrs, hps=learn.recorder.hps)


@pytest.fixture(scope='module', autouse=True)
def cards_without_reviews():
    "Those take longer to write than an epoch here"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(card, 'card_samples', lambda lm, name: [])
        yield


@pytest.fixture(scope='module')
def alone(reviews):
    "The run that nobody disturbed"
    return result(fit(learner(reviews)))


def same(a, b):
    assert a.weights.keys() == b.weights.keys() and all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)
    pd.testing.assert_frame_equal(a.curve, b.curve, check_exact=True)
    pd.testing.assert_frame_equal(a.history, b.history, check_exact=True)
    if not hasattr(a, 'moments'): return
    assert len(a.moments) == len(b.moments)
    for x,y in zip(a.moments, b.moments):
        assert x.keys() == y.keys() and all(torch.equal(torch.as_tensor(x[k]), torch.as_tensor(y[k])) for k in x)
    assert (a.values, a.losses, a.lrs) == (b.values, b.losses, b.lrs)
    assert {k: list(v) for k,v in a.hps.items()} == {k: list(v) for k,v in b.hps.items()}


def often(monkeypatch):
    "A checkpoint after every batch"
    monkeypatch.setattr(checkpoint, 'SHORTEST', 0)
    monkeypatch.setattr(checkpoint, 'SPARING', 0)


# ---- nothing changes, and a run goes on

def test_checkpoints_change_nothing(reviews, alone, tmp_path, monkeypatch):
    often(monkeypatch)
    same(result(fit(learner(reviews), tmp_path/'run')), alone)
    assert len(checkpoints(tmp_path/'run')) == 2


@pytest.mark.parametrize('stage,step', [(1, 1), (1, 5), (2, 1), (2, 9)])
@pytest.mark.parametrize('every_batch', [True, False])
def test_an_interrupted_run_goes_on(reviews, alone, tmp_path, monkeypatch, stage, step, every_batch):
    if every_batch: often(monkeypatch)
    def stop(): raise RuntimeError('the power failed')
    with pytest.raises(RuntimeError, match='power'): fit(learner(reviews), tmp_path, [At(step, stop, stage)])
    random.seed(99); np.random.seed(99); torch.manual_seed(99)
    learn = learner(reviews, seed=5 if checkpoints(tmp_path) else 1) # other first weights, other random numbers
    same(result(fit(learn, tmp_path)), alone)


def in_child(f):
    "Start `f` in a process of its own"
    def run():
        torch.set_num_threads(1)
        f()
    p = multiprocessing.get_context('fork').Process(target=run)
    p.start()
    return p


def killed_and_resumed(make, alone, tmp_path, n):
    "kill -9 at random moments, several of them in each of `n` runs of the learner that `make` makes, until it is done"
    start = time.monotonic()
    fit(make(), tmp_path/'whole')
    whole, killed = time.monotonic() - start, 0
    for i in range(n):
        folder, dice = tmp_path/f'run{i}', random.Random(i)
        for _ in range(4):
            p = in_child(lambda: fit(make(), folder))
            p.join(dice.uniform(0.05, 0.6)*whole)
            killed += p.is_alive()
            p.kill()
            p.join()
        same(outcome(fit(make(seed=i + 5 if checkpoints(folder) else 1), folder)), alone)
    assert killed >= n


@pytest.mark.parametrize('n', [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment(reviews, alone, tmp_path, monkeypatch, n):
    often(monkeypatch)
    killed_and_resumed(partial(learner, reviews), alone, tmp_path, n)


@pytest.mark.parametrize('signum,code', [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_signals_save_first(reviews, alone, tmp_path, signum, code):
    def wait(): (tmp_path/'now').touch(); time.sleep(0.3)
    p = in_child(lambda: fit(learner(reviews), tmp_path/'run', [At(7, wait)]))
    while not (tmp_path/'now').exists(): time.sleep(0.01)
    os.kill(p.pid, signum)
    p.join(60)
    assert p.exitcode == code
    _, about = read_checkpoint(checkpoints(tmp_path/'run')[0])
    assert about['place'][0] == 2 and about['step'] >= about['place'][2] >= 7
    same(result(fit(learner(reviews), tmp_path/'run')), alone)


def test_a_signal_while_an_epoch_is_validated(reviews, alone, tmp_path):
    class InValidation(Callback):
        def after_batch(self):
            if not self.training and self.epoch == 1: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit): fit(learner(reviews), tmp_path, [InValidation()])
    assert read_checkpoint(checkpoints(tmp_path)[0])[1]['place'][:2] == [2, 1]
    same(result(fit(learner(reviews), tmp_path)), alone)
    assert json.loads((tmp_path/'best'/'config.json').read_text())['recipe']['lr'] == RECIPE['lr'] # which no batch has brought there


@pytest.mark.parametrize('step', [1, 3])
def test_a_stage_ends_with_the_weights_that_callbacks_put_back(reviews, tmp_path, step):
    def first(name): return SaveModelCallback(comp=np.greater, fname=str(tmp_path/name)) # the first epoch is the best
    whole = fit(learner(reviews), tmp_path/'whole', [first('a')], frozen_epochs=2)
    p = in_child(lambda: fit(learner(reviews), tmp_path/'run', [first('b'), At(step, lambda: os.kill(os.getpid(), signal.SIGKILL))], frozen_epochs=2))
    p.join(60)
    assert p.exitcode == -signal.SIGKILL and read_checkpoint(checkpoints(tmp_path/'run')[0])[1]['place'] == [2, 0, 0]
    same(outcome(fit(learner(reviews, seed=5), tmp_path/'run', [first('b')], frozen_epochs=2)), outcome(whole))


def test_a_stage_that_was_cut_off_is_not_over(reviews, alone, tmp_path):
    "As by a limit on its time, or by fastai's `TerminateOnNaNCallback`"
    def stop(): raise CancelFitException
    learn = learner(reviews)
    fit(learn, tmp_path, [At(len(learn.dls.train) + 2, stop)])
    same(result(fit(learner(reviews, seed=5), tmp_path)), alone)


@pytest.mark.parametrize('every', [False, True])
def test_what_a_callback_saved_stays(reviews, tmp_path, every):
    "The epochs that are passed over save nothing: the weights are not yet theirs"
    def saving(folder): return SaveModelCallback(comp=np.greater, fname=str(folder/'saved'), every_epoch=every) # the first epoch is the best
    whole = fit(learner(reviews), tmp_path/'whole', [saving(tmp_path)])
    files = {o: torch.load(o) for o in tmp_path.glob('saved*')}
    for o in files: o.unlink()
    p = in_child(lambda: fit(learner(reviews), tmp_path/'run', [saving(tmp_path), At(len(learner(reviews).dls.train) + 2, lambda: os.kill(os.getpid(), signal.SIGKILL))]))
    p.join(60)
    assert p.exitcode == -signal.SIGKILL
    learn = fit(learner(reviews, seed=5), tmp_path/'run', [saving(tmp_path)])
    assert set(tmp_path.glob('saved*')) == set(files)
    for o,want in files.items():
        for k,v in torch.load(o).items(): assert torch.equal(v, want[k]), (o, k)
    same(outcome(learn), outcome(whole))
    assert learn.save(str(tmp_path/'after'), with_opt=False).is_file()


@pytest.mark.parametrize('signum,error', [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_after_the_last_batch(reviews, alone, tmp_path, signum, error):
    "Too late to stop anything, but whoever sent it does not want the program to go on; what is trained is kept"
    class AtTheEnd(Callback):
        order = 200
        def after_epoch(self):
            if self.learn.run_log.stage == 2 and self.epoch == 1: os.kill(os.getpid(), signum)
    with pytest.raises(error): fit(learner(reviews), tmp_path, [AtTheEnd()])
    same(outcome(fit(learner(reviews, seed=6), tmp_path)), alone)


def test_signal_handlers_are_put_back(reviews, tmp_path):
    before = [signal.getsignal(o) for o in (signal.SIGINT, signal.SIGTERM)]
    fit(learner(reviews), tmp_path)
    assert [signal.getsignal(o) for o in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_is_complete_is_not_done_again(reviews, alone, tmp_path, capsys):
    first = result(fit(learner(reviews), tmp_path))
    def never(): raise AssertionError('it trained')
    again = fit(learner(reviews, seed=3), tmp_path, [At(1, never, 1), At(1, never, 2)])
    assert 'is complete' in capsys.readouterr().err
    assert all(torch.equal(v, first.weights[k]) for k,v in again.model.state_dict().items())
    pd.testing.assert_frame_equal(again.history.drop(columns='time'), alone.history)
    pd.testing.assert_frame_equal(again.curve, alone.curve)


def test_it_says_where_it_goes_on(reviews, tmp_path, capsys):
    def stop(): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): fit(learner(reviews), tmp_path, [At(3, stop)])
    fit(learner(reviews), tmp_path)
    assert 'Going on from step' in capsys.readouterr().err


def test_the_table_of_a_resumed_run_is_whole(reviews, alone, tmp_path):
    def stop(): raise KeyboardInterrupt
    learn = learner(reviews)
    with pytest.raises(KeyboardInterrupt): fit(learn, tmp_path, [At(len(learn.dls.train) + 2, stop)])
    rows = []
    learn = learner(reviews)
    learn.logger = lambda row: rows.append(list(row))
    with learn.no_bar(): learn.fit_two_stage(**RECIPE, checkpoint=tmp_path)
    assert [r[0] for r in rows] == [0, 1] and all(len(r) == 6 for r in rows)
    assert [r[:-1] for r in rows] == alone.history[alone.history.stage == 2].drop(columns='stage').values.tolist()


@pytest.mark.parametrize('recipe', [dict(frozen_epochs=0), dict(epochs=0), dict(frozen_epochs=2, epochs=1)])
def test_other_recipes(reviews, tmp_path, monkeypatch, recipe):
    often(monkeypatch)
    want = result(fit(learner(reviews), **recipe))
    def stop(): raise KeyboardInterrupt
    stage = 2 if recipe.get('epochs', 1) else 1
    with pytest.raises(KeyboardInterrupt): fit(learner(reviews), tmp_path, [At(4, stop, stage)], **recipe)
    same(result(fit(learner(reviews), tmp_path, **recipe)), want)
    assert len(fit(learner(reviews), tmp_path, **recipe).history) == len(want.history)


def test_a_pretrained_network_stays_frozen_in_stage_one(reviews, tmp_path, model_folder, monkeypatch):
    often(monkeypatch)
    new = partial(learner, reviews, pretrained=model_folder, config=None)
    want = result(fit(new()))
    def stop(): raise KeyboardInterrupt
    for stage in (1, 2):
        with pytest.raises(KeyboardInterrupt): fit(new(), tmp_path, [At(3, stop, stage)])
    same(result(fit(new(seed=8), tmp_path)), want)


# ---- gradients that are added up over several batches

def split(reviews, **kwargs): return split_batches(learner(reviews, bs=8, seq_len=68, **kwargs), 4)


@pytest.fixture(scope='module')
def alone_split(reviews): return result(fit(split(reviews)))


def test_a_sum_is_under_way_where_epochs_meet(reviews):
    "Or the tests below would miss what they are for"
    assert len(split(reviews).dls.train)%2


@pytest.mark.parametrize('stage,step', [(1, 1), (2, 8), (2, 9)])
@pytest.mark.parametrize('every_batch', [True, False])
def test_a_sum_of_gradients_goes_on(reviews, alone_split, tmp_path, monkeypatch, stage, step, every_batch):
    if every_batch: often(monkeypatch)
    def stop(): raise RuntimeError('the power failed')
    with pytest.raises(RuntimeError, match='power'): fit(split(reviews), tmp_path, [At(step, stop, stage)])
    same(result(fit(split(reviews, seed=5 if checkpoints(tmp_path) else 1), tmp_path)), alone_split)


def test_a_sum_of_gradients_goes_on_in_the_next_epoch(reviews, alone_split, tmp_path):
    def stop(): raise RuntimeError('the power failed')
    new = split(reviews)
    with pytest.raises(RuntimeError, match='power'): fit(new, tmp_path, [At(len(new.dls.train) + 1, stop)])
    tensors, about = read_checkpoint(checkpoints(tmp_path)[0])
    assert about['place'] == [2, 1, 0] and about['rows_added'] == 4 and tensors['grad.0.encoder.weight'].any()
    same(result(fit(split(reviews, seed=7), tmp_path)), alone_split)


def test_the_same_learner_goes_on(reviews, alone_split, tmp_path):
    "With gradients of its own, which are not those of the checkpoint"
    learn = split(reviews)
    def stop(): raise RuntimeError('the power failed')
    for step in (5, len(learn.dls.train) + 5):
        with pytest.raises(RuntimeError, match='power'): fit(learn, tmp_path, [At(step, stop)])
    same(result(fit(learn, tmp_path)), alone_split)


@pytest.mark.parametrize('n', [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_while_gradients_are_added_up(reviews, alone_split, tmp_path, monkeypatch, n):
    often(monkeypatch)
    killed_and_resumed(partial(split, reviews), alone_split, tmp_path, n)


def test_without_a_sum_none_is_kept(reviews, tmp_path):
    fit(learner(reviews), tmp_path)
    tensors, about = read_checkpoint(checkpoints(tmp_path)[0])
    assert about['rows_added'] == 0 and not [k for k in tensors if k.startswith('grad.')]


def test_another_number_of_rows_is_refused(reviews, tmp_path):
    fit(learner(reviews, seq_len=68), tmp_path)
    with pytest.raises(ValueError, match='other recipe: n_acc=None there, n_acc=8 now'): fit(split(reviews), tmp_path)
    with pytest.raises(ValueError, match='other recipe: n_acc=None there, n_acc=12 now'): fit(learner(reviews, seq_len=68), tmp_path, [GradientAccumulation(12)])


def test_batch_size(reviews, tmp_path):
    assert batch_size(tmp_path) is batch_size(tmp_path/'nowhere') is None
    fit(learner(reviews), tmp_path)
    assert batch_size(tmp_path) == 4
    for o in checkpoints(tmp_path): spoil(o, 'about.json')
    assert batch_size(tmp_path) is None


# ---- the folder

def test_the_best_is_a_model_folder(reviews, tmp_path):
    learn = fit(learner(reviews), tmp_path)
    best = load_lm(tmp_path/'best')
    assert best.config['metrics']['valid_loss'] == min(learn.history.valid_loss)
    assert best.config['recipe'] == learn.recipe


def test_the_best_of_a_table_with_gaps(reviews, tmp_path, monkeypatch):
    "An epoch whose loss is no number, and one without a loss, are not the best, and hide no better one"
    saved = []
    monkeypatch.setattr(imdb_lm.training.Checkpointer, 'write', lambda self, note: None)
    keeper = imdb_lm.training.Checkpointer(tmp_path, checkpoint.RunLog(), lambda learn, folder: saved.append(len(keeper.history.rows)))
    keeper.tensors, keeper.learn, keeper.note = None, SimpleNamespace(epoch=0, n_epoch=9), lambda place: None
    for loss in (3., float('nan'), 2., None, 4., 1.):
        keeper.history.rows.append(dict(stage=1, valid_loss=loss))
        keeper.learn.history = pd.DataFrame(keeper.history.rows)
        keeper.after_epoch()
    assert saved == [1, 3, 6]


def test_what_can_be_no_model_folder_is_trained_all_the_same(reviews, tmp_path, capsys):
    "Reading backwards: it has checkpoints, and it is said that the best is not kept"
    learn = lm_learner(lm_dls(reviews, bs=4, seq_len=30, backwards=True, min_freq=2), config=SIZES, pretrained=False)
    assert len(fit(learn, tmp_path/'run').history) == 3 and len(checkpoints(tmp_path/'run')) == 2
    assert 'The best model could not be written (' in capsys.readouterr().err and not (tmp_path/'run'/'best').exists()


def test_metrics_of_several_numbers(reviews, tmp_path):
    "The table of a resumed run has them, too"
    class Both(Metric):
        name = 'both'
        def reset(self): pass
        def accumulate(self, learn): pass
        @property
        def value(self): return np.array([.25, .5], np.float32)
    new = partial(learner, reviews, metrics=[Both()])
    def stop(): raise RuntimeError('the power failed')
    with pytest.raises(RuntimeError, match='power'): fit(new(), tmp_path, [At(3, stop)])
    assert [list(o) for o in fit(new(), tmp_path).history.both] == [[.25, .5]]*3
    assert load_lm(tmp_path/'best').config['metrics']['both'] == [.25, .5]


def test_no_pickle_is_needed(reviews, tmp_path, monkeypatch):
    def never(*args, **kwargs): raise AssertionError('a pickle was read')
    fit(learner(reviews), tmp_path)
    for name in ('pickle.load', 'pickle.loads', 'torch.load'): monkeypatch.setattr(name, never)
    tensors, about = read_checkpoint(checkpoints(tmp_path)[0])
    assert tensors['weight.0.encoder.weight'].shape[1] == 8 and about['place'] == [3, 0, 0]


def spoil(path, name):
    file = path/name
    file.write_bytes(file.read_bytes()[:-9])


@pytest.mark.parametrize('name', ['about.json', 'tensors.safetensors'])
def test_a_damaged_checkpoint_is_passed_over(reviews, alone, tmp_path, capsys, name):
    fit(learner(reviews), tmp_path)
    spoil(checkpoints(tmp_path)[0], name)
    same(result(fit(learner(reviews), tmp_path)), alone)
    assert 'is damaged' in (err := capsys.readouterr().err) and 'going on from the one before' in err


@pytest.mark.parametrize('about', [{}, {'run': None}, {'place': 3}, {'rows': {}}, {'optimizer': []}])
def test_a_checkpoint_that_tells_of_no_run_is_passed_over(reviews, alone, tmp_path, capsys, about):
    fit(learner(reviews), tmp_path)
    file = checkpoints(tmp_path)[0]/'about.json'
    was = json.loads(file.read_text())
    file.write_text(json.dumps({**was, **about} if about else {'format': was['format']}))
    same(result(fit(learner(reviews), tmp_path)), alone)
    assert 'about.json tells of no run: going on from the one before' in capsys.readouterr().err


def test_nothing_to_do(reviews, tmp_path):
    assert learner(reviews).fit_two_stage(0, epochs=0, checkpoint=tmp_path).empty


def test_only_damaged_checkpoints(reviews, tmp_path):
    fit(learner(reviews), tmp_path)
    for o in checkpoints(tmp_path): spoil(o, 'about.json')
    with pytest.raises(ValueError, match='is damaged.*none is left before it: delete .* to begin anew'): fit(learner(reviews), tmp_path)


def test_another_version(reviews, tmp_path):
    fit(learner(reviews), tmp_path)
    for o in checkpoints(tmp_path):
        about = json.loads((o/'about.json').read_text())
        (o/'about.json').write_text(json.dumps({**about, 'format': 99}))
    with pytest.raises(ValueError, match=f'checkpoint format 99, this version of imdb_lm reads {checkpoint.FORMAT}'): fit(learner(reviews), tmp_path)


@pytest.mark.parametrize('change,match', [
    (dict(bs=5), 'other bs: 4 there, 5 now'),
    (dict(seq_len=71), 'other seq_len: 70 there, 71 now'),
    (dict(valid_pct=0.2), 'other training reviews'),
    (dict(min_freq=3), 'other vocabulary'),
    (dict(config={**SIZES, 'n_hid': 13}), r'other network: .*\[48, 8\].* there, .*\[52, 8\].* now'),
    *[(dict(config={**SIZES, k: 0.7}), 'other dropout') for k in ('output_p', 'hidden_p', 'input_p', 'embed_p', 'weight_p')],
    (dict(backwards=True), 'other training reviews'),
    (dict(wd=0.3), 'other wd: None there, 0.3 now'),
])
def test_another_run_is_refused(reviews, tmp_path, change, match):
    fit(learner(reviews), tmp_path)
    with pytest.raises(ValueError, match=f'belongs to a run with {match}'): fit(learner(reviews, **change), tmp_path)


@pytest.mark.parametrize('change,match', [(dict(epochs=3), 'recipe: epochs=2 there, epochs=3 now'), (dict(lr=1e-3), 'recipe: lr=0.005 there, lr=0.001 now'),
                                          (dict(pct_start=0.5), "recipe: pct_start=None there, pct_start=0.5 now")])
def test_another_recipe_is_refused(reviews, tmp_path, change, match):
    fit(learner(reviews), tmp_path)
    with pytest.raises(ValueError, match=f'with other {match}'): fit(learner(reviews), tmp_path, **change)


@pytest.mark.parametrize('change,match', [
    (lambda o: o.remove_cb(o.rnn_regularizer), r'alpha=2.0, beta=1.0 there, alpha=None, beta=None now'),
    (lambda o: o.add_cb(GradientClip(.5)), r'max_norm=None, norm_type=None there, max_norm=0.5, norm_type=2.0 now'),
    (lambda o: o.add_cb(BF16()), r"precision='fp32' there, precision='bf16' now"),
    (lambda o: setattr(o, 'loss_func', LabelSmoothingCrossEntropyFlat(eps=.1)), r"loss=.*CrossEntropyLoss\(\).* there, loss=.*'eps': 0.1.* now"),
])
def test_another_loss_is_refused(reviews, tmp_path, change, match):
    "And whatever else changes the gradients"
    fit(learner(reviews), tmp_path)
    other = learner(reviews)
    change(other)
    with pytest.raises(ValueError, match=f'belongs to a run with other recipe: {match}'): fit(other, tmp_path)


def test_other_texts_are_refused(reviews, tmp_path):
    fit(learner(reviews), tmp_path)
    with pytest.raises(ValueError, match='other (training|validation) reviews'): fit(learner([reviews[1], reviews[0], *reviews[2:]]), tmp_path)


def test_two_runs_in_one_folder(reviews, tmp_path):
    def second():
        with pytest.raises(RuntimeError, match='another run is writing to .*: wait for its end'): fit(learner(reviews), tmp_path)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): fit(learner(reviews), tmp_path, [At(2, second)])


def test_a_folder_that_cannot_be_written(reviews, tmp_path):
    (tmp_path/'file').touch()
    with pytest.raises(OSError, match='checkpoints cannot be written to .*file/run .*: name a folder that can be written'): fit(learner(reviews), tmp_path/'file'/'run')


def test_a_folder_without_locks(reviews, tmp_path, monkeypatch):
    "Some network file systems have none: that is no other run"
    def none(*args): raise OSError(errno.ENOLCK, 'No locks available')
    monkeypatch.setattr('fcntl.flock', none)
    assert len(fit(learner(reviews), tmp_path).history) == 3


def test_what_a_killed_run_was_writing_is_cleared_away(tmp_path):
    for name in 'mine', '.best.ab12_xyz', '.best.old': (tmp_path/name).mkdir() # the last is the best model while another takes its place
    p = in_child(lambda: (checkpoint.__dict__.update(_to_disk=lambda file: os.kill(os.getpid(), signal.SIGKILL)), write_checkpoint(tmp_path, {'a': torch.ones(2)}, dict(step=1))))
    p.join(60)
    assert p.exitcode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 4
    with checkpoint._locked(tmp_path): assert sorted(o.name for o in tmp_path.iterdir()) == ['.best.old', 'lock', 'mine']


def test_names_of_folders_as_text(tmp_path):
    path = write_checkpoint(str(tmp_path), {'a': torch.ones(2)}, dict(step=1, run=dict(bs=7)))
    assert path == tmp_path/'step-000000001' and checkpoints(str(tmp_path)) == [path]
    assert read_checkpoint(str(path))[1]['step'] == 1 and batch_size(str(tmp_path)) == 7


@pytest.mark.parametrize('run', [5, [], None, 'bs'])
def test_no_batch_size_in_a_damaged_checkpoint(tmp_path, run):
    write_checkpoint(tmp_path, {'a': torch.ones(2)}, dict(step=1, run=run))
    assert batch_size(tmp_path) is None


@pytest.mark.parametrize('kind', ['file', 'link'])
def test_something_else_where_a_checkpoint_belongs(tmp_path, kind):
    "It is neither followed nor lost, and the write is an OSError, with which training goes on"
    (tmp_path/'elsewhere').mkdir()
    (tmp_path/'elsewhere'/'thesis.txt').write_text('mine')
    target = tmp_path/'step-000000001'
    target.write_text('mine') if kind == 'file' else target.symlink_to('elsewhere')
    with pytest.raises(OSError): write_checkpoint(tmp_path, {'a': torch.ones(2)}, dict(step=1))
    assert sorted(o.name for o in tmp_path.iterdir()) == ['elsewhere', target.name] and (tmp_path/'elsewhere'/'thesis.txt').read_text() == 'mine'


def test_a_full_disk_in_mid_run(reviews, alone, tmp_path, monkeypatch, capsys):
    often(monkeypatch)
    save = checkpoint.save_file
    def full(*args, **kwargs):
        if random_moment['full']: raise OSError(errno.ENOSPC, 'No space left on device')
        save(*args, **kwargs)
    random_moment = dict(full=False)
    monkeypatch.setattr(checkpoint, 'save_file', full)
    learn = fit(learner(reviews), tmp_path, [At(5, lambda: random_moment.update(full=True))])
    same(result(learn), alone)
    assert 'A checkpoint could not be written ([Errno 28] No space left on device): training goes on, and the last one stays.' in capsys.readouterr().err
    random_moment.update(full=False)
    assert {o.name for o in tmp_path.iterdir()} - {o.name for o in checkpoints(tmp_path)} == {'lock', 'best'}
    same(result(fit(learner(reviews), tmp_path)), alone)


def test_checkpoints_of_other_loaders(reviews, tmp_path):
    learn = learner(reviews)
    learn.dls.loaders[0] = learn.dls.train.new(cls=LMDataLoader)
    with pytest.raises(ValueError, match='checkpoints need DataLoaders made by lm_dls, not LMDataLoader'): fit(learn, tmp_path)


@pytest.mark.parametrize('opt_func', [ranger, partial(OptimWrapper, opt=torch.optim.SGD)], ids=['Lookahead', 'OptimWrapper'])
def test_checkpoints_of_other_optimizers(reviews, tmp_path, opt_func):
    "They have a state of their own kind: that is said before anything is trained"
    learn = learner(reviews, opt_func=opt_func)
    with pytest.raises(ValueError, match="checkpoints know fastai's optimizers, not (Lookahead|OptimWrapper): give another opt_func"): fit(learn, tmp_path, [At(1, lambda: 1/0)])
    assert not checkpoints(tmp_path)


def test_a_table_without_valid_loss(reviews, tmp_path):
    fit(learner(reviews), tmp_path, [ShortEpochCallback(0.2)], epochs=0)
    assert len(checkpoints(tmp_path)) == 1 and not (tmp_path/'best').exists()


def test_a_run_that_ends_where_it_goes_on(reviews, tmp_path, monkeypatch):
    "The next training begins its epochs at their beginning"
    often(monkeypatch)
    class AtOnce(Callback):
        order = 200
        def before_train(self): raise RuntimeError('at once')
    def stop(): raise RuntimeError('the power failed')
    with pytest.raises(RuntimeError, match='power'): fit(learner(reviews), tmp_path, [At(5, stop, 1)])
    learn = learner(reviews)
    with pytest.raises(RuntimeError, match='at once'): fit(learn, tmp_path, [AtOnce()])
    assert learn.dls.train.first == 0


def test_a_loss_that_is_not_a_number(reviews, tmp_path, monkeypatch):
    often(monkeypatch)
    learn = learner(reviews)
    def poison(): learn.model[1].decoder.bias.data.fill_(float('nan'))
    with pytest.raises(FloatingPointError, match='the loss is nan at batch 7 of .* in epoch 0, at a rate of .*: train again with a lower rate'): fit(learn, tmp_path, [At(6, poison)])
    tensors, about = read_checkpoint(checkpoints(tmp_path)[0])
    assert about['place'] == [2, 0, 6] and torch.isfinite(tensors['losses']).all()


def test_a_step_is_written_again(tmp_path):
    for n in 1, 2: path = write_checkpoint(tmp_path, {'a': torch.full((2,), n)}, dict(step=3))
    assert [o.name for o in tmp_path.iterdir()] == [path.name] and read_checkpoint(path)[0]['a'].tolist() == [2, 2]


def test_a_folder_in_a_folder_and_another_thread(reviews, alone, tmp_path):
    with ThreadPoolExecutor(1) as pool: learn = pool.submit(lambda: fit(learner(reviews), tmp_path/'a'/'b')).result()
    same(result(learn), alone)
    assert checkpoints(tmp_path/'a'/'b')


def test_processes_share_a_batch(reviews, monkeypatch):
    learn = learner(reviews)
    for n in 1, 2:
        monkeypatch.setattr(checkpoint, 'n_processes', lambda: n)
        assert describe_run(learn, {})['bs'] == 4*n


def test_the_newest_two_are_kept(tmp_path):
    for step in (3, 20, 100): write_checkpoint(tmp_path, {'a': torch.ones(2)}, dict(step=step))
    assert [o.name for o in checkpoints(tmp_path)] == ['step-000000100', 'step-000000020']
    assert sorted(checkpoints(tmp_path)) == sorted(tmp_path.iterdir())


def test_what_else_is_in_the_folder_stays(tmp_path):
    "A folder whose name begins as a checkpoint's, a file that is called as the lock is"
    (tmp_path/'lock').write_text('mine')
    for o in ('step-0', 'step-by-step'): (tmp_path/o).mkdir()
    for step in (3, 20, 100): write_checkpoint(tmp_path, {'a': torch.ones(2)}, dict(step=step))
    with checkpoint._locked(tmp_path): pass
    assert [o.name for o in checkpoints(tmp_path)] == ['step-000000100', 'step-000000020']
    assert (tmp_path/'lock').read_text() == 'mine' and (tmp_path/'step-0').is_dir() and (tmp_path/'step-by-step').is_dir()


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, {'a': torch.ones(2)}, dict(step=1))
    def no(*args): raise OSError(errno.EIO, 'Input/output error')
    monkeypatch.setattr(checkpoint, '_to_disk', no)
    with pytest.raises(OSError): write_checkpoint(tmp_path, {'a': torch.ones(2)}, dict(step=2))
    assert [o.name for o in tmp_path.iterdir()] == ['step-000000001']


def test_copies_of_a_folder_go_on_too(reviews, alone, tmp_path):
    def stop(): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): fit(learner(reviews), tmp_path/'a', [At(3, stop)])
    shutil.copytree(tmp_path/'a', tmp_path/'b')
    same(result(fit(learner(reviews), Path(tmp_path/'b'))), alone)


def test_another_process_describes_the_same_run(reviews, tmp_path):
    "Its functions lie elsewhere in memory"
    code = '''import json, sys
from functools import partial
from fastai.optimizer import Adam
from imdb_lm.checkpoint import describe_run, spelled
from imdb_lm.learner import lm_learner
from imdb_lm.loader import lm_dls
padding = [object() for _ in range(int(sys.argv[2]))]
learn = lm_learner(lm_dls(json.load(open(sys.argv[1])), bs=4, seq_len=20), config=dict(emb_sz=6, n_hid=8, n_layers=1), pretrained=False, opt_func=partial(Adam, sqr_mom=.9))
print(json.dumps([describe_run(learn, {}), spelled(Adam)]))'''
    (tmp_path/'reviews.json').write_text(json.dumps(reviews))
    a, b = (subprocess.run([sys.executable, '-c', code, tmp_path/'reviews.json', str(n)], capture_output=True, text=True, check=True).stdout for n in (1, 10_000))
    assert a == b and 'Adam' in a and '0x' not in a
