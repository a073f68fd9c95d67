"""Classifiers: stock fastai's batches, training and answers; runs that go on; folders of their own kind; what cannot be."""
import json
import random
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.text.all import (AWD_LSTM, CategoryBlock, ColReader, ColSplitter, DataBlock, GrandparentSplitter, TextBlock, accuracy, get_text_files,
                             load_learner, parent_label, set_seed, text_classifier_learner)
from fastai.text.models.awdlstm import awd_lstm_clas_config, awd_lstm_lm_config

from imdb_lm import checkpoint, classify
from imdb_lm.checkpoint import checkpoints
from imdb_lm.classifier import load_clas
from imdb_lm.classify import clas_dls, clas_learner, classifier, save_clas
from imdb_lm.learner import lm_learner, save_lm
from imdb_lm.loader import lm_dls
from imdb_lm.model import load_lm

pytestmark = pytest.mark.usefixtures('one_thread')
SIZES = {**awd_lstm_lm_config, 'emb_sz': 8, 'n_hid': 12, 'n_layers': 2}


@pytest.fixture(scope='module')
def lm_learn(corpus):
    set_seed(3)
    learn = lm_learner(lm_dls(corpus, bs=4, seq_len=30, min_freq=1), config=SIZES, pretrained=False)
    with torch.no_grad():
        for p in learn.model.parameters(): p.mul_(3) # strong opinions
    return learn


@pytest.fixture(scope='module')
def vocab(lm_learn): return list(lm_learn.dls.vocab)


@pytest.fixture(scope='module')
def dls(corpus, vocab): return clas_dls(corpus, vocab, bs=4, seq_len=24)


@pytest.fixture
def table(corpus):
    files = sorted([*(corpus/'train').rglob('*.txt'), *(corpus/'test').rglob('*.txt')])
    return pd.DataFrame(dict(review=[f.read_text() for f in files], opinion=[f.parent.name for f in files], held=['test' in f.parts for f in files]))


def quiet(learn, f, *args, **kwargs):
    with learn.no_bar(), learn.no_logging(): return f(*args, **kwargs)


def trained(dls, lm_learn, seed=1, **kwargs):
    set_seed(seed)
    learn = clas_learner(dls, lm_learn, **kwargs)
    quiet(learn, learn.fit_one_cycle, 2, 5e-2)
    return learn


# ---- as stock fastai does it

def same_batches(a, b):
    a, b = list(a), list(b)
    assert len(a) == len(b) > 1
    for (x,y),(x2,y2) in zip(a, b): assert torch.equal(x, x2) and torch.equal(y, y2) and type(x) is type(x2) and type(y) is type(y2)


def stock_dls(folder, vocab, **kwargs):
    return DataBlock(blocks=(TextBlock.from_folder(folder, vocab=vocab, seq_len=24, n_workers=1), CategoryBlock), get_y=parent_label,
                     get_items=lambda p: get_text_files(p, folders=['train', 'test']).sorted(), splitter=GrandparentSplitter(valid_name='test')).dataloaders(folder, num_workers=0, **kwargs)


def test_batches_of_a_folder(corpus, vocab, tmp_path):
    folder = shutil.copytree(corpus, tmp_path/'imdb') # stock writes its tokens beside it
    set_seed(5); theirs = stock_dls(folder, vocab, bs=4); theirs = [list(theirs.train), list(theirs.train), list(theirs.valid)]
    set_seed(5); ours = clas_dls(folder, vocab, bs=4, seq_len=24)
    for a,b in zip([list(ours.train), list(ours.train), list(ours.valid)], theirs, strict=True): same_batches(a, b)
    assert list(ours.vocab[1]) == ['neg', 'pos']


