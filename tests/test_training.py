"""Two stages of training, and what is seen of them."""
import re

import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.text.models.awdlstm import awd_lstm_lm_config

import imdb_lm.training  # noqa: F401 -- lends learners their fit_two_stage
from imdb_lm.learner import lm_learner
from imdb_lm.loader import lm_dls

SIZES = {**awd_lstm_lm_config, 'emb_sz': 8, 'n_hid': 12, 'n_layers': 2}


@pytest.fixture
def learn(reviews): return lm_learner(lm_dls(reviews, bs=4, seq_len=30, min_freq=2), config=SIZES, pretrained=False)


def test_the_bar_tells_speed_and_time(learn, capsys):
    learn.fit_two_stage(0, epochs=1)
    out = capsys.readouterr().out
    assert re.search(r'\d+\.\d{4}, [\d,]+ tokens/s, stage done in 00:0\d:\d\d', out)


def test_the_time_left_shrinks_to_nothing(learn, capsys):
    learn.fit_two_stage(1, epochs=2)
    left = [int(m)*60 + int(s) for m,s in re.findall(r'stage done in 00:(\d\d):(\d\d)', capsys.readouterr().out)]
    assert left[-1] <= 1


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
