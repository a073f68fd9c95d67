"""Fine-tuning: the same as stock fastai's, pickles that are not run, and model folders that say what the learner said."""
import io
import json
import os
import pickle
import resource
import shutil
import tarfile
from contextlib import contextmanager
from functools import partial
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import minimum
from fastai.data.block import DataBlock
from fastai.data.external import URLs
from fastai.data.transforms import ColReader, RandomSplitter
from fastai.learner import load_learner
from fastai.metrics import Perplexity, accuracy
from fastai.text.core import BaseTokenizer, SpacyTokenizer
from fastai.text.data import TextBlock
from fastai.text.learner import LMLearner, language_model_learner
from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_lm_config
from fastai.text.models.core import _model_meta
from fastai.torch_core import set_seed

import imdb_lm.learner as learner
import imdb_lm.training  # noqa: F401 -- lends learners their fit_two_stage
from imdb_lm.classify import clas_dls
from imdb_lm.generate import generate
from imdb_lm.learner import language_model, lm_learner, save_lm
from imdb_lm.loader import lm_dls
from imdb_lm.model import load_lm, read_config
from imdb_lm.pretrained import convert_pair, read_pair

SMALL = {**awd_lstm_lm_config, 'emb_sz': 12, 'n_hid': 16, 'n_layers': 2}
PROMPTS = ['', 'a', 'I', 'I like this movie because', 'This movie is terrible', 'This movie has great action', 'It is NOT good!!!',
           'zyzzyva', '...', '<br /><br />', "don't", 'xxbos', 'no no no no', ' spaces  at both   ends ', 'One.\n\nTwo.']
PROMPTS += [' '.join(['The film is', *['very']*(n%2), 'good, and the story was not so bad.']*n) for n in (1, 2, 3, 5, 9)]


@contextmanager
def quiet(learn):
    with learn.no_bar(), learn.no_logging(): yield


def refuses(f, match, exc=ValueError):
    with pytest.raises(exc, match=match) as e: f()
    assert '\n' not in str(e.value) and '\x1b' not in str(e.value)


def weights_of(learn): return {k: v.detach().clone() for k,v in learn.model.state_dict().items()}

def assert_same(a, b):
    assert a.keys() == b.keys()
    for k in a: assert torch.equal(a[k], b[k]), k

def known(learn):
    "The weights without the rows of xxfake, words that fill up a vocabulary and share one embedding after `match_embeds`"
    rows = torch.tensor([w != 'xxfake' for w in learn.dls.vocab])
    return {k: v[rows] if len(v) == len(rows) else v for k,v in weights_of(learn).items()}

def assert_fits(a, b):
    assert a.keys() == b.keys()
    assert {k: v.shape for k,v in a.items()} == {k: v.shape for k,v in b.items()}

def logits(learn, prompt):
    learn.model.reset()
    learn.model.eval()
    with torch.no_grad(): return learn.model(learn.dls.test_dl([prompt]).items[0][None])[0][0]


@pytest.fixture(autouse=True)
def seed(): set_seed(0)

@pytest.fixture(scope='module')
def dls(reviews): return lm_dls(reviews[:30], bs=8, seq_len=40, min_freq=2)

@pytest.fixture(scope='module')
def other_dls(reviews): return lm_dls(reviews[20:], bs=8, seq_len=40, min_freq=2)

@pytest.fixture
def make(dls, tmp_path):
    "A small learner that starts from nothing, unless told otherwise"
    return partial(lm_learner, dls, config=SMALL, pretrained=False, path=tmp_path)

@pytest.fixture
def stock(dls, tmp_path):
    "The post's learner, in small"
    def make(dls=dls, **kwargs):
        return language_model_learner(dls, AWD_LSTM, drop_mult=0.3, metrics=[accuracy, Perplexity()],
                                      **{**dict(config=SMALL, pretrained=False, path=tmp_path), **kwargs})
    return make


def train_base(dls, path):
    "A learner that has learned something: its logits differ from word to word"
    set_seed(5)
    learn = lm_learner(dls, config=SMALL, pretrained=False, path=path)
    with quiet(learn): learn.fit_one_cycle(2, 3e-2)
    return learn