def test_batches_of_a_table(table, vocab):
    set_seed(5)
    theirs = DataBlock(blocks=(TextBlock.from_df('review', vocab=vocab, seq_len=24, n_workers=1), CategoryBlock), get_x=ColReader('text'), get_y=ColReader('opinion'),
                       splitter=ColSplitter('held')).dataloaders(table, bs=4, num_workers=0)
    theirs = [list(theirs.train), list(theirs.valid)]
    set_seed(5)
    ours = clas_dls(table, vocab, bs=4, seq_len=24, text_col='review', label_col='opinion', valid='held')
    for a,b in zip([list(ours.train), list(ours.valid)], theirs, strict=True): same_batches(a, b)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_an_epoch_may_begin_anywhere(dls, num_workers):
    dl = dls.train.new(num_workers=num_workers)
    set_seed(5); whole = [x.tolist() for x,_ in dl]
    order = dl.order
    for dl.first in (1, 3, len(dl)):
        dl.reorder(order)
        assert [x.tolist() for x,_ in dl] == whole[dl.first:]


def test_other_rows_of_a_table(table, vocab):
    "As stock has them: with labels, without, and one alone"
    dls = clas_dls(table, vocab, bs=4, seq_len=24, text_col='review', label_col='opinion', valid='held')
    some = table.iloc[:9]
    texts = [dls.test_dl([o]).dataset[0][0].tolist() for o in some.review]
    for rows in some, some[['review']]: assert [o[0].tolist() for o in dls.test_dl(rows).dataset] == texts
    labelled = dls.test_dl(some, with_labels=True).dataset
    assert [dls.vocab[1][y] for _,y in labelled] == some.opinion.tolist() and [x.tolist() for x,_ in labelled] == texts
    assert dls.test_dl([some.iloc[3]]).dataset[0][0].tolist() == texts[3]


def test_training_is_stocks(corpus, vocab, lm_learn, tmp_path):
    folder = shutil.copytree(corpus, tmp_path/'imdb')
    lm_learn.path = tmp_path
    lm_learn.save_encoder('encoder')
    sizes = {**awd_lstm_clas_config, **{k: SIZES[k] for k in ('emb_sz', 'n_hid', 'n_layers')}}
    set_seed(5)
    stock = text_classifier_learner(stock_dls(folder, vocab, bs=4), AWD_LSTM, seq_len=24, config=sizes, drop_mult=0.5, metrics=accuracy, pretrained=False, path=tmp_path)
    stock.load_encoder('encoder')
    for f,args in (stock.fit_one_cycle, (1, 2e-2)), (stock.freeze_to, (-2,)), (stock.fit_one_cycle, (1, slice(1e-2/2.6**3, 1e-2))), (stock.unfreeze, ()): quiet(stock, f, *args)
    set_seed(5)
    ours = clas_learner(clas_dls(folder, vocab, bs=4, seq_len=24), tmp_path/'models'/'encoder')
    quiet(ours, ours.fit_gradual, (1, 1, 0, 0))
    for (n,a),b in zip(stock.model.state_dict().items(), ours.model.state_dict().values(), strict=True): assert torch.equal(a, b), n


HOSTILE = ['xxbos xxrep 9 ! xxmaj', 'a', '!', '\u200b\u0000 \ud83d\ude00'.encode('utf-16', 'surrogatepass').decode('utf-16'), '\n\n<br /><br />', 'ABAB'*50, 'xxunk '*80, 'good '*1500,
           'word ' + 'AND AGAIN '*1000, 'e\u0301' * 40, '()' * 60, 'xxfld 1 9 xxfld 2 bad']


def test_answers_are_fastais(dls, lm_learn, reviews, tmp_path):
    learn = trained(dls, lm_learn)
    clas, texts = load_clas(save_clas(learn, tmp_path/'clas')), [*reviews[:6], *HOSTILE]
    labels, probs = clas.predict(texts, bs=5)
    for t,label,p in zip(texts, labels, probs):
        with learn.no_bar(): theirs = learn.predict(t)
        assert label == theirs[0] and torch.allclose(p, theirs[2], atol=1e-5), t[:40]
    assert probs[:,0].max() - probs[:,0].min() > 0.02 # it does tell them apart


def test_a_pad_in_a_text_is_no_end(dls, lm_learn):
    clas = classifier(trained(dls, lm_learn))
    assert clas.predict('good ' + 'xxpad '*300 + 'bad')[1].isfinite().all() and clas.predict('xxpad')[1].isfinite().all()


def test_a_head_of_three_layers_and_three_classes(table, vocab, lm_learn, tmp_path):
    table['opinion'] = [*(['neg', 'pos', 'so-so']*len(table))[:len(table)]]
    learn = trained(clas_dls(table, vocab, bs=4, text_col='review', label_col='opinion', valid='held'), lm_learn, lin_ftrs=[7, 5], ps=[0.1, 0.])
    clas = load_clas(save_clas(learn, tmp_path/'clas'))
    with learn.no_bar(): theirs = learn.predict(table.review[0])
    assert torch.allclose(clas.predict(table.review[0])[1], theirs[2], atol=2e-6) and clas.classes == ['neg', 'pos', 'so-so']


def test_numbers_are_classes_too(table, vocab):
    table['opinion'] = [float(o == 'pos') for o in table.opinion]
    assert list(clas_dls(table, vocab, bs=4, text_col='review', label_col='opinion', valid='held').vocab[1]) == ['0', '1']


# ---- a run goes on

class At(Callback):
    order = 200
    def __init__(self, stage, step): self.stage, self.step = stage, step
    def after_batch(self):
        if self.training and (self.learn.run_log.stage, self.train_iter) == (self.stage, self.step): raise RuntimeError('the power failed')


@pytest.mark.parametrize('every_batch', [True, False])
def test_an_interrupted_run_goes_on(corpus, vocab, lm_learn, tmp_path, monkeypatch, every_batch):
    def fit(seed=1, **kwargs):
        set_seed(seed)
        learn = clas_learner(clas_dls(corpus, vocab, bs=4, seq_len=24), lm_learn)
        return quiet(learn, learn.fit_gradual, **kwargs) is not None and learn
    alone = fit()
    if every_batch: monkeypatch.setattr(checkpoint, 'SHORTEST', 0); monkeypatch.setattr(checkpoint, 'SPARING', 0)
    with pytest.raises(RuntimeError, match='power'): fit(checkpoint=tmp_path/'run', cbs=At(4, 8)) # in the midst of an epoch
    random.seed(9); np.random.seed(9)
    learn = fit(seed=7, checkpoint=tmp_path/'run')
    for (n,a),b in zip(alone.model.state_dict().items(), learn.model.state_dict().values(), strict=True): assert torch.equal(a, b), n
    pd.testing.assert_frame_equal(alone.curve, learn.curve, check_exact=True)
    pd.testing.assert_frame_equal(alone.history.drop(columns='time'), learn.history.drop(columns='time'), check_exact=True)
    assert load_clas(tmp_path/'run'/'best').classes == ['neg', 'pos'] and len(checkpoints(tmp_path/'run')) == 2
    assert fit(seed=8, checkpoint=tmp_path/'run').history.equals(learn.history) # it is complete


def test_a_run_of_other_labels_is_another_run(table, vocab, lm_learn, tmp_path):
    def fit():
        learn = clas_learner(clas_dls(table, vocab, bs=4, text_col='review', label_col='opinion', valid='held'), lm_learn)
        quiet(learn, learn.fit_gradual, (1, 0, 0, 0), checkpoint=tmp_path/'run')
    fit()
    table['opinion'] = table.opinion.tolist()[::-1]
    with pytest.raises(ValueError, match='belongs to a run with other recipe'): fit()


# ---- folders

@pytest.fixture(scope='module')
def clas_folder(dls, lm_learn, tmp_path_factory): return save_clas(trained(dls, lm_learn), tmp_path_factory.mktemp('clas')/'judge')