def write_pair(learn, folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(learn.model.state_dict(), folder/'base.pth')
    (folder/'base.pkl').write_bytes(pickle.dumps(list(learn.dls.vocab)))
    return folder/'base.pth', folder/'base.pkl'


@pytest.fixture(scope='module')
def base(other_dls, tmp_path_factory): return train_base(other_dls, tmp_path_factory.mktemp('base'))

@pytest.fixture(scope='module')
def pair(base, tmp_path_factory):
    "Weights and vocabulary of `base`, which has read other reviews: a (pth, pkl) pair"
    return write_pair(base, tmp_path_factory.mktemp('pair'))

@pytest.fixture(scope='module')
def folder(base, tmp_path_factory):
    "The model folder of `base`; not to be changed"
    return save_lm(base, tmp_path_factory.mktemp('folders')/'base')


# ---- the learner

def test_same_network_as_stock(make, stock):
    set_seed(1); ours = make(chunked=False)
    set_seed(1); theirs = stock()
    assert type(ours) is LMLearner
    assert repr(ours.model) == repr(theirs.model)
    assert_same(weights_of(ours), weights_of(theirs))
    assert [m.name for m in ours.metrics] == [m.name for m in theirs.metrics] == ['accuracy', 'perplexity']
    assert ours.moms == theirs.moms and ours.opt_func is theirs.opt_func and type(ours.loss_func) is type(theirs.loss_func)


def test_full_size_is_the_posts(dls, tmp_path):
    learn = lm_learner(dls, pretrained=False, path=tmp_path, chunked=False)
    theirs = language_model_learner(dls, AWD_LSTM, drop_mult=0.3, pretrained=False, path=tmp_path)
    assert_fits(learn.model.state_dict(), theirs.model.state_dict())
    assert repr(learn.model) == repr(theirs.model)


def test_same_loss_and_gradients_as_stock(make, stock, dls):
    ours, theirs = make(), stock()
    theirs.model.load_state_dict(ours.model.state_dict())
    x,y = dls.one_batch()
    for learn in (ours, theirs):
        set_seed(2)
        learn.model.train()
        learn.model.reset()
        learn.result = learn.loss_func(learn.model(x)[0], y)
        learn.result.backward()
    assert ours.result == theirs.result and ours.result > 3
    grads, stock_grads = ({n: p.grad for n,p in o.model.named_parameters()} for o in (ours, theirs))
    assert_same(grads, stock_grads)
    assert all(g.abs().sum() > 0 for g in grads.values())


def test_arguments_reach_fastai(make, dls, tmp_path):
    learn = make(drop_mult=0.6, moms=(0.9, 0.8, 0.9), model_dir='kept', wd=0.3, metrics=[], cbs=Count())
    assert learn.model[0].input_dp.p == pytest.approx(0.6*SMALL['input_p'])
    assert learn.moms == (0.9, 0.8, 0.9) and learn.wd == 0.3 and not learn.metrics
    assert hasattr(learn, 'count')
    assert learn.save('x').parent == tmp_path/'kept'
    refuses(lambda: make(nonsense=1), 'nonsense', TypeError)
    refuses(lambda: lm_learner(dls, pretrained=False, config={'n_hidden': 3}), 'n_hidden', TypeError)


@pytest.mark.parametrize('drop_mult', [float('nan'), -1, -1e-9, 4, 1e9, float('inf'), None, '0.3'])
def test_dropouts_that_cannot_be(make, drop_mult):
    "RNNDropout draws NaN, or fails in the first batch"
    refuses(lambda: make(drop_mult=drop_mult), 'drop_mult=.* cannot be')


def test_a_config_of_dropouts_that_cannot_be(make):
    refuses(lambda: make(config={**SMALL, 'hidden_p': 5}), 'hidden_p=5 times drop_mult=0.3 cannot be: a dropout is at least 0 and less than 1')


def test_what_is_no_dataloaders(reviews, dls, words):
    for o in (None, 5, reviews, dls.train): refuses(lambda: lm_learner(o), 'dls is of type .*: give the DataLoaders that lm_dls makes', TypeError)
    table = pd.DataFrame(dict(text=reviews[:20], label=['a', 'b']*10))
    clas = clas_dls(table, words, bs=2, valid=[0, 1])
    refuses(lambda: lm_learner(clas), 'these DataLoaders are for a classifier: give those that lm_dls makes', TypeError)


def test_config_may_name_some_sizes_only(dls):
    learn = lm_learner(dls, pretrained=False, config={'n_hid': 20, 'emb_sz': 10, 'tie_weights': False, 'out_bias': False})
    enc, dec = learn.model[0], learn.model[1]
    assert (enc.n_hid, enc.emb_sz, enc.n_layers) == (20, 10, 3)
    assert dec.decoder.bias is None and dec.decoder.weight is not enc.encoder.weight


def test_all_that_a_learner_can(make, stock, capsys, tmp_path):
    learn, theirs = make(), stock()
    with quiet(learn): learn.fit_one_cycle(1, 1e-2)
    theirs.model.load_state_dict(learn.model.state_dict())
    for o in (learn, theirs): o.text = (set_seed(3), o.predict('I like', n_words=6, temperature=0.75, no_bar=True))[1]
    assert learn.text == theirs.text and len(learn.text.split()) > 5
    with quiet(learn): assert learn.lr_find(num_it=12, show_plot=False, suggest_funcs=(minimum,)).minimum > 0
    with quiet(learn): learn.show_results(max_n=2)
    assert capsys.readouterr().out
    before = weights_of(learn)
    learn.save('kept')
    learn.save_encoder('encoder')
    with torch.no_grad():
        for p in learn.model.parameters(): p.add_(1)
    encoder = make().load_encoder('encoder')
    assert_same(encoder.model[0].state_dict(), {k[2:]: v for k,v in before.items() if k.startswith('0.')})
    assert_same(weights_of(learn.load('kept')), before)
    assert_same(weights_of(stock().load('kept')), before)


def test_export(reviews, corpus, tmp_path):
    for i,source in enumerate((corpus, reviews, pd.DataFrame({'text': reviews}))):
        learn = lm_learner(lm_dls(source, bs=8, seq_len=40, min_freq=2), config=SMALL, pretrained=False, path=tmp_path)
        with quiet(learn): learn.fit_two_stage(0, epochs=1)
        learn.export(tmp_path/f'{i}.pkl')
        loaded = load_learner(tmp_path/f'{i}.pkl')
        assert_same(weights_of(loaded), weights_of(learn))
        for o in (learn, loaded): o.text = (set_seed(3), o.predict('I like', n_words=6, no_bar=True))[1]
        assert loaded.text == learn.text
        assert loaded.generate('I like', n_words=6, seed=1) == learn.generate('I like', n_words=6, seed=1)
        assert len(loaded.dls.train_ds) == 0 and loaded.dls.train_ds.tokenizer.corpus is None # the model, not the corpus
        assert reviews[0][:40].encode() not in (tmp_path/f'{i}.pkl').read_bytes()


# ---- two stages

class Count(Callback):
    "Says which parts of `fit_two_stage` it saw"
    def __init__(self): self.epochs, self.moms, self.frozen = [], [], []
    def after_epoch(self):
        self.epochs.append(self.epoch)
        self.moms.append(self.opt.hypers[-1]['mom'])
        self.frozen.append(self.opt.frozen_idx)


def test_same_as_the_posts_calls(reviews, stock, pair, tmp_path):
    dls, stock_dls = (lm_dls(reviews[:30], bs=8, seq_len=40, min_freq=2) for _ in range(2)) # shuffling goes on from epoch to epoch
    ours = lm_learner(dls, config=SMALL, pretrained=pair, chunked=False) # to the last bit: in pieces, sums come out in another order
    (tmp_path/'models').mkdir(exist_ok=True)
    for o in pair: (tmp_path/'models'/o.name).write_bytes(o.read_bytes())
    theirs = stock(stock_dls, pretrained=True, pretrained_fnames=['base', 'base'])
    assert_same(weights_of(ours), weights_of(theirs))
    set_seed(4)
    with quiet(ours): history = ours.fit_two_stage(1, 2e-2, 2, 2e-3)
    set_seed(4)
    with quiet(theirs):
        theirs.fit_one_cycle(1, 2e-2)
        values = list(theirs.recorder.values)
        theirs.unfreeze()
        theirs.fit_one_cycle(2, 2e-3)
        values += theirs.recorder.values
    assert_same(weights_of(ours), weights_of(theirs))
    assert list(history.columns) == ['stage', 'epoch', 'train_loss', 'valid_loss', 'accuracy', 'perplexity', 'time']
    assert history[['train_loss', 'valid_loss', 'accuracy', 'perplexity']].values.tolist() == [list(o) for o in values]
    assert history.stage.tolist() == [1, 2, 2] and history.epoch.tolist() == [0, 0, 1]
    assert ours.history is history


def test_stage_one_leaves_the_frozen_groups_alone(make, pair):
    learn = make(pretrained=pair)
    assert learn.pretrained and learn.opt.frozen_idx == 2
    before = weights_of(learn)
    with quiet(learn): learn.fit_two_stage(1, 2e-2, 0)
    after = weights_of(learn)
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert moved == {'0.encoder.weight', '0.encoder_dp.emb.weight', '1.decoder.weight', '1.decoder.bias'}
    with quiet(learn): learn.fit_two_stage(0, epochs=1, lr=2e-3)
    assert {k for k in before if torch.equal(before[k], weights_of(learn)[k])} == set()


def test_unfreezing_before_does_not_matter(make, pair):
    learn = make(pretrained=pair)
    learn.unfreeze()
    before = learn.model[0].rnns[0].weight_hh_l0_raw.detach().clone()
    with quiet(learn): learn.fit_two_stage(1, 2e-2, 0)
    assert torch.equal(learn.model[0].rnns[0].weight_hh_l0_raw, before)


@pytest.mark.parametrize('frozen_before', [False, True])
def test_from_nothing_nothing_is_frozen(make, capsys, frozen_before):
    learn, count = make(), Count()
    if frozen_before: learn.freeze()
    before = weights_of(learn)
    with quiet(learn): learn.fit_two_stage(1, 2e-2, 1, 2e-3, cbs=count)
    assert capsys.readouterr().err.count('nothing is frozen: every stage trains the whole network') == 1
    assert count.frozen == [0, 0]
    assert not any(torch.equal(before[k], v) for k,v in weights_of(learn).items())
    with quiet(learn): learn.fit_two_stage(0, epochs=1)
    assert 'frozen' not in capsys.readouterr().err


def test_pretrained_says_nothing(make, pair, capsys):
    learn = make(pretrained=pair)
    capsys.readouterr()
    with quiet(learn): learn.fit_two_stage(1, 2e-2, 1, 2e-3)
    assert capsys.readouterr() == ('', '')


def test_memory_is_given_back_every_ten_steps(make, monkeypatch):
    if torch.cuda.is_available(): pytest.skip('there is a GPU')
    given, steps = [], []
    class Steps(Callback):
        order = -100
        def after_batch(self): steps.append(self.training)
    monkeypatch.setattr(learner, '_malloc_trim', lambda: lambda pad: given.append(len(steps)))
    learn = make()
    with quiet(learn): learn.fit(1, cbs=Steps())
    assert given == list(range(10, sum(steps) + 1, 10)) and given


def test_no_gpu_is_said_once(make, capsys):
    if torch.cuda.is_available(): pytest.skip('there is a GPU')
    learner._say_once.cache_clear()
    for _ in range(3): assert not hasattr(make(), 'mixed_precision')
    assert capsys.readouterr() == ('', 'No GPU: training in fp32.\n')


def test_a_learner_that_was_loaded(make, reviews, tmp_path):
    "It has no texts; with new ones it trains on"
    make().export(tmp_path/'learn.pkl')
    learn = load_learner(tmp_path/'learn.pkl')
    for kwargs in ({}, dict(checkpoint=tmp_path/'run')): refuses(lambda: learn.fit_two_stage(1, epochs=1, **kwargs), 'there is not a batch to train on: .* learn.dls = lm_dls')
    config = json.loads((save_lm(learn, tmp_path/'model')/'config.json').read_text())
    assert config['data'] is None and ' 0 reviews' not in (tmp_path/'model'/'README.md').read_text()
    learn.dls = lm_dls(reviews[:30], bs=8, seq_len=40, vocab=list(learn.dls.vocab))
    with quiet(learn): assert len(learn.fit_two_stage(1, epochs=1)) == 2


def test_stages_can_be_left_out(make):
    learn = make()
    before = weights_of(learn)
    with quiet(learn):
        assert learn.fit_two_stage(0, epochs=0).empty
        assert_same(weights_of(learn), before)
        assert learn.fit_two_stage(2, 1e-3, 0).stage.tolist() == [1, 1]
        assert learn.fit_two_stage(0, epochs=2).stage.tolist() == [2, 2]


def test_epochs_must_be_numbers(make):
    learn = make()
    for kwargs in (dict(frozen_epochs=-1), dict(epochs=-1), dict(epochs=1.5), dict(frozen_epochs=None), dict(epochs='3')):
        name, value = *kwargs, *kwargs.values()
        refuses(lambda: learn.fit_two_stage(**kwargs), f'{name}={value!r} cannot be: it must be a whole number of at least 0')
    assert not hasattr(learn, 'history')


@pytest.mark.parametrize('lr', [float('nan'), float('inf'), 0, 0., -1e-3, None, '2e-3', [1e-3], slice(1e-5, 1e-3)])
def test_learning_rates_must_be_above_0(make, lr):
    learn = make()
    before = weights_of(learn)
    for name in ('frozen_lr', 'lr'): refuses(lambda: learn.fit_two_stage(1, epochs=1, **{name: lr}), f'^{name}=.* cannot be: it must be a number above 0')
    assert_same(weights_of(learn), before)
    assert not hasattr(learn, 'recipe')


def test_learning_rates_of_other_kinds(make, tmp_path):
    learn = make()
    with quiet(learn): learn.fit_two_stage(0, epochs=1, frozen_lr=1, lr=np.float32(1e-3))
    assert read_config(save_lm(learn, tmp_path/'m'))['recipe'].items() >= dict(frozen_epochs=0, frozen_lr=1., epochs=1, lr=pytest.approx(1e-3)).items()


@pytest.mark.parametrize('wrap', [lambda o: o, lambda o: [o], lambda o: (o,)])
def test_callbacks_and_arguments_reach_both_stages(make, pair, wrap):
    learn, count = make(pretrained=pair), Count()
    with quiet(learn): learn.fit_two_stage(1, 1e-3, 1, 1e-3, cbs=wrap(count), moms=(0.6, 0.5, 0.4))
    assert count.epochs == [0, 0] and count.frozen == [2, 0]
    assert count.moms == pytest.approx([0.4, 0.4], abs=0.01)
    assert not hasattr(learn, 'count') and not hasattr(learn, 'history_cb')
    refuses(lambda: learn.fit_two_stage(1, nonsense=1), 'nonsense', TypeError)


def test_other_metrics_have_columns_too(make):
    learn = make(metrics=accuracy)
    with quiet(learn): history = learn.fit_two_stage(0, epochs=1)
    assert list(history.columns) == ['stage', 'epoch', 'train_loss', 'valid_loss', 'accuracy', 'time']


# ---- WikiText-103, by a real download

def archive(files, root='wt103-fwd/'):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w:gz') as tar:
        for name,data in files.items():
            m = tarfile.TarInfo(root + name)
            m.size = len(data)
            tar.addfile(m, io.BytesIO(data))
    return out.getvalue()

def wt103(pth, pkl): return archive({'lstm_fwd.pth': pth, 'itos_wt103.pkl': pkl})


@pytest.fixture
def modelzoo(site, fastai_home, monkeypatch, pair):
    "A site that has `pair` in the place of WikiText-103's weights"
    site.files['wt103-fwd.tgz'] = wt103(*(o.read_bytes() for o in pair))
    for name,key in dict(FWD='url', BWD='url_bwd').items():
        url = site.url(f'wt103-{name.lower()}.tgz')
        monkeypatch.setattr(URLs, f'WT103_{name}', url)
        monkeypatch.setitem(_model_meta[AWD_LSTM], key, url)
    return site


def test_wt103_same_as_stock(modelzoo, fastai_home, make, stock, base):
    ours = make(pretrained='wt103')
    assert modelzoo.asked == ['wt103-fwd.tgz']
    theirs = stock(pretrained=True)
    assert_same(weights_of(ours), weights_of(theirs))
    assert ours.opt.frozen_idx == theirs.opt.frozen_idx == 2 and ours.pretrained
    film, old_film = (o.model[0].encoder.weight[o.dls.vocab.index('film')] for o in (ours, base))
    assert torch.equal(film, old_film)
    assert len(set(ours.dls.vocab) - set(base.dls.vocab)) > 20 # new words, at the mean of the old ones
    assert_same(weights_of(make(pretrained=True)), weights_of(ours))
    assert len(modelzoo.asked) == 1 # the second time from the disk
    assert (fastai_home/'models'/'wt103-fwd'/'lstm_fwd.pth').is_file()


def test_wt103_is_the_default(modelzoo, dls, tmp_path): assert lm_learner(dls, config=SMALL, path=tmp_path).pretrained


def test_wt103_of_another_size(modelzoo, dls):
    refuses(lambda: lm_learner(dls), 'does not fit the network: .*give the config that it was trained with')


def test_wt103_backwards(modelzoo, make, reviews, tmp_path):
    dls = lm_dls(reviews, bs=8, seq_len=40, min_freq=2, backwards=True)
    set_seed(8)
    back = lm_learner(dls, config=SMALL, pretrained=False, path=tmp_path)
    pth, pkl = write_pair(back, tmp_path/'back')
    modelzoo.files['wt103-bwd.tgz'] = archive({'lstm_bwd.pth': pth.read_bytes(), 'itos_wt103.pkl': pkl.read_bytes()}, 'wt103-bwd/')
    learn = lm_learner(dls, config=SMALL, backwards=True, path=tmp_path)
    assert modelzoo.asked == ['wt103-bwd.tgz']
    assert_same(known(learn), known(back))
    theirs = language_model_learner(dls, AWD_LSTM, config=SMALL, backwards=True, path=tmp_path)
    assert_same(weights_of(learn), weights_of(theirs))


def test_wt103_offline(fastai_home, monkeypatch, dls):
    monkeypatch.setattr(URLs, 'WT103_FWD', 'http://127.0.0.1:9/wt103-fwd.tgz')
    refuses(lambda: lm_learner(dls, config=SMALL), r'cannot fetch http://127.0.0.1:9/.* put the original archive at .*FASTAI_HOME.*'
                                                   r'pretrained=False, or a \(pth, pkl\) pair or a model folder', ConnectionError)


def test_wt103_cut_off(modelzoo, fastai_home, make):
    modelzoo.cut.add('wt103-fwd.tgz')
    refuses(lambda: make(pretrained='wt103'), 'broke off before its end; call again')
    modelzoo.cut.clear()
    assert make(pretrained='wt103').pretrained


def test_wt103_truncated(modelzoo, make):
    whole = modelzoo.files['wt103-fwd.tgz']
    modelzoo.files['wt103-fwd.tgz'] = whole[:len(whole)//2]
    refuses(lambda: make(pretrained='wt103'), 'was no good and is deleted: .*; call again')
    modelzoo.files['wt103-fwd.tgz'] = archive({'lstm_fwd.pth': b''})
    refuses(lambda: make(pretrained='wt103'), 'no .pkl file')
    modelzoo.files['wt103-fwd.tgz'] = whole
    assert make(pretrained='wt103').pretrained


class Evil:
    "Makes a folder when it is unpickled"
    def __init__(self, marker): self.marker = str(marker)
    def __reduce__(self): return os.mkdir, (self.marker,)


def torch_bytes(o, **kwargs):
    out = io.BytesIO()
    torch.save(o, out, **kwargs)
    return out.getvalue()

def evil_pkls(marker):
    yield pickle.dumps([Evil(marker)])
    yield pickle.dumps(['xxunk', Evil(marker)], protocol=0)
    yield pickle.dumps({'itos': Evil(marker)})

def evil_pths(marker, weights):
    yield torch_bytes({**weights, 'evil': Evil(marker)})
    yield torch_bytes({'model': weights, 'opt': {'state': [Evil(marker)], 'hypers': []}})
    yield torch_bytes(Evil(marker), _use_new_zipfile_serialization=False)
    yield pickle.dumps({**{k: 0 for k in weights}, 'evil': Evil(marker)})


def test_evil_pickles_are_refused_and_not_run(modelzoo, fastai_home, make, pair, base, tmp_path):
    good_pth, good_pkl = (o.read_bytes() for o in pair)
    marker, weights = tmp_path/'marker', weights_of(base)
    for pkl in evil_pkls(marker):
        modelzoo.files['wt103-fwd.tgz'] = wt103(good_pth, pkl)
        refuses(lambda: make(pretrained='wt103'), r'itos_wt103.pkl is no pickled list of words: it wants to run (posix|nt).mkdir')
        forget(fastai_home)
    for pth in evil_pths(marker, weights):
        modelzoo.files['wt103-fwd.tgz'] = wt103(pth, good_pkl)
        refuses(lambda: make(pretrained='wt103'), 'lstm_fwd.pth is damaged, or holds more than plain weights: write it anew')
        forget(fastai_home)
    assert not marker.exists()
    pickle.loads(next(evil_pkls(marker))) # it would have worked
    assert marker.exists()

def forget(home):
    for o in ('archive', 'models'): shutil.rmtree(home/o)


# ---- pairs of files

def test_pair_same_as_wt103(modelzoo, make, pair):
    assert_same(weights_of(make(pretrained=pair)), weights_of(make(pretrained='wt103')))
    assert_same(weights_of(make(pretrained=[str(o) for o in pair])), weights_of(make(pretrained=pair)))


def test_pair_with_the_same_vocabulary_is_taken_as_it_is(base, pair, other_dls, tmp_path):
    learn = lm_learner(other_dls, config=SMALL, pretrained=pair, path=tmp_path)
    assert_same(known(learn), known(base))


@pytest.mark.parametrize('with_opt', [True, False])
def test_pair_of_learn_save(base, pair, make, with_opt):
    file = base.save(f'saved-{with_opt}', with_opt=with_opt)
    assert (set(torch.load(file, weights_only=False)) == {'model', 'opt'}) == with_opt
    assert_same(weights_of(make(pretrained=(file, pair[1]))), weights_of(make(pretrained=pair)))


def test_pair_in_another_order_and_with_older_names(base, pair, make, tmp_path):
    weights = weights_of(base)
    want = weights_of(make(pretrained=pair))
    torch.save(dict(reversed(weights.items())), tmp_path/'order.pth')
    assert_same(weights_of(make(pretrained=(tmp_path/'order.pth', pair[1]))), want)
    torch.save({k.replace('.weight_hh_l0_raw', '.weight_hh_l0_before'): v for k,v in weights.items()}, tmp_path/'names.pth')
    assert_same(weights_of(make(pretrained=(tmp_path/'names.pth', pair[1]))), want)


def test_vocabulary_one_short(pair, base, make, tmp_path):
    n = len(base.dls.vocab)
    (tmp_path/'short.pkl').write_bytes(pickle.dumps(base.dls.vocab[:-1]))
    refuses(lambda: make(pretrained=(pair[0], tmp_path/'short.pkl')), f'weights are for {n} words, the vocabulary has {n-1}: they do not belong together')
    refuses(lambda: convert_pair(pair[0], tmp_path/'short.pkl', tmp_path/'out'), 'do not belong together')
    assert not (tmp_path/'out').exists()


def test_pair_whose_decoder_has_words_of_its_own(make, other_dls, tmp_path): # stock gives it the embeddings
    config = {**SMALL, 'tie_weights': False}
    learn = lm_learner(other_dls, config=config, pretrained=False)
    new = make(config=config, pretrained=write_pair(learn, tmp_path/'pair'))
    for name in ('0.encoder.weight', '1.decoder.weight', '1.decoder.bias'):
        old, fitted = weights_of(learn)[name], weights_of(new)[name]
        for w in ('film', '.'): assert torch.equal(fitted[new.dls.vocab.index(w)], old[other_dls.vocab.index(w)])


@pytest.mark.parametrize('config', [dict(n_hid=17), dict(emb_sz=13), dict(n_layers=1), dict(n_layers=3), dict(out_bias=False)])
def test_wrong_config(pair, make, config):
    refuses(lambda: make(pretrained=pair, config={**SMALL, **config}), 'does not fit the network')


def test_missing_pair(pair, make, tmp_path):
    refuses(lambda: make(pretrained=(tmp_path/'no.pth', pair[1])), r'no.pth is not there: pretrained takes a pair of files', FileNotFoundError)
    refuses(lambda: make(pretrained=(pair[0], tmp_path/'no.pkl')), r'no.pkl is not there', FileNotFoundError)
    refuses(lambda: make(pretrained=(pair[0], tmp_path)), 'is not there', FileNotFoundError)


@pytest.mark.parametrize('data', [b'', b'rubbish', b'\x80\x04.', b'PK\x03\x04', pickle.dumps(5), pickle.dumps(['a'])])
def test_damaged_pth(pair, make, tmp_path, data):
    (tmp_path/'a.pth').write_bytes(data)
    refuses(lambda: make(pretrained=(tmp_path/'a.pth', pair[1])), 'a.pth is damaged, or holds more than plain weights: write it anew')


class Call:
    "What a pickle makes by calling `f`"
    def __init__(self, f, *args): self.made = f, args
    def __reduce__(self): return self.made

SCALAR = np.float64(0).__reduce__()[0]

@pytest.mark.parametrize('much', [Call(SCALAR, np.dtype('V60000000')), Call(SCALAR, np.dtype('S60000000')), Call(SCALAR, np.dtype('f8')), Call(SCALAR, np.dtype('f8'), b'1234'),
                                  Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (10**6, 10**6), (10**6, 1), False)])
def test_a_small_pth_that_stands_for_much(pair, make, tmp_path, much):
    torch.save({**torch.load(pair[0]), 'much': much}, tmp_path/'a.pth')
    refuses(lambda: make(pretrained=(tmp_path/'a.pth', pair[1])), 'a.pth (is damaged, or holds more than plain weights|holds no AWD-LSTM language model)')


def test_a_small_pkl_that_stands_for_much(pair, make, tmp_path):
    "The unpickler in C would make room for 33 million things"
    (tmp_path/'a.pkl').write_bytes(b'\x80\x04]r' + (2**25).to_bytes(4, 'little') + b'.')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuses(lambda: make(pretrained=(pair[0], tmp_path/'a.pkl')), 'the weights are for .* words, the vocabulary has 0')
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000 # kB


def test_half_a_pth(pair, make, tmp_path):
    whole = pair[0].read_bytes()
    (tmp_path/'a.pth').write_bytes(whole[:len(whole)//2])
    refuses(lambda: make(pretrained=(tmp_path/'a.pth', pair[1])), 'a.pth is damaged')


@pytest.mark.parametrize('what', [[1, 2], torch.zeros(3), {}, {'a': 1}, {'model': 5}, {'model': [1]}, {'0.encoder.weight': [1, 2]},
                                  {'0.encoder.weight': torch.zeros(8)}, {'a': torch.zeros(8, 4)}])
def test_pth_of_something_else(pair, make, tmp_path, what):
    torch.save(what, tmp_path/'a.pth')
    refuses(lambda: make(pretrained=(tmp_path/'a.pth', pair[1])), 'a.pth holds no AWD-LSTM language model')
    for trust in (False, True):
        refuses(lambda: convert_pair(tmp_path/'a.pth', pair[1], tmp_path/'out', trust=trust), 'a.pth holds no AWD-LSTM language model')


@pytest.mark.parametrize('data', [b'', b'rubbish', pickle.dumps(5), pickle.dumps(('a',)), pickle.dumps(['a', 5]), pickle.dumps({'a': 1})])
def test_damaged_pkl(pair, make, tmp_path, data):
    (tmp_path/'a.pkl').write_bytes(data)
    refuses(lambda: make(pretrained=(pair[0], tmp_path/'a.pkl')), 'a.pkl is no pickled list of words')


@pytest.mark.parametrize('pretrained', [5, 2.5, b'wt103', ('a',), ('a', 'b', 'c'), {}])
def test_pretrained_is_nothing_known(make, pretrained):
    refuses(lambda: make(pretrained=pretrained), "it must be 'wt103', a model folder, 'starter', 'hf://OWNER/NAME', a .pth, pkl. pair of files, or False")


def test_fastais_own_way_to_pickles_is_closed(make, tmp_path):
    (tmp_path/'models').mkdir()
    (tmp_path/'models'/'evil.pkl').write_bytes(next(evil_pkls(tmp_path/'marker')))
    refuses(lambda: make(pretrained_fnames=['evil', 'evil']), r'give the two files as pretrained=\(pth, pkl\)', TypeError)
    assert not (tmp_path/'marker').exists()


# ---- model folders

def strong(learn):
    "`learn` with weights so large that each word tells on all that follow"
    with torch.no_grad():
        for p in learn.model.parameters(): p.mul_(7)
    return learn


@pytest.mark.parametrize('changes', [{}, dict(tie_weights=False), dict(out_bias=False), dict(n_layers=1), dict(n_layers=3, n_hid=20)])
def test_round_trip(make, other_dls, tmp_path, changes):
    learn = strong(make(config={**SMALL, **changes}))
    lm = load_lm(save_lm(learn, tmp_path/'model'), precision='fp32')
    assert lm.vocab == learn.dls.vocab
    for p in PROMPTS:
        want = logits(learn, p)
        with torch.no_grad(): have = lm.net.decoder(lm.net(lm.encode(p)[None])[0][0])
        assert have.shape == want.shape
        assert (have - want).abs().max() < 1e-5
        assert want.std() > 0.1 # no agreement of zeros
    again = lm_learner(learn.dls, pretrained=tmp_path/'model', path=tmp_path)
    assert_same(known(again), known(learn))
    fitted = lm_learner(other_dls, pretrained=str(tmp_path/'model'), path=tmp_path)
    with quiet(fitted): assert fitted.fit_two_stage(1, 1e-2, 1).stage.tolist() == [1, 2]


def test_folder_same_as_the_pair(make, pair, folder, dls):
    learn = lm_learner(dls, pretrained=folder)
    assert_same(weights_of(learn), weights_of(make(pretrained=pair)))
    assert learn.pretrained and learn.opt.frozen_idx == 2
    assert learn.model[0].encoder_dp.emb is learn.model[0].encoder
    assert learn.model[1].decoder.weight is learn.model[0].encoder.weight


def test_new_words_start_at_the_mean(folder, base, dls):
    learn = lm_learner(dls, pretrained=folder)
    old = base.model[0].encoder.weight
    new = [w for w in dls.vocab if w not in base.dls.vocab]
    assert len(new) > 20
    for w in new: assert torch.equal(learn.model[0].encoder.weight[dls.vocab.index(w)], old.mean(0))
    for w in ('film', '.', 'xxmaj'): assert torch.equal(learn.model[0].encoder.weight[dls.vocab.index(w)], old[base.dls.vocab.index(w)])


def test_config_json(make, tmp_path):
    learn = make(drop_mult=0.5)
    with quiet(learn): history = learn.fit_two_stage(1, 1e-2, 2, 1e-3)
    config = json.loads((save_lm(learn, tmp_path/'model')/'config.json').read_text())
    assert {k: config[k] for k in ('emb_sz', 'n_hid', 'n_layers', 'pad_token', 'tie_weights', 'out_bias', 'arch')} == dict(
        emb_sz=12, n_hid=16, n_layers=2, pad_token=1, tie_weights=True, out_bias=True, arch='AWD_LSTM')
    assert config['recipe'] == dict(frozen_epochs=1, frozen_lr=1e-2, epochs=2, lr=1e-3, pretrained=False, precision='fp32', alpha=2., beta=1., loss=learn.recipe['loss'])
    assert config['dropouts'] == {k: pytest.approx(0.5*SMALL[k]) for k in ('output_p', 'hidden_p', 'input_p', 'embed_p', 'weight_p')}
    assert config['metrics'] == pytest.approx(history.iloc[-1].drop('time').to_dict())
    assert config['data'] == dict(name='a table', reviews=27, held_out=3)
    assert set(config['versions']) == {'fastai', 'torch', 'spacy'} and config['tokenizer']['rules'][0] == 'fix_html'
    assert json.loads((tmp_path/'model'/'vocab.json').read_text()) == learn.dls.vocab
    assert sorted(o.name for o in (tmp_path/'model').iterdir()) == ['README.md', 'config.json', 'model.safetensors', 'vocab.json']


def test_a_table_with_odd_columns(make, tmp_path):
    "A metric of several numbers, one that is missing, and no times"
    learn = make()
    learn.history = pd.DataFrame([dict(epoch=0, valid_loss=2., each=np.array([.5, .25]), none=None, one=np.float32(.5))])
    assert read_config(save_lm(learn, str(tmp_path/'model')))['metrics'] == dict(epoch=0, valid_loss=2., each=[.5, .25], one=.5)


def test_the_folder_comes_back_as_a_path(make, tmp_path): assert save_lm(make(), str(tmp_path/'model')) == tmp_path/'model'


def test_save_lm_before_training(make, tmp_path):
    config = read_config(save_lm(make(), tmp_path/'model'))
    assert config['recipe'] is None and config['metrics'] is None


def test_save_lm_leaves_the_learner_as_it_was(make, tmp_path):
    learn = make()
    before = weights_of(learn)
    save_lm(learn, tmp_path/'model'), learn.generate('A', n_words=3)
    assert_same(weights_of(learn), before)
    assert learn.model.training and all(p.requires_grad for p in learn.model.parameters())
    with quiet(learn): learn.fit_one_cycle(1, 1e-2)
    assert not torch.equal(weights_of(learn)['1.decoder.bias'], before['1.decoder.bias'])


def test_save_over_an_older_model(base, make, tmp_path):
    save_lm(base, tmp_path/'model')
    learn = make()
    assert save_lm(learn, tmp_path/'model') == tmp_path/'model'
    assert load_lm(tmp_path/'model').vocab == learn.dls.vocab
    assert [o.name for o in tmp_path.iterdir()] == ['model']


def test_save_lm_does_not_overwrite_other_things(base, tmp_path):
    (tmp_path/'thesis.txt').write_text('mine')
    refuses(lambda: save_lm(base, tmp_path), 'name another folder, or empty it first', FileExistsError)
    refuses(lambda: save_lm(base, tmp_path/'thesis.txt'), 'is a file', FileExistsError)
    assert (tmp_path/'thesis.txt').read_text() == 'mine' and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize('config', [dict(n_hid=17), dict(emb_sz=13), dict(n_layers=3), dict(tie_weights=False)])
def test_config_against_the_folder(folder, dls, config):
    name, value = *config, *config.values()
    refuses(lambda: lm_learner(dls, pretrained=folder, config=config), f'config asks for {name}={value}, but the model in .* has .*: leave config out')


def test_dropouts_are_those_of_the_call_as_in_stock(make, dls, tmp_path, stock):
    folder = save_lm(make(drop_mult=.9), tmp_path/'m')
    for kwargs in ({}, dict(drop_mult=.5)): # `SMALL` has the post's dropouts
        assert repr(lm_learner(dls, pretrained=folder, **kwargs).model) == repr(make(**kwargs).model)
    assert lm_learner(dls, pretrained=folder).model[0].input_dp.p == stock().model[0].input_dp.p


def test_config_beside_the_folder(folder, dls):
    learn = lm_learner(dls, pretrained=folder, config=dict(n_hid=16, input_p=0.5), drop_mult=1.)
    assert learn.model[0].input_dp.p == 0.5 and learn.model[0].n_hid == 16


def test_missing_folder(make, tmp_path):
    refuses(lambda: make(pretrained=tmp_path/'nowhere'), 'no model folder at .*nowhere: give the folder that save_lm', FileNotFoundError)
    refuses(lambda: make(pretrained='wt104'), 'no model folder at wt104', FileNotFoundError)
    refuses(lambda: make(pretrained=tmp_path), 'is no complete model folder', FileNotFoundError)


@pytest.mark.parametrize('tok', [BaseTokenizer(), SpacyTokenizer('de'), SpacyTokenizer(special_toks=[])])
def test_other_tokenizers_stay_with_fastai(reviews, folder, tmp_path, tok):
    learn = lm_learner(lm_dls(reviews, bs=8, tok=tok, n_workers=0), config=SMALL, pretrained=False, path=tmp_path)
    for f in (lambda: save_lm(learn, tmp_path/'model'), lambda: learn.generate('A film'), lambda: language_model(learn)):
        refuses(f, 'only the default tokenizer is supported here: with another one, use learn.predict')
    assert not (tmp_path/'model').exists()
    assert learn.predict('A film', n_words=2, no_bar=True)


def test_other_rules_stay_with_fastai(reviews, tmp_path):
    block = DataBlock(TextBlock.from_df('text', is_lm=True, rules=[str.lower], n_workers=0), get_x=ColReader('text'), splitter=RandomSplitter(0.1, seed=42))
    learn = language_model_learner(block.dataloaders(pd.DataFrame({'text': reviews}), bs=8), AWD_LSTM, config=SMALL, pretrained=False)
    refuses(lambda: save_lm(learn, tmp_path/'model'), 'only the default tokenizer is supported here')


def test_backwards_stays_with_fastai(reviews, tmp_path):
    learn = lm_learner(lm_dls(reviews, bs=8, backwards=True), config=SMALL, pretrained=False, path=tmp_path)
    for f in (lambda: save_lm(learn, tmp_path/'model'), lambda: learn.generate('A film')): refuses(f, 'reads backwards .*: use learn.predict')
    assert learn.predict('A film', n_words=2, no_bar=True)


def test_only_awd_lstm_becomes_a_folder(make, tmp_path):
    learn = make()
    learn.model[0].n_dir = 2
    refuses(lambda: save_lm(learn, tmp_path/'model'), 'only AWD_LSTM, in one direction')


# ---- pairs into folders

def same_words(lm, learn, prompt='A film'): return (lm.next_word(prompt) - language_model(learn).next_word(prompt)).abs().max() < 1e-6


@pytest.mark.parametrize('trust', [False, True])
def test_convert_pair(base, pair, tmp_path, trust):
    lm = load_lm(convert_pair(*pair, tmp_path/'model', trust=trust), precision='fp32')
    for p in PROMPTS[:6]: assert same_words(lm, base, p)
    assert read_config(tmp_path/'model')['converted'] == ['base.pth', 'base.pkl']


@pytest.mark.parametrize('changes', [dict(tie_weights=False), dict(out_bias=False), dict(n_layers=1), dict(n_layers=3)])
def test_convert_pair_of_other_networks(make, tmp_path, changes):
    learn = make(config={**SMALL, **changes})
    lm = load_lm(convert_pair(*write_pair(learn, tmp_path/'pair'), tmp_path/'model'), precision='fp32')
    assert same_words(lm, learn)


def test_convert_pair_with_an_optimizer(base, pair, tmp_path):
    lm = load_lm(convert_pair(base.save('saved'), pair[1], tmp_path/'model'), precision='fp32')
    assert same_words(lm, base)


def test_convert_pair_runs_a_pickle_only_on_trust(pair, base, tmp_path):
    (tmp_path/'evil.pth').write_bytes(torch_bytes({'model': weights_of(base), 'opt': Evil(tmp_path/'marker')}))
    refuses(lambda: convert_pair(tmp_path/'evil.pth', pair[1], tmp_path/'model'), 'evil.pth is damaged, or holds more than plain weights')
    assert not (tmp_path/'marker').exists() and not (tmp_path/'model').exists()
    lm = load_lm(convert_pair(tmp_path/'evil.pth', pair[1], tmp_path/'model', trust=True), precision='fp32')
    assert (tmp_path/'marker').exists()
    assert same_words(lm, base)


def test_weights_of_another_kind(base, pair, make, tmp_path):
    for name,w in (('1.decoder.bias', torch.zeros(len(base.dls.vocab), dtype=torch.int64)), ('0.rnns.0.weight_hh_l0_raw', torch.zeros(4))):
        torch.save({**weights_of(base), name: w}, tmp_path/'a.pth')
        refuses(lambda: convert_pair(tmp_path/'a.pth', pair[1], tmp_path/'model'), 'a.pth holds no AWD-LSTM language model')
        refuses(lambda: make(pretrained=(tmp_path/'a.pth', pair[1])), 'a.pth')
    assert not (tmp_path/'model').exists()


def test_convert_pair_that_is_not_whole(base, pair, tmp_path):
    for gone in ('0.rnns.0.weight_hh_l0_raw', '0.rnns.1.module.bias_ih_l0', '1.decoder.weight'):
        torch.save({k: v for k,v in weights_of(base).items() if k != gone}, tmp_path/'a.pth')
        refuses(lambda: convert_pair(tmp_path/'a.pth', pair[1], tmp_path/'model'), 'a.pth holds no AWD-LSTM language model: .* is missing')
    (tmp_path/'a.pkl').write_bytes(pickle.dumps([f'w{i}' for i in range(len(base.dls.vocab))]))
    refuses(lambda: convert_pair(pair[0], tmp_path/'a.pkl', tmp_path/'model'), 'a.pkl is no vocabulary of fastai: xxunk, xxpad, xxbos missing')
    assert not (tmp_path/'model').exists()


def packed(file, to):
    "The zip file `file` with its members squeezed"
    with ZipFile(file) as a, ZipFile(to, 'w', ZIP_DEFLATED) as b:
        for o in a.namelist(): b.writestr(o, a.read(o))
    return to


def test_small_files_that_stand_for_large_ones(pair, base, tmp_path):
    "Zeros squeezed by zip; one number that is said to be a whole tensor"
    refuses(lambda: read_pair(packed(pair[0], tmp_path/'a.pth'), pair[1]), 'a.pth is damaged, or holds more than plain weights')
    torch.save({**weights_of(base), '0.encoder.weight': torch.zeros(1).expand(10**6, 10**6)}, tmp_path/'b.pth')
    refuses(lambda: read_pair(tmp_path/'b.pth', pair[1]), 'b.pth holds no AWD-LSTM language model')


def test_read_pair(pair, base):
    weights, vocab = read_pair(*pair)
    assert_same(weights, weights_of(base))
    assert vocab == base.dls.vocab


# ---- writing

def probs_of_predict(learn, prompt):
    "The next word's probabilities after a text or ids, as `LMLearner.predict` gets them"
    learn.model.reset()
    ids = learn.dls.test_dl([prompt]).items[0] if isinstance(prompt, str) else prompt
    with learn.no_bar(): return learn.get_preds(dl=[(ids[None],)])[0][0][-1]


def test_same_probabilities_as_predict(base):
    lm = language_model(base)
    assert len(set(PROMPTS)) == 20 and len({len(lm.encode(p)) for p in PROMPTS}) > 9
    seen = []
    for p in PROMPTS:
        want, have = probs_of_predict(base, p), lm.next_word(p)
        assert (have - want).abs().max() < 1e-5 and have.sum().item() == pytest.approx(1)
        seen.append(want)
    assert torch.stack(seen).std(0).max() > 1e-3 # the prompts matter


def test_same_probabilities_as_a_stock_learner(reviews, tmp_path):
    block = DataBlock(TextBlock.from_df('text', is_lm=True, n_workers=0), get_x=ColReader('text'), splitter=RandomSplitter(0.1, seed=42))
    dls = block.dataloaders(pd.DataFrame({'text': reviews[:30]}), bs=8, seq_len=40)
    learn = language_model_learner(dls, AWD_LSTM, config=SMALL, pretrained=False, path=tmp_path)
    with torch.no_grad(): learn.model[0].encoder.weight.mul_(8)
    lm = language_model(learn)
    for p in PROMPTS[1:8]: assert (lm.next_word(p) - probs_of_predict(learn, p)).abs().max() < 1e-5
    assert load_lm(save_lm(learn, tmp_path/'model'), precision='fp32').vocab == learn.dls.vocab
    assert learn.generate('A film', n_words=3, seed=1) == lm.generate('A film', n_words=3, seed=1)


def test_greedy_words_are_the_likeliest_of_predict(make):
    learn, seen = strong(make()), set()
    unk = learn.dls.vocab.index('xxunk')
    with torch.no_grad(): learn.model[1].decoder.bias[unk] += 20 # the likeliest word of all, and yet never written
    for p in ('I like this movie because', 'The', 'A film'):
        ids = learn.dls.test_dl([p]).items[0]
        for _ in range(8):
            probs = probs_of_predict(learn, ids)
            probs[unk] = 0
            ids = torch.cat([ids, probs.argmax()[None]])
        words = [learn.dls.vocab[i] for i in ids]
        seen.update(words[-8:])
        assert learn.generate(p, n_words=8, temperature=0, stop=False, raw=True) == [' '.join(w for w in words if w not in ('xxbos', 'xxpad'))]
    assert len(seen) > 8


def test_shapes(base):
    one = base.generate('I like', n_words=5)
    assert type(one) is list and len(one) == 1 and type(one[0]) is str
    assert len(base.generate('I like', n=3, n_words=5)) == 3
    many = base.generate(['I like', 'This movie', ''], n=2, n_words=5)
    assert [len(o) for o in many] == [2, 2, 2] and all(type(t) is str for o in many for t in o)
    assert base.generate([], n_words=5) == []
    assert len(base.generate(n_words=5)) == 1
    assert base.generate(['I like'], n=1, n_words=5)[0][0].startswith('I like')


def test_prompts_come_back(base):
    for p in ('I like this movie because', 'This movie is TERRIBLE', 'i like', "It isn't so, is it"):
        for text in base.generate(p, n=3, n_words=6, seed=0): assert text.startswith(p)


def test_seed(base):
    def write(**kwargs): return base.generate(['I like', 'The'], n=2, n_words=12, **kwargs)
    assert write(seed=1) == write(seed=1) != write(seed=2)
    assert write() != write()
    torch.manual_seed(3); a = write()
    torch.manual_seed(3); assert write() == a
    assert write(seed=1) == generate(language_model(base), ['I like', 'The'], n=2, n_words=12, seed=1)


@pytest.mark.parametrize('kwargs', [dict(n=0), dict(n=-1), dict(n_words=0), dict(n_words=-1), dict(temperature=-1.), dict(top_p=2.)])
def test_bad_controls(base, kwargs):
    refuses(lambda: base.generate('I like', **kwargs), f'{next(iter(kwargs))}')