def test_the_kinds_are_told_apart(clas_folder, lm_learn, dls, tmp_path):
    lm_folder = save_lm(lm_learn, tmp_path/'lm')
    with pytest.raises(ValueError, match='holds a classifier, not a language model: load_clas reads it'): load_lm(clas_folder)
    with pytest.raises(ValueError, match='holds a language model, not a classifier: load_lm reads it'): load_clas(lm_folder)
    with pytest.raises(FileExistsError, match='holds a language model: name another folder for the classifier'): save_clas(trained(dls, lm_learn), lm_folder)
    with pytest.raises(FileExistsError, match='holds a classifier: name another folder for the language model'): save_lm(lm_learn, clas_folder)
    with pytest.raises(ValueError, match='a kind of tomorrow'):
        later = shutil.copytree(clas_folder, tmp_path/'later')
        (later/'config.json').write_text(json.dumps({**json.loads((later/'config.json').read_text()), 'kind': 'kind of tomorrow'}))
        load_clas(later)
    assert load_lm(lm_folder) and load_clas(clas_folder)


def test_a_folder_that_is_not_whole(clas_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match='no model folder'): load_clas(tmp_path/'nothing')
    folder = shutil.copytree(clas_folder, tmp_path/'clas')
    config = json.loads((folder/'config.json').read_text())
    (folder/'config.json').write_text(json.dumps({**config, 'head': [49, 2]}))
    with pytest.raises(ValueError, match='does not fit.*head'): load_clas(folder)
    (folder/'config.json').write_text(json.dumps({**config, 'head': [1]*20_000 + [2]}))
    with pytest.raises(ValueError, match='config.json is damaged: head'): load_clas(folder)
    (folder/'config.json').write_text(json.dumps(config))
    (folder/'model.safetensors').write_bytes((folder/'model.safetensors').read_bytes()[:-9])
    with pytest.raises(ValueError, match='is damaged'): load_clas(folder)


def test_judging_needs_no_fastai(clas_folder):
    code = f'''
import sys
from imdb_lm.classifier import load_clas
clas = load_clas({str(clas_folder)!r})
print(clas.predict(["A good film."])[0][0] in clas.classes, len(clas.words_that_mattered("A good film.")), [m for m in ("fastai", "pandas", "spacy") if m in sys.modules])'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'True 4 []'


def test_words_that_mattered_add_up(clas_folder):
    clas, text = load_clas(clas_folder), 'A terrible movie, and the story was terrible too.'
    label, n = clas.predict(text)[0], 100
    for word,change in clas.words_that_mattered(text, n=n):
        ids = clas.encode(text)
        ids[ids == clas.o2i[word]] = 0
        a,b = (clas.logits([o]).double().softmax(1)[0, clas.classes.index(label)].logit() for o in (clas.encode(text), ids))
        assert change == pytest.approx((a - b).item(), abs=1e-4)
    changes = [abs(c) for _,c in clas.words_that_mattered(text, n=n)]
    assert changes == sorted(changes, reverse=True)
    for one,other in zip(clas.words_that_mattered(text, 'neg'), clas.words_that_mattered(text, 'pos')): assert one[1] == pytest.approx(-other[1], abs=1e-4)


@pytest.mark.parametrize('kind', [tuple, iter, np.array, pd.Series, lambda o: pd.Series(o, index=[7, 7, 3], dtype='string')], ids=['tuple', 'iter', 'array', 'Series', 'string'])
def test_texts_of_any_kind(clas_folder, reviews, kind):
    "A column of a filtered table, above all"
    clas = load_clas(clas_folder)
    labels, probs = clas.predict(reviews[:3])
    again, same = clas.predict(kind(reviews[:3]))
    assert again == labels and torch.equal(same, probs)
    assert clas.predict(pd.Series([], dtype=object))[0] == [] and clas.logits([]).shape == (0, 2)


# ---- what cannot be

@pytest.mark.parametrize('bs', [0, -1, 2.5, None, '3', True, float('nan')])
def test_bad_numbers(clas_folder, dls, bs):
    clas, match = load_clas(clas_folder), f'bs={bs!r} cannot be: it must be a whole number of at least 1'
    for f in (lambda: clas.predict(['good'], bs=bs), lambda: clas.predict('good', bs=bs), lambda: clas.words_that_mattered('good', bs=bs)):
        with pytest.raises(ValueError, match=match): f()
    with pytest.raises(ValueError, match=match.replace('bs', 'n', 1)): clas.words_that_mattered('good', n=bs)
    assert clas.predict(['good', 'bad'], bs=np.int64(1))[0] == clas.predict(['good', 'bad'])[0]


def test_words_of_one_text_only(clas_folder):
    for text in (['good'], None, 5):
        with pytest.raises(TypeError, match='words_that_mattered takes one text'): load_clas(clas_folder).words_that_mattered(text)


def test_bad_texts(clas_folder):
    clas = load_clas(clas_folder)
    for bad in '', '  \n', None, 3:
        with pytest.raises(ValueError, match='nothing to judge'): clas.predict(['good', bad])
    with pytest.raises(ValueError, match='nothing to judge'): clas.predict('')
    with torch.no_grad(): clas.head[-1].bias.fill_(float('nan'))
    with pytest.raises(ValueError, match='the classifier gives no finite numbers'): clas.predict('good')


def test_bad_corpora(table, corpus, vocab, tmp_path):
    def dls(o, **kwargs): return clas_dls(o, vocab, **{**dict(bs=4, text_col='review', label_col='opinion', valid='held'), **kwargs})
    with pytest.raises(ValueError, match="all texts are of one class, 'neg'"): dls(table[table.opinion == 'neg'])
    with pytest.raises(ValueError, match="the validation texts have none of class 'pos'"): dls(table[~table.held | (table.opinion == 'neg')])
    with pytest.raises(ValueError, match="the training texts have none of class 'pos'"): dls(table[table.held | (table.opinion == 'neg')])
    with pytest.raises(ValueError, match="no columns 'stars'.*label_col"): dls(table, label_col='stars')
    with pytest.raises(ValueError, match="row 1 has no label in 'opinion'"): dls(table.assign(opinion=['neg', None]*(len(table)//2)))
    with pytest.raises(ValueError, match='lower bs'): dls(table, bs=21)
    for name,bad in (('bs', 0), ('bs', True), ('bs', 4.), ('seq_len', -1), ('seq_len', '24'), ('seq_len', False)):
        with pytest.raises(ValueError, match=f'{name}={bad!r} cannot be: it must be a whole number of at least 1'): dls(table, **{name: bad})
    for bad in (0, 1, float('nan'), '0.1', None, True):
        with pytest.raises(ValueError, match=f'valid_pct={bad!r} cannot be: it must be a share between 0 and 1'): dls(table, valid_pct=bad)
    with pytest.raises(ValueError, match="the table has 2 columns 'opinion'"): dls(pd.concat([table, table[['opinion']]], axis=1))
    with pytest.raises(ValueError, match="label_col='review' is a column of texts"): dls(table, label_col='review')
    assert dls(table.rename(columns={'opinion': 'r'}), label_col='r').vocab[1] == dls(table).vocab[1] # a letter of the other column's name
    with pytest.raises(TypeError, match='vocab is of type DataLoaders: give a list of str'): clas_dls(table, dls(table), text_col='review', label_col='opinion', valid='held')
    with pytest.raises(ValueError, match='vocab is no vocabulary'): clas_dls(table, ['the', 'a'])
    with pytest.raises(ValueError, match="no columns 'label'"): clas_dls(['a text', 'another'], vocab)
    (tmp_path/'empty'/'train').mkdir(parents=True)
    with pytest.raises(ValueError, match='has no .txt files'): clas_dls(tmp_path/'empty', vocab)


def test_files_come_in_the_order_of_their_names_and_once(corpus, vocab, tmp_path):
    "Whatever the disk's order is, and where a link leads back"
    folder = tmp_path/'flat'
    for c in 'pos', 'neg': shutil.copytree(corpus/'train'/c, folder/c)
    (folder/'neg'/'again').symlink_to(folder, target_is_directory=True)
    files = classify._labelled_files(folder, None)
    assert files == sorted([*folder.glob('neg/*.txt'), *folder.glob('pos/*.txt')])
    assert {int(c) for _,c in clas_dls(folder, vocab, bs=4).train_ds} == {0, 1}


def test_numpys_numbers(table, vocab):
    made = clas_dls(table, vocab, bs=np.int64(4), seq_len=np.int32(24), text_col='review', label_col='opinion', valid='held')
    assert (type(made.bs), made.bs, made.train.seq_len) == (int, 4, 24)


@pytest.mark.parametrize('dtype', ['category', 'string', 'object'])
def test_a_filtered_table(table, vocab, dtype):
    "Its index has gaps, its columns are of pandas' own types; a category that no row has any more is no class"
    part = table.assign(opinion=table.opinion.astype(pd.CategoricalDtype(['neg', 'pos', 'gone']) if dtype == 'category' else dtype), held=table.held.astype('boolean'))[5:]
    part = part[part.index%3 != 0].sample(frac=1, random_state=1)
    made = clas_dls(part, vocab, bs=4, text_col='review', label_col='opinion', valid='held')
    assert list(made.vocab[1]) == ['neg', 'pos'] and part.index[0] != 0
    for ds,held in ((made.train_ds, False), (made.valid_ds, True)):
        assert [made.vocab[1][int(y)] for y in ds.tls[1]] == part.opinion[part.held == held].tolist()


def test_an_encoder_that_reads_the_other_way(corpus, reviews, tmp_path):
    "Its words have the same numbers, and nothing else would show it"
    back = lm_learner(lm_dls(reviews, bs=4, seq_len=30, min_freq=1, backwards=True), config=SIZES, pretrained=False)
    with pytest.raises(ValueError, match='the encoder reads backwards'): clas_learner(clas_dls(corpus, list(back.dls.vocab), bs=4), back)


def test_a_folder_without_a_test_set(corpus, vocab, tmp_path):
    folder = shutil.copytree(corpus/'train', tmp_path/'mine')
    dls = clas_dls(folder, vocab, bs=4, valid_pct=0.3)
    assert (len(dls.train_ds), len(dls.valid_ds), list(dls.vocab[1])) == (14, 6, ['neg', 'pos'])


def test_bad_encoders(dls, vocab, corpus, lm_learn, tmp_path):
    fewer = clas_dls(corpus, vocab[:-8], bs=4)
    with pytest.raises(ValueError, match=f'the encoder knows {len(vocab):,} words, the DataLoaders {len(vocab)-8:,}'): clas_learner(fewer, lm_learn)
    swapped = clas_dls(corpus, [*vocab[:9], vocab[10], vocab[9], *vocab[11:]], bs=4)
    with pytest.raises(ValueError, match=f'word 9 is {vocab[9]!r} for the encoder'): clas_learner(swapped, save_lm(lm_learn, tmp_path/'lm'))
    with pytest.raises(ValueError, match='config asks for n_hid=16'): clas_learner(dls, lm_learn, config=dict(n_hid=16))
    with pytest.raises(FileNotFoundError, match='encoder is a learner, a model folder, or a file'): clas_learner(dls, tmp_path/'none')
    torch.save(dict(a=torch.zeros(1)), tmp_path/'no.pth')
    with pytest.raises(ValueError, match='holds no AWD-LSTM encoder'): clas_learner(dls, tmp_path/'no.pth')
    (tmp_path/'bad.pth').write_bytes(b'x')
    with pytest.raises(ValueError, match='is damaged'): clas_learner(dls, tmp_path/'bad')
    for bad in ({'rnns.0.weight_hh_l0_raw': torch.zeros(4, 4)}, {'rnns.0.weight_hh_l0_raw': torch.zeros(4), 'encoder.weight': torch.zeros(len(vocab), 8)},
                {'rnns.0.weight_hh_l0_raw': torch.zeros(4, 4), 'encoder.weight': torch.zeros(4)}, {**lm_learn.model[0].state_dict(), 'rnns.1.module.bias_ih_l0': torch.zeros(3)},
                {k: v for k,v in lm_learn.model[0].state_dict().items() if k != 'rnns.1.module.bias_ih_l0'}):
        torch.save(bad, tmp_path/'no.pth')
        with pytest.raises(ValueError, match='holds no AWD-LSTM encoder') as e: clas_learner(dls, tmp_path/'no.pth')
        assert '\n' not in str(e.value)
    for bad in (5, True, dls, clas_learner(dls, lm_learn)):
        with pytest.raises(TypeError, match='encoder is of type .*: give a learner of lm_learner, a model folder, or a file of learn.save_encoder'): clas_learner(dls, bad)
    for bad in (None, 5, corpus):
        with pytest.raises(TypeError, match='dls is of type .*: give the DataLoaders that clas_dls makes'): clas_learner(bad, lm_learn)
    with pytest.raises(TypeError, match='these DataLoaders are for a language model: give those that clas_dls makes'): clas_learner(lm_learn.dls)
    for bad in (float('nan'), -1, 3, '0.5'):
        with pytest.raises(ValueError, match='drop_mult=.* cannot be'): clas_learner(dls, lm_learn, drop_mult=bad)
    with pytest.raises(TypeError, match='save_lm'): save_clas(lm_learn, tmp_path/'clas')


@pytest.mark.skipif(torch.cuda.is_available(), reason='of a learner on a CPU')
def test_the_learner_begins_frozen(dls, lm_learn):
    "All but the head; it gives memory back, and is not trained in a precision that there is not"
    learn = clas_learner(dls, lm_learn)
    before = [p.clone() for p in learn.model[0].module.parameters()]
    assert [type(o).__name__ for o in learn.cbs].count('TrimMemory') == 1
    quiet(learn, learn.fit, 1)
    assert all(torch.equal(a, b) for a,b in zip(before, learn.model[0].module.parameters(), strict=True))
    with pytest.raises(ValueError, match='fp16 needs an NVIDIA GPU'): learn.to_fp16().fit_gradual((1, 0, 0, 0))


def test_stages_that_cannot_be(dls, lm_learn):
    learn = clas_learner(dls, lm_learn)
    for epochs in (3, None, (1.5, 1, 1, 1), (True, 1, 1, 1), (-1, 0, 0, 0), 'abcd', (1, 1, 1, None)):
        with pytest.raises(ValueError, match='epochs=.* cannot be'): learn.fit_gradual(epochs)
    for lrs in (.1, None, (float('inf'), 1, 1, 1), (float('nan'), 1, 1, 1), ('a', 1, 1, 1), (True, 1, 1, 1), (0, 1, 1, 1), 'abcd'):
        with pytest.raises(ValueError, match='lrs=.* cannot be'): learn.fit_gradual(lrs=lrs)
    with pytest.raises(ValueError, match='2 numbers of epochs and 4 rates'): learn.fit_gradual((1, 1))
    assert not hasattr(learn, 'recipe') and quiet(learn, learn.fit_gradual, np.array([1, 0, 0, 0]), np.full(4, 1e-2)).stage.tolist() == [1]
    assert learn.recipe['epochs'] == [1, 0, 0, 0]


def test_without_an_encoder_all_is_trained(dls):
    learn = clas_learner(dls, config=dict(emb_sz=8, n_hid=12, n_layers=2))
    before = learn.model[0].module.encoder.weight.clone()
    quiet(learn, learn.fit_gradual, (1, 0, 0, 0))
    assert not torch.equal(before, learn.model[0].module.encoder.weight)


def test_the_learner_is_fastais(dls, lm_learn, tmp_path):
    learn = trained(dls, lm_learn)
    learn.path = tmp_path
    with learn.no_bar():
        learn.export(tmp_path/'clas.pkl')
        again = load_learner(tmp_path/'clas.pkl')
        assert torch.equal(again.predict('A good film.')[2], learn.predict('A good film.')[2])
        (probs, y), acc = learn.get_preds(), learn.validate()[1]
    assert ((probs.argmax(1) == y).float().mean().item()) == pytest.approx(acc)


def test_the_starter_is_an_encoder(corpus):
    starter = load_lm('starter', precision='fp32')
    learn = clas_learner(clas_dls(corpus, starter.vocab, bs=4, seq_len=24), 'starter')
    assert torch.equal(learn.model[0].module.encoder.weight.cpu(), starter.net.encoder.weight.cpu())
