"""Batches: the same as stock fastai's from every kind of source, nothing left behind, and clear words for what is no corpus."""
import gc
import os
import pickle
import random
import shutil
import subprocess
import sys
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_corpus
from fastai.data.block import DataBlock
from fastai.data.core import DataLoaders
from fastai.data.external import fastai_path
from fastai.data.transforms import ColReader, RandomSplitter, get_text_files
from fastai.text.core import BaseTokenizer, SpacyTokenizer
from fastai.text.data import LMDataLoader, LMTensorText, Numericalize, TextBlock
from fastai.text.models.awdlstm import awd_lstm_lm_config
from fastcore.basics import maps

import imdb_lm.loader as loader
from imdb_lm.cache import Corpus
from imdb_lm.data import review_files
from imdb_lm.learner import lm_learner
from imdb_lm.loader import as_source, dls_summary, held_out_texts, lm_dblock, lm_dls, table_texts

small_dls = partial(lm_dls, bs=4, seq_len=60, min_freq=2)
SIZES = {**awd_lstm_lm_config, 'emb_sz': 8, 'n_hid': 12, 'n_layers': 2}


def batches(dl): return [(x.tolist(), y.tolist()) for x,y in dl]

def in_order(dls): return dls.train.new(shuffle=False)

def all_batches(dls): return batches(in_order(dls)), batches(dls.valid)

def by_count(counter, vocab): return [counter[w] for w in vocab[9:]]

def state(folder): return {o: (o.lstat().st_mtime_ns, o.lstat().st_size) for o in [folder, *folder.rglob('*')]}


def refuses(f, match, exc=ValueError):
    with pytest.raises(exc, match=match) as e: f()
    assert '\n' not in str(e.value)


# ---- equality with stock fastai

@pytest.fixture(scope='module', params=['bundled', 'imdb'])
def few(request, tmp_path_factory):
    "Some hundred files in IMDb's layout: bundled ones, and real ones where they are at hand"
    folder = tmp_path_factory.mktemp('few')/'imdb'
    if request.param == 'bundled': return write_corpus(folder, 40)
    imdb = Path(os.environ.get('IMDB_LM_DATA') or fastai_path('data')/'imdb')
    if not imdb.is_dir(): pytest.skip(f'IMDb is not at {imdb}: set IMDB_LM_DATA to its folder, or call untar_imdb()')
    for part in ('train/pos', 'train/neg', 'test/pos', 'test/neg', 'unsup'):
        (folder/part).mkdir(parents=True)
        for o in sorted((imdb/part).glob('*.txt'))[:40]: shutil.copy(o, folder/part)
    return folder


post_files = partial(get_text_files, folders=['train', 'test', 'unsup'])


@pytest.fixture(scope='module')
def stock(few):
    "The post's DataBlock on `few`, by stock fastai"
    block = DataBlock(blocks=TextBlock.from_folder(few, is_lm=True, n_workers=0), get_items=post_files, splitter=RandomSplitter(0.1, seed=42))
    return block.dataloaders(few, path=few, bs=8, seq_len=72)


def test_same_as_the_post(few, stock):
    dls = lm_dblock(few, get_items=post_files).dataloaders(few, path=few, bs=8, seq_len=72)
    assert len(dls.train_ds) + len(dls.valid_ds) >= 200
    assert dls.train_ds.items == stock.train_ds.items
    assert dls.valid_ds.items == stock.valid_ds.items
    ours, theirs = dls.train_ds.tokenizer.counter, stock.train_ds.tokenizer.counter
    assert ours == theirs
    assert set(dls.vocab) == set(stock.vocab) and len(dls.vocab) == len(stock.vocab)
    assert dls.vocab[:9] == stock.vocab[:9]
    assert by_count(ours, dls.vocab) == by_count(theirs, stock.vocab)
    for i in range(0, len(dls.train_ds), 9):
        assert [dls.vocab[o] for o in dls.train_ds[i][0]] == [stock.vocab[o] for o in stock.train_ds[i][0]]


def test_same_batches_as_the_post(few, stock):
    dls = lm_dblock(few, get_items=post_files, vocab=stock.vocab).dataloaders(few, path=few, bs=8, seq_len=72)
    assert (len(dls.train), len(dls.valid)) == (len(stock.train), len(stock.valid))
    train, valid = all_batches(dls)
    assert len(train) > 30 and len(valid) > 3
    assert (train, valid) == all_batches(stock)
    random.seed(3); shuffled = batches(dls.train)
    random.seed(3); assert shuffled == batches(stock.train)
    assert shuffled != train
    assert dls.path == stock.path and isinstance(dls.train, LMDataLoader)
    for got,want in zip(dls.one_batch(), stock.one_batch()): assert type(got) is type(want) and got.dtype == want.dtype


def test_same_as_the_posts_table(few):
    table = pd.DataFrame({'review': [o.read_text(encoding='utf-8') for o in review_files(few)], 'label': 1})
    block = DataBlock(TextBlock.from_df('review', is_lm=True, n_workers=0), get_x=ColReader('text'), splitter=RandomSplitter(0.1, seed=42))
    stock = block.dataloaders(table, bs=8, seq_len=72)
    dls = lm_dls(table, text_col='review', bs=8, seq_len=72)
    assert dls.train_ds.items.index.tolist() == stock.train_ds.items.index.tolist()
    assert dls.valid_ds.items.index.tolist() == stock.valid_ds.items.index.tolist()
    assert dls.train_ds.tokenizer.counter == stock.train_ds.tokenizer.counter
    assert dls.vocab == stock.vocab
    assert all_batches(dls) == all_batches(stock)


def test_another_tokenizer_goes_fastais_own_way(corpus, tmp_path, monkeypatch):
    def never(*args): raise AssertionError('the fast tokenizer was called')
    monkeypatch.setattr(loader, 'tokenize', never)
    folder = shutil.copytree(corpus, tmp_path/'imdb') # stock writes beside it
    block = DataBlock(TextBlock.from_folder(folder, is_lm=True, n_workers=0, tok=BaseTokenizer(), min_freq=2),
                      get_items=review_files, splitter=RandomSplitter(0.1, seed=42))
    stock = block.dataloaders(folder, bs=4, seq_len=60)
    for tok in (BaseTokenizer(), BaseTokenizer):
        assert small_dls(folder, tok=tok, n_workers=0).train_ds.tokenizer.counter == stock.train_ds.tokenizer.counter
        dls = small_dls(folder, tok=tok, n_workers=0, vocab=stock.vocab)
        assert all_batches(dls) == all_batches(stock)
        assert dls.test_dl(["It isn't."]).items[0].tolist() == stock.test_dl(["It isn't."]).items[0].tolist()
    assert "n't" not in dls.vocab


class Learned(BaseTokenizer):
    "Learns what it knows from the texts of its `setup`, as SentencePiece does"
    known = None
    def setup(self, items, rules=None):
        if self.known is None: self.known = {w for t in maps(*(rules or []), items) for w in t.split()}

    def __call__(self, items):
        if self.known is None: self.setup(items)
        return ([w if w in self.known else '?' for w in t.split()] for t in items)


def test_a_tokenizer_learns_from_all_texts(corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path/'imdb')
    stock = DataBlock(TextBlock.from_folder(folder, is_lm=True, n_workers=0, tok=Learned(), min_freq=2),
                      get_items=review_files, splitter=RandomSplitter(0.1, seed=42)).dataloaders(folder, bs=4, seq_len=60)
    dls = small_dls(folder, tok=Learned(), n_workers=0, vocab=stock.vocab)
    assert all_batches(dls) == all_batches(stock) and dls.train_ds.tokenizer.counter['?'] == 0


def test_fastais_word_tokenizer_gives_the_same_as_the_fast_one(reviews):
    slow, fast = small_dls(reviews, tok=SpacyTokenizer(), n_workers=2), small_dls(reviews)
    assert slow.vocab == fast.vocab and all_batches(slow) == all_batches(fast)


# ---- the sources

def test_defaults_are_the_posts(few):
    dls = lm_dls(few)
    x,y = dls.one_batch()
    assert x.shape == y.shape == (128, min(72, dls.train.bl))
    assert len(dls.valid_ds) == len(review_files(few))//10
    assert dls.path == few
    assert min(dls.train_ds.tokenizer.counter[w] for w in dls.vocab[9:] if w != 'xxfake') == 3


def test_all_sources_give_the_same_batches(corpus, reviews, tmp_path):
    want = small_dls(corpus)
    table = pd.DataFrame({'n': range(len(reviews)), 'text': reviews})
    table.to_csv(tmp_path/'a.csv', index=False)
    table.to_csv(tmp_path/'a.tsv', index=False, sep='\t')
    table.to_json(tmp_path/'a.jsonl', orient='records', lines=True)
    backwards = table.set_index(table.index[::-1]) # an index is no order
    for source in (str(corpus), reviews, tuple(reviews), table, backwards, tmp_path/'a.csv', str(tmp_path/'a.tsv'), tmp_path/'a.jsonl'):
        dls = small_dls(source)
        assert dls.vocab == want.vocab
        assert all_batches(dls) == all_batches(want)


def test_parquet(reviews, tmp_path):
    pytest.importorskip('pyarrow')
    pd.DataFrame({'text': reviews}).to_parquet(tmp_path/'a.parquet')
    assert all_batches(small_dls(tmp_path/'a.parquet')) == all_batches(small_dls(reviews))


@pytest.mark.parametrize('index', [range(100, 160), range(59, -1, -1), [0]*60])
def test_an_index_is_no_order(reviews, index):
    "Of a table that was filtered, sorted or put together; whether it goes through `as_source` or not"
    table, want = pd.DataFrame({'text': reviews, 'label': 'a'}, index=index), small_dls(reviews)
    block = lm_dblock(table, min_freq=2)
    for dls in (small_dls(table), block.dataloaders(table, bs=4, seq_len=60)): assert dls.vocab == want.vocab and all_batches(dls) == all_batches(want)


def test_a_dataframe_is_left_as_it_was(reviews):
    table = pd.DataFrame({'review': reviews, 'tokens': 1}, index=range(len(reviews), 0, -1))
    copy = table.copy()
    small_dls(table, text_col='review').one_batch()
    pd.testing.assert_frame_equal(table, copy)


def test_any_folder_of_texts(reviews, tmp_path):
    for i,text in enumerate(reviews): (tmp_path/f'{i:02}.txt').write_text(text, encoding='utf-8')
    (tmp_path/'notes.md').write_bytes(b'\xff is no review')
    assert all_batches(small_dls(tmp_path)) == all_batches(small_dls(reviews))


# ---- fastai's DataLoaders, in all the ways that people use them

def either(corpus, reviews):
    "`DataLoaders` of a folder, a list, a table"
    return small_dls(corpus), small_dls(reviews), small_dls(pd.DataFrame({'review': reviews, 'n': 1}), text_col='review')


def test_dataloaders(corpus, reviews, capsys):
    for dls in either(corpus, reviews):
        assert isinstance(dls, DataLoaders)
        x,y = dls.one_batch()
        assert type(x) is LMTensorText and x.shape == y.shape == (4, 60)
        assert x[:,1:].tolist() == y[:,:-1].tolist()
        assert type(dls.vocab) is list and {type(w) for w in dls.vocab} == {str}
        assert len(dls.vocab) % 8 == 0 and dls.vocab[:3] == ['xxunk', 'xxpad', 'xxbos']
        assert len(batches(dls.train)) == len(dls.train) and len(batches(dls.valid)) == len(dls.valid)
        dls.show_batch(max_n=2)
        dls.valid.show_batch(max_n=1)
        assert 'xxbos' in capsys.readouterr().out
        other = dls.train.new(bs=2, seq_len=7)
        assert other.one_batch()[0].shape == (2, 7)
        assert dls.new(dls.train_ds).bs == 4
        assert dls.decode((x, y))[0].shape == x.shape


def test_rows_of_a_batch_go_on_in_the_next_one(reviews):
    dl = in_order(small_dls(reviews))
    rows = torch.cat([x for x,_ in dl], 1)
    stream = torch.cat([o[0] for o in dl.dataset])
    assert rows.flatten().tolist() == stream[:rows.numel()].tolist()
    assert len(stream) - rows.numel() <= 4


def test_test_dl_and_predict(corpus, reviews, tmp_path):
    for dls in either(corpus, reviews):
        ids = dls.test_dl(['The film, a bad one.']).items[0].tolist()
        assert [dls.vocab[i] for i in ids] == ['xxbos', 'xxmaj', 'the', 'film', ',', 'a', 'bad', 'one', '.']
        x,_ = dls.test_dl(reviews[:5], bs=2).one_batch()
        assert [dls.vocab[i] for i in x[0,:2]][0] == 'xxbos' and x.shape == (2, 60)
        learn = lm_learner(dls, config=SIZES, pretrained=False, path=tmp_path)
        with learn.no_bar(): assert learn.predict('The film', n_words=4).lower().startswith('the film ')
        with learn.no_bar(): assert learn.lr_find(num_it=12, show_plot=False).valley > 0
        with learn.no_bar(): assert len(learn.validate()) == 3


def test_test_dl_of_another_table(reviews):
    "With the columns of the first; one of them may be called as the loader's own"
    table = pd.DataFrame({'review': reviews, 'place': range(60), 'n': 1})
    for cols in ('review', ['n', 'review'], 'place'):
        if cols == 'place': table = table.drop(columns='place').rename(columns={'review': 'place'})
        dls = small_dls(table, text_col=cols, min_freq=1)
        test = dls.test_dl(table[5:])
        want = [dls.train_ds.tokenizer.corpus[i] for i in range(5, 60)]
        assert [[dls.vocab[i] for i in o[0]] for o in test.dataset] == want
        assert batches(test)[0][0] == batches(dls.test_dl(table_texts(table, cols)[5:]))[0][0]
    refuses(lambda: dls.test_dl(table[['n']]).one_batch(), "no columns 'place'; it has 'n'")


def test_rows_whose_texts_are_elsewhere(reviews):
    "A row keeps a place in a corpus: it is neither read in another one, nor there in a pickle"
    a, b = small_dls(reviews[:30]), small_dls(reviews[30:])
    refuses(lambda: b.test_dl(a.valid_ds.items).one_batch(), 'rows of other DataLoaders, or of some that were pickled: give rows with their texts')
    again = pickle.loads(pickle.dumps(a))
    assert batches(again.valid) == batches(a.valid)
    for f in (lambda: again.train_ds[0], lambda: again.valid.new(bs=2)): refuses(f, 'give rows with their texts')
    assert again.test_dl(reviews[:2]).items[0].tolist() == a.test_dl(reviews[:2]).items[0].tolist()


def test_test_dl_of_other_files(corpus, tmp_path):
    dls = small_dls(corpus)
    (tmp_path/'new.txt').write_text('A new film.')
    for source in (tmp_path/'new.txt', review_files(corpus)[0]):
        want = dls.test_dl([source.read_text(encoding='utf-8')]).items[0].tolist()
        assert dls.test_dl([source]).items[0].tolist() == want


# ---- the vocabulary

def test_vocab_can_be_reused(reviews):
    dls = small_dls(reviews[:30])
    other = small_dls(reviews[30:], vocab=dls.vocab)
    assert other.vocab == dls.vocab
    some = other.train_ds[0][0].tolist()
    assert max(some) < len(dls.vocab) and 0 in some
    assert [dls.vocab[i] for i in some if i] == [w for w in loader.tokenize([reviews[30 + other.train_ds.items.index[0]]])[0] if w in set(dls.vocab)]


@pytest.mark.parametrize('min_freq', [1, 2, 5])
def test_min_freq(reviews, min_freq):
    dls = small_dls(reviews, min_freq=min_freq)
    counter = dls.train_ds.tokenizer.counter
    assert set(dls.vocab[9:]) - {'xxfake'} == {w for w,n in counter.items() if n >= min_freq} - set(dls.vocab[:9])


@pytest.mark.parametrize('kind', [tuple, iter, np.array, pd.Series])
def test_any_list_is_a_vocab(reviews, kind):
    vocab = small_dls(reviews).vocab
    dls = small_dls(reviews, vocab=kind(vocab))
    assert type(dls.vocab) is list and dls.vocab == vocab and all_batches(dls) == all_batches(small_dls(reviews))

def test_max_vocab(reviews):
    dls = small_dls(reviews, max_vocab=50)
    counter = dls.train_ds.tokenizer.counter
    assert len(set(dls.vocab) - {'xxfake'}) == 50
    assert min(counter[w] for w in dls.vocab[9:50]) >= max(n for w,n in counter.items() if w not in dls.vocab)


def test_held_out_reviews_count_too(reviews):
    only = 'zyzzyva'
    held_out = held_out_texts(reviews)
    texts = [f'{t} A {only} is a {only}.' if t == held_out[0] else t for t in reviews]
    assert only in small_dls(texts).vocab and only in small_dls(texts, valid=[reviews.index(held_out[0])]).vocab


def test_backwards_reverses_each_review(corpus, reviews):
    for source in (corpus, reviews):
        there, back = small_dls(source), small_dls(source, backwards=True)
        assert back.vocab == there.vocab
        for a,b in zip(there.train_ds, back.train_ds): assert a[0].tolist() == b[0].tolist()[::-1]
        assert all_batches(there) != all_batches(back)


# ---- what is held out

def test_the_seed_chooses(corpus, reviews):
    def held_out(**kwargs): return small_dls(corpus, **kwargs).valid_ds.items
    assert held_out() == held_out(seed=42) != held_out(seed=43)
    assert len(held_out(valid_pct=0.5)) == 30
    assert held_out_texts(corpus) == held_out_texts(reviews) == [o.read_text(encoding='utf-8') for o in held_out()]
    assert held_out_texts(corpus, 0.3, 7) == [o.read_text(encoding='utf-8') for o in held_out(valid_pct=0.3, seed=7)]
    assert held_out_texts(corpus, 1) == reviews
    refuses(lambda: held_out_texts(reviews[:5]), 'of 5 reviews none is left for validation')
    for o in (0, 2, float('nan'), None): refuses(lambda: held_out_texts(reviews, o), 'valid_pct=.* cannot be')


def test_the_order_on_the_disk_does_not_matter(corpus, tmp_path, monkeypatch):
    files = [o.relative_to(corpus) for o in review_files(corpus)]
    for name,order in dict(a=files, b=files[::-1]).items():
        for o in order:
            (tmp_path/name/o).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(corpus/o, tmp_path/name/o)
    walk = os.walk
    def from_behind(*args, **kwargs):
        for at,folders,files in walk(*args, **kwargs):
            folders.reverse()
            yield at, folders, files[::-1]
    a = small_dls(tmp_path/'a')
    monkeypatch.setattr(os, 'walk', from_behind)
    b = small_dls(tmp_path/'b')
    assert [o.relative_to(tmp_path/'a') for o in a.valid_ds.items] == [o.relative_to(tmp_path/'b') for o in b.valid_ds.items]
    assert a.vocab == b.vocab and all_batches(a) == all_batches(b)


@pytest.mark.parametrize('valid,n', [('test', 20), ('train/pos', 10), (Path('unsup'), 20)])
def test_a_folder_is_held_out(corpus, valid, n):
    dls = small_dls(corpus, valid=valid)
    assert len(dls.valid_ds) == n and len(dls.train_ds) == 60 - n
    assert all(corpus/valid in o.parents for o in dls.valid_ds.items)
    assert not any(corpus/valid in o.parents for o in dls.train_ds.items)


def test_a_column_is_held_out(reviews):
    table = pd.DataFrame({'text': reviews, 'tokens': [i%5 == 3 for i in range(60)]})
    dls = small_dls(table, valid='tokens')
    assert dls.valid_ds.items.index.tolist() == list(range(3, 60, 5))


@pytest.mark.parametrize('valid', [list, np.array, tuple, iter, torch.tensor, lambda o: pd.Series(o, index=[7, 8, 9])])
def test_indices_are_held_out(corpus, reviews, valid):
    valid = valid([5, 3, 59])
    files = review_files(corpus)
    assert small_dls(corpus, valid=valid).valid_ds.items == [files[i] for i in (5, 3, 59)]
    dls = small_dls(reviews, valid=[5, 3, 59])
    assert dls.valid_ds.items.index.tolist() == [5, 3, 59] and len(dls.train_ds) == 57


def test_summary(reviews):
    dls = small_dls(reviews, max_vocab=50)
    counter = dls.train_ds.tokenizer.counter
    known = sum(n for w,n in counter.items() if w in dls.vocab)
    assert dls_summary(dls) == dict(reviews=60, held_out=6, tokens=counter.total(), vocab=len(dls.vocab), unknown=pytest.approx(1 - known/counter.total()), duplicates=0)


# ---- nothing stale, nothing left behind

def test_changes_are_seen(corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path/'imdb')
    def counter(): return small_dls(folder).train_ds.tokenizer.counter
    first, some = counter(), review_files(folder)[7]
    text = some.read_text(encoding='utf-8')
    some.write_text(text[:-5] + ' zyz.', encoding='utf-8') # as long as before
    assert first['zyz'] == 0 and counter()['zyz'] == 1
    some.write_text(text, encoding='utf-8')
    (folder/'unsup'/'new.txt').write_text('zyz, zyz')
    assert counter()['zyz'] == 2
    (folder/'unsup'/'new.txt').unlink()
    assert counter() == first
    some.unlink()
    assert counter().total() == first.total() - len(loader.tokenize([text])[0])


def test_nothing_is_written(corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path/'imdb')
    folders = [tmp_path, folder, *(o for o in folder.rglob('*') if o.is_dir())]
    for o in folders: o.chmod(0o555)
    try:
        before = state(tmp_path)
        dls = small_dls(folder)
        batches(dls.train), batches(dls.valid), dls.test_dl(['A film.']).items
        small_dls(folder, tok=BaseTokenizer(), n_workers=0)
        assert state(tmp_path) == before
    finally:
        for o in folders: o.chmod(0o755)


def test_a_home_that_cannot_be_written(tmp_path):
    "In a container, say: fastai cannot even write its settings there"
    (tmp_path/'file').touch()
    code = "from imdb_lm.loader import lm_dls; print(len(lm_dls([f'The film {i} is good.' for i in range(60)], bs=4).train_ds))"
    done = subprocess.run([sys.executable, '-c', code], env={**os.environ, 'FASTAI_HOME': str(tmp_path/'file'/'home')}, capture_output=True, text=True)
    assert done.stdout == '54\n' and 'the tokens are kept for this run only; set FASTAI_HOME to keep them' in done.stderr, done.stderr


def test_the_home_where_nothing_is_set(tokens_folder, monkeypatch):
    def unwritable(): raise PermissionError
    monkeypatch.setattr(loader, 'fastai_cfg', unwritable)
    monkeypatch.delenv('FASTAI_HOME', raising=False)
    assert tokens_folder() == Path.home()/'.fastai'/'tokens'


# ---- bad input

def test_no_folder(tmp_path):
    refuses(lambda: lm_dls(tmp_path/'nowhere'), 'nowhere is not there: give a folder', FileNotFoundError)

def test_empty_folder(tmp_path): refuses(lambda: lm_dls(tmp_path), 'no .txt files .it holds nothing.: give a folder')

def test_no_texts_in_the_folder(tmp_path):
    (tmp_path/'a.doc').touch()
    refuses(lambda: lm_dls(tmp_path), r'no .txt files .it holds a.doc.: give a folder')

def test_unknown_suffix(tmp_path):
    for name in ('a.doc', 'a.json', 'a'):
        (tmp_path/name).touch()
        refuses(lambda: lm_dls(tmp_path/name), f'{name} is no table that can be read: use one of .csv, .tsv, .parquet, .jsonl')


@pytest.fixture
def spoilt(corpus, tmp_path):
    "A copy of the corpus, into which a file can be put"
    folder = shutil.copytree(corpus, tmp_path/'imdb')
    def spoil(data):
        (folder/'unsup'/'spoilt.txt').write_bytes(data)
        return folder
    return spoil


def test_not_utf8(spoilt, tmp_path):
    folder = spoilt('A film by René Clair.'.encode('latin1'))
    refuses(lambda: small_dls(folder), "spoilt.txt has the byte 0xe9, which is not UTF-8, at byte 13: convert the file to UTF-8, or pass errors='replace'")
    dls = small_dls(folder, errors='replace', min_freq=1)
    assert dls.train_ds.tokenizer.counter['\ufffd'] == 1
    shutil.copy(folder/'unsup'/'spoilt.txt', tmp_path/'other.txt')
    for o in (folder/'unsup'/'spoilt.txt', tmp_path/'other.txt'):
        assert [dls.vocab[i] for i in dls.test_dl([o]).items[0]][5:8] == ['ren', '\ufffd', 'xxmaj']

def test_nul_byte(spoilt):
    folder = spoilt(b'A film\0.')
    refuses(lambda: small_dls(folder), 'spoilt.txt has a NUL byte at byte 6: convert the file')
    assert len(small_dls(folder, errors='replace').train_ds) == 55

def test_unknown_errors(corpus): refuses(lambda: small_dls(corpus, errors='whatever'), 'whatever', LookupError)

def test_errors_that_leave_no_text(corpus): refuses(lambda: small_dls(corpus, errors='surrogateescape'), 'leaves no plain text')

def test_empty_file(spoilt, corpus):
    dls = small_dls(spoilt(b''))
    assert dls.train_ds.tokenizer.counter['xxbos'] == 61
    assert dls.train_ds.tokenizer.counter.total() == small_dls(corpus).train_ds.tokenizer.counter.total() + 1

def test_folder_with_the_name_of_a_text(corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path/'imdb')
    (folder/'unsup'/'a.txt').mkdir()
    assert small_dls(folder).vocab == small_dls(corpus).vocab

def test_link_to_nowhere(corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path/'imdb')
    (folder/'unsup'/'a.txt').symlink_to('nowhere')
    refuses(lambda: small_dls(folder), 'a.txt', FileNotFoundError)


@pytest.mark.parametrize('texts,match', [
    ([], 'the corpus is empty: give at least two reviews'),
    (['One only.'], 'of 1 review none is left for validation: give more reviews'),
    (['One.', 'Two.'], 'of 2 reviews none is left for validation: give more reviews'),
    ([''], 'of 1 review none is left for validation: give more reviews'),
    (['']*50, 'the training reviews hold 45 tokens, too few for a batch of 128 rows: lower bs, or give more text'),
    (['Short.']*50, 'the validation reviews hold 20 tokens, too few for a batch of 128 rows: lower bs'),
    (['A film.', 'A\0B'], 'row 1 has a NUL character at place 1 of its text: take it out'),
    (['A film.', [7]*100_000], r'row 1 holds \[(7, )+7?,? where a text should be'),
    (['A film.', 5], 'row 1 holds 5 where a text should be: drop the row, or fill it'),
    (['A film.', None], 'row 1 holds None where a text should be: drop the row, or fill it'),
    ([b'A film.'], "row 0 holds b'A film.' where a text should be"),
    ([Path('a.txt')], 'row 0 holds .*Path'),
    ([['A film.']], 'row 0 holds .*A film.* where a text should be'),
])
def test_bad_list(texts, match): refuses(lambda: lm_dls(texts), match)

def test_half_a_surrogate_pair(): refuses(lambda: lm_dls(['A film \ud800.']*20), 'half a surrogate pair')

def test_as_many_tokens_as_rows(): # one more is needed, for the last target
    texts = ['a']*20 # each xxbos a: 4 tokens are held out
    refuses(lambda: lm_dls(texts, bs=4), 'the validation reviews hold 4 tokens, too few for a batch of 4 rows')
    x,y = lm_dls(texts, bs=3, min_freq=1).valid.one_batch()
    assert x.shape == y.shape == (3, 1)


@pytest.mark.parametrize('table,match', [
    (pd.DataFrame({'review': ['a', 'b']}), "the table has no columns 'text'; it has 'review': name the column of texts as text_col$"),
    (pd.DataFrame([['a', 'b']], columns=['text', 'text']), "the table has 2 columns 'text'; it has 'text', 'text': name the column"),
    (pd.DataFrame({'text': ['a', float('nan')]}), 'row 1 holds nan where a text should be: drop the row, or fill it'),
    (pd.DataFrame({'text': ['a', None]}, index=[8, 9]), 'row 1 holds (nan|None) where a text should be'),
    (pd.DataFrame({'text': [1, 2]}), 'row 0 holds 1 where a text should be'),
    (pd.DataFrame({'text': []}), 'the corpus is empty'),
    (pd.DataFrame(), 'the corpus is empty'),
])
def test_bad_table(table, match): refuses(lambda: lm_dls(table), match)


@pytest.mark.parametrize('suffix', ['.csv', '.tsv', '.jsonl', '.parquet'])
def test_no_table(tmp_path, suffix):
    if suffix == '.parquet': pytest.importorskip('pyarrow')
    file = tmp_path/f'a{suffix}'
    for data in (b'\xff' + random.Random(0).randbytes(3000), 'text\nA film by René.\n'.encode('latin1')):
        file.write_bytes(data)
        refuses(lambda: lm_dls(file), rf'a{suffix} cannot be read as {suffix} \(.+\): write it anew, in UTF-8')
    for data in (b'', b'\n', b'text\n', b'{}\n'):
        file.write_bytes(data)
        refuses(lambda: lm_dls(file), 'cannot be read as .*: write it anew|is empty|the table has no columns')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='this system has no named pipes')
def test_a_table_that_is_no_plain_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path/'a.csv')
    (tmp_path/'b.jsonl').symlink_to('a.csv')
    (tmp_path/'c.csv').symlink_to('/dev/zero')
    for name in 'a.csv', 'b.jsonl', 'c.csv': refuses(lambda name=name: lm_dls(tmp_path/name), f'{name} is a pipe or a device: give a plain file')


def test_rows_of_unequal_length(tmp_path):
    (tmp_path/'a.csv').write_text('text,n\na\na,b,c\n')
    refuses(lambda: lm_dls(tmp_path/'a.csv'), 'cannot be read as .csv .*line 3.*: write it anew')
    (tmp_path/'e.csv').write_text('id,text,label\n1,A film,pos,\n2,A film,neg,\n') # as some programs end lines
    assert held_out_texts(tmp_path/'e.csv', valid_pct=1) == ['A film', 'A film']
    for more in 'text,label\nA film, and a good one,pos\nA film,neg\n', 'text\nA, B\n':
        (tmp_path/'c.csv').write_text(more)
        for f in lm_dls, held_out_texts: refuses(lambda f=f: f(tmp_path/'c.csv'), 'c.csv cannot be read as .csv .a line has more fields than the first has names: put texts in quotes')
    (tmp_path/'d.jsonl').write_text('{"text": "A film."}\n\n{"text": "A film.", }\n')
    refuses(lambda: lm_dls(tmp_path/'d.jsonl'), 'd.jsonl cannot be read as .jsonl .line 3: .* at character 21')
    (tmp_path/'b.csv').write_text('text\na\n,\n')
    refuses(lambda: lm_dls(tmp_path/'b.csv'), 'cannot be read as .csv|row 1 holds nan')

def test_lines_that_are_no_objects(tmp_path):
    for text in ('[1, 2]\n', '"A film."\n', '5\n', '{"review": "A film."}\n', '{"text": "A film."}\nnull\n', '['*100_000):
        (tmp_path/'a.jsonl').write_text(text)
        refuses(lambda: lm_dls(tmp_path/'a.jsonl'), "no columns 'text'; it has .*: name the column of texts as text_col|cannot be read")
    (tmp_path/'a.jsonl').write_text('{"text": "A film."}\n{"text": ["A film."]}\n')
    refuses(lambda: lm_dls(tmp_path/'a.jsonl'), 'row 1 holds .* where a text should be')


@pytest.mark.parametrize('source', [None, 5, object(), {'text': ['a']}, (o for o in 'ab')])
def test_no_source(source):
    with pytest.raises(TypeError): lm_dls(source)

def test_a_text_is_no_path(): refuses(lambda: lm_dls('A fine film. '*500), 'A fine film.*is not there: give a folder', FileNotFoundError)


@pytest.mark.parametrize('kwargs,match', [
    (dict(valid_pct=0), 'valid_pct=0 cannot be: it must be a share between 0 and 1'),
    (dict(valid_pct=1), 'valid_pct=1 cannot be'),
    (dict(valid_pct=1.5), 'valid_pct=1.5 cannot be'),
    (dict(valid_pct=-0.1), 'valid_pct=-0.1 cannot be'),
    (dict(valid_pct=float('nan')), 'valid_pct=nan cannot be'),
    (dict(valid_pct=0.001), 'of 60 reviews none is left for validation: give more reviews, or another valid_pct'),
    (dict(bs=0), 'bs=0 cannot be: it must be a whole number of at least 1'),
    (dict(bs=2.), 'bs=2.0 cannot be'),
    (dict(bs=None), 'bs=None cannot be'),
    (dict(seq_len=-1), 'seq_len=-1 cannot be: it must be a whole number of at least 1'),
    (dict(seq_len=0), 'seq_len=0 cannot be'),
    (dict(bs=10**6), 'too few for a batch of 1000000 rows: lower bs, or give more text'),
    (dict(valid='tset'), "has no folder 'tset': valid names a folder in it"),
    (dict(valid='pos'), "has no folder 'pos'"),
    (dict(valid='.'), 'of 60 reviews none is left for training'),
    (dict(valid=[]), 'of 60 reviews none is left for validation'),
    (dict(valid=range(60)), 'of 60 reviews none is left for training'),
    (dict(valid=[3, 60]), 'valid holds 60, but it gives the indices of the held-out reviews, from 0 to 59'),
    (dict(valid=[-1]), 'valid holds -1'),
    (dict(valid=[True, False]), 'valid holds True'),
    (dict(valid=np.array([False, True])), 'valid holds (np.False_|False)'),
    (dict(n_workers=-1), 'n_workers=-1 cannot be: it must be a whole number of at least 0'),
    (dict(n_workers=1.5), 'n_workers=1.5 cannot be'),
    (dict(bs=True), 'bs=True cannot be'),
    (dict(max_vocab=1e5), 'max_vocab=100000.0 cannot be'),
    (dict(max_vocab=None), 'max_vocab=None cannot be'),
    (dict(min_freq=float('nan')), 'min_freq=nan cannot be: it must be a whole number of at least 0'),
    (dict(valid_pct=None), 'valid_pct=None cannot be'),
    (dict(valid_pct='0.1'), "valid_pct='0.1' cannot be"),
    (dict(valid=[3, 3]), 'valid holds 3 more than once: give each index once'),
    (dict(valid=[3.]), 'valid holds 3.0, but it gives the indices'),
    (dict(valid=['a.txt']), "valid holds 'a.txt', but it gives the indices"),
])
def test_bad_arguments(corpus, kwargs, match): refuses(lambda: lm_dls(corpus, **kwargs), match)

def test_bad_valid_of_a_table(reviews):
    refuses(lambda: lm_dls(reviews, valid='is_valid'), "the table has no columns 'is_valid'; it has 'text': valid names a column of True and False")
    for valid in (5, 0.1): refuses(lambda: lm_dls(reviews, valid=valid), f'valid={valid} cannot be: it names a folder or a column, or is a list of indices', TypeError)

@pytest.mark.parametrize('odd', [None, float('nan'), pd.NA, 'True', 'no', '', 2])
def test_a_column_that_says_neither_true_nor_false(reviews, odd):
    "A gap and a word were taken for True: the rows were held out"
    table = pd.DataFrame({'text': reviews, 'is_valid': [False, True, odd]*20})
    refuses(lambda: lm_dls(table, valid='is_valid'), "the column 'is_valid' holds .*: valid names a column of True and False, with one of them in each row")

@pytest.mark.parametrize('kind', ['bool', 'boolean', 'int', 'Int64', 'float', 'category', object])
def test_true_and_false_in_the_types_of_pandas(reviews, kind):
    table = pd.DataFrame({'text': reviews, 'is_valid': pd.Series([i%5 == 3 for i in range(60)]).astype(kind)})
    assert small_dls(table, valid='is_valid').valid_ds.items.index.tolist() == list(range(3, 60, 5))

def test_columns_of_one_name(reviews):
    table = pd.DataFrame({'text': reviews, 'n': 1})
    table = pd.concat([table, table[['n']]], axis=1)
    assert all_batches(small_dls(table)) == all_batches(small_dls(reviews))
    for role in ('label', 'valid'): refuses(lambda: lm_dls(table, **{role: 'n'}), "the table has 2 columns 'n'; it has 'text', 'n', 'n'")

def test_no_tokenizer(reviews): # in a process of its own it would be waited for, for ever
    for tok in ('spacy', 5): refuses(lambda: lm_dls(reviews, tok=tok), 'is no tokenizer: give one of fastai', TypeError)

def test_a_tokenizer_that_fails(reviews):
    "In fastai's processes it would be waited for, for ever"
    class Fails:
        def __call__(self, texts): raise OSError('no model')
    with pytest.raises(OSError, match='no model'): lm_dls(reviews, tok=Fails(), n_workers=2)

def test_numbers_of_numpy(reviews):
    dls = small_dls(reviews, bs=np.int64(4), seq_len=np.int32(60), min_freq=np.int64(2), max_vocab=np.int64(60000), valid_pct=np.float64(0.1), n_workers=np.int64(1))
    assert (type(dls.bs), type(dls.seq_len)) == (int, int) and all_batches(dls) == all_batches(small_dls(reviews))

def test_the_block_checks_too(corpus, tmp_path):
    refuses(lambda: lm_dblock(tmp_path/'nowhere'), 'is not there', FileNotFoundError)
    refuses(lambda: lm_dblock(corpus, valid_pct=2), 'valid_pct=2')
    refuses(lambda: lm_dblock(['a', 'b'], errors='whatever'), 'whatever', LookupError)
    refuses(lambda: lm_dblock(corpus).dataloaders(tmp_path), 'no .txt files')


# ---- the loader: batch for batch fastai's LMDataLoader

def stock_dl(dl, **kwargs): return LMDataLoader(dl.dataset, **{**dict(bs=dl.bs, seq_len=dl.seq_len, shuffle=dl.shuffle, drop_last=dl.drop_last), **kwargs})


ODD = ['', 'a', 'A film. '*300, *[' '.join(f'w{i}' for i in range(n)) for n in (1, 0, 2, 59, 60, 61, 200)]]

@pytest.mark.parametrize('backwards,bs,seq_len', [(False, 64, 1), *[(b, *o) for b in (False, True) for o in ((1, 70), (2, 10_000), (3, 7), (7, 60), (64, 3))]])
def test_batches_are_those_of_fastai(reviews, backwards, bs, seq_len, monkeypatch):
    if (bs, seq_len) == (3, 7): monkeypatch.setattr(loader.LMLoader, '_block_size', lambda self: 5) # several blocks, the last one short
    dls = lm_dls(reviews + ODD, bs=bs, seq_len=seq_len, min_freq=1, backwards=backwards, valid=[60, 61, 62, 63, 5, 64])
    for dl in dls.loaders:
        stock = stock_dl(dl)
        assert len(dl) == len(stock) > 0
        for seed in (1, 2):
            random.seed(seed); want = list(stock)
            random.seed(seed); got = list(dl)
            assert len(got) == len(want) == len(dl)
            for ours,theirs in zip(got, want):
                for a,b in zip(ours, theirs):
                    assert type(a) is type(b) and a.dtype == b.dtype and a.is_contiguous()
                    assert a.shape == b.shape and (a == b).all()


def test_a_block_is_made_once(reviews, monkeypatch):
    monkeypatch.setattr(loader.LMLoader, '_block_size', lambda self: 5)
    dl, made = in_order(small_dls(reviews)), []
    block = dl._block
    monkeypatch.setattr(dl, '_block', lambda first, n: made.append(first) or block(first, n))
    assert len(list(dl)) > 10 and made == list(range(0, len(dl), 5))


@pytest.mark.parametrize('free,whole', [(4, False), (4.01, True)])
def test_a_gpu_holds_an_epoch_that_takes_less_than_a_quarter_of_what_is_free(reviews, monkeypatch, free, whole):
    dl = small_dls(reviews).train
    dl.device, dl.n_batches = torch.device('cuda'), 10**9
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (8*dl.bs*dl.bl*free, None))
    assert (dl._block_size() == 10**9) == whole


def test_the_defaults_are_fastais():
    stock = signature(Numericalize).parameters
    for f in (lm_dls, lm_dblock):
        for name in 'max_vocab', 'min_freq': assert signature(f).parameters[name].default == stock[name].default


def test_texts_have_the_folder_where_one_is(reviews): assert small_dls(reviews).path == Path('.')


@pytest.mark.parametrize('on', [True, False])
def test_the_garbage_collector_is_as_it_was(reviews, on):
    try:
        (gc.enable if on else gc.disable)()
        small_dls(reviews)
        assert gc.isenabled() == on
    finally: gc.enable()


def test_no_batch_shares_memory_with_another(reviews):
    dl = in_order(small_dls(reviews))
    want = batches(dl)
    for (x,y),(a,b) in zip(dl, want):
        assert (x.tolist(), y.tolist()) == (a, b)
        x.zero_()
        assert y.tolist() == b


@pytest.mark.parametrize('kwargs', [dict(num_workers=2), dict(drop_last=True), dict(bs=5), dict(seq_len=11), dict(after_item=lambda x: x + 1),
                                    dict(before_batch=lambda rows: rows[::-1]), dict(after_batch=lambda x: x*2)])
def test_the_options_of_a_dataloader(reviews, kwargs):
    dl = in_order(small_dls(reviews)).new(**kwargs)
    assert type(dl) is loader.LMLoader
    assert batches(dl) == batches(stock_dl(dl, **kwargs))
    assert len(dl) == len(batches(dl))


@pytest.mark.parametrize('num_workers', [0, 2, 3])
def test_an_epoch_may_begin_anywhere(reviews, num_workers):
    dl = in_order(small_dls(reviews)).new(num_workers=num_workers)
    whole = batches(dl)
    for dl.first in (1, 4, len(dl) - 1, len(dl)): assert batches(dl) == whole[dl.first:]


def test_fastai_may_take_over_again(reviews):
    dl = in_order(small_dls(reviews))
    assert batches(dl.new(cls=LMDataLoader)) == batches(dl)


def test_the_order_of_an_epoch_is_new_each_time(reviews):
    dls = small_dls(reviews)
    epochs = [batches(dls.train) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] and batches(dls.valid) == batches(dls.valid)
    assert sorted(map(len, epochs[0])) == sorted(map(len, epochs[1]))


def test_get_preds_and_show_results(reviews, tmp_path, capsys):
    dls = small_dls(reviews)
    learn = lm_learner(dls, config=SIZES, pretrained=False, path=tmp_path)
    with learn.no_bar():
        ours, theirs = (learn.get_preds(dl=dl, reorder=False, with_loss=True) for dl in (dls.valid, stock_dl(dls.valid)))
        assert ours[0].shape == (4, dls.valid.bl, len(dls.vocab))
        for a,b in zip(ours, theirs): assert torch.equal(a, b)
        assert learn.validate(dl=dls.valid) == learn.validate(dl=stock_dl(dls.valid))
        learn.show_results(max_n=1)
    assert capsys.readouterr().out # a table, or the name of one where nothing can show it


def test_tokens_stay_on_disk_and_out_of_exports(corpus, reviews):
    dls = small_dls(reviews)
    tok = dls.train_ds.tokenizer
    assert isinstance(tok.corpus.ids.base, np.memmap)
    assert tok.__getstate__()['corpus'] is None
    tok = small_dls(corpus).train_ds.tokenizer
    assert len(tok.places) == 60 and tok.__getstate__()['places'] == {}


# ---- several columns, tables with gaps

def test_several_columns_as_fastai_has_them(reviews):
    table = pd.DataFrame({'title': [t[:20] for t in reviews], 'stars': range(60), 'review': reviews, 'share': np.linspace(0, 1, 60, dtype=np.float32), 'seen': pd.date_range('2020-01-01', periods=60)})
    for cols in (['title', 'review'], ['review', 'stars', 'title'], ['review'], ['share', 'seen', 'review']):
        block = DataBlock(TextBlock.from_df(cols, is_lm=True, n_workers=0, min_freq=2, mark_fields=True), get_x=ColReader('text'), splitter=RandomSplitter(0.1, seed=42))
        stock = block.dataloaders(table, bs=4, seq_len=60)
        dls = small_dls(table, text_col=cols)
        assert dls.vocab == stock.vocab and all_batches(dls) == all_batches(stock)
        assert not set(cols) & set(dls.train_ds.items.columns)


def test_a_column_of_several_with_gaps(reviews):
    table = pd.DataFrame({'title': ['A', None, 'C']*20, 'text': reviews})
    refuses(lambda: lm_dls(table, text_col=['title', 'text']), 'row 1 holds (None|nan) where a text should be')
    refuses(lambda: lm_dls(table, text_col=['titel', 'text']), "no columns 'titel'; it has 'title', 'text'")


def test_columns_by_number_and_in_any_list(reviews):
    "A table without a header has numbers for names"
    want = small_dls(pd.DataFrame({'n': 1, 'text': reviews}), text_col=['n', 'text'])
    for cols in (('n', 'text'), pd.Index(['n', 'text'])):
        dls = small_dls(pd.DataFrame({'n': 1, 'text': reviews}), text_col=cols)
        assert dls.vocab == want.vocab and all_batches(dls) == all_batches(want)
    assert all_batches(small_dls(pd.DataFrame(reviews), text_col=0)) == all_batches(small_dls(reviews))
    refuses(lambda: lm_dls(reviews, text_col=[]), 'text_col=.. names no column')
    refuses(lambda: lm_dls(reviews, text_col=None), "no columns None; it has 'text'")

@pytest.mark.parametrize('kind', ['string', 'category', object])
def test_texts_in_the_types_of_pandas(reviews, kind):
    table = pd.DataFrame({'text': ['no review', *reviews]}).astype(kind)[1:]
    assert all_batches(small_dls(table)) == all_batches(small_dls(reviews)) and table_texts(table, 'text') == reviews
    table.iloc[4] = None
    with pytest.raises(ValueError, match='row 4 holds (None|nan|<NA>) where a text should be'): table_texts(table, 'text')

def test_json_says_what_is_a_text(tmp_path):
    "pandas would make a number of `007`, and a date of whatever is called so"
    (tmp_path/'a.jsonl').write_text('{"text": "5", "label": "007", "date": "2020-01-01"}\n{"text": "6", "label": null, "date": "x"}\n')
    table = as_source(tmp_path/'a.jsonl')
    assert table_texts(table, 'text') == ['5', '6'] and loader.corpus_labels(table, 'label') == ['007', None]
    assert loader.corpus_labels(table, 'date') == ['2020-01-01', 'x']
    (tmp_path/'b.jsonl').write_text('\n{"text": "a\u2028b", "n": 9}\n \n{"text": "c", "n": null}\n', encoding='utf-8-sig', newline='\r\n')
    table = as_source(tmp_path/'b.jsonl')
    assert table_texts(table, 'text') == ['a\u2028b', 'c'] and loader.corpus_labels(table, 'n') == ['9', None]

def test_suffixes_of_windows(reviews, tmp_path):
    pd.DataFrame({'text': reviews}).to_csv(tmp_path/'A.CSV', index=False, lineterminator='\r\n', encoding='utf-8-sig')
    assert as_source(tmp_path/'A.CSV').text.tolist() == reviews

def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    def missing(path): raise ImportError('Unable to find\na usable engine')
    monkeypatch.setitem(loader._readers, '.parquet', missing)
    (tmp_path/'a.parquet').touch()
    refuses(lambda: as_source(tmp_path/'a.parquet'), 'a.parquet cannot be read without pyarrow: pip install pyarrow', ImportError)

def test_words_that_pandas_takes_for_gaps(tmp_path):
    words = ['NA', 'null', 'None', 'nan', 'A film.']*4
    for file,sep in (('a.csv', ','), ('a.tsv', '\t')):
        pd.DataFrame({'text': words, 'n': 1}).to_csv(tmp_path/file, index=False, sep=sep)
        assert as_source(tmp_path/file).text.tolist() == words


@pytest.mark.parametrize('kind', [pd.Series, np.array, tuple])
def test_whatever_holds_texts(reviews, kind): assert all_batches(small_dls(kind(reviews))) == all_batches(small_dls(reviews))


# ---- vocabularies that cannot be

@pytest.mark.parametrize('kwargs,match', [
    (dict(max_vocab=9), 'max_vocab=9 cannot be: it must be a whole number of at least 10'), (dict(max_vocab=-5), 'max_vocab=-5 cannot be'),
    (dict(vocab=['a', 'b']), r"vocab begins with \['a', 'b'\]: a vocabulary begins with xxunk, xxpad, xxbos"), (dict(vocab=[]), 'a vocabulary begins with'),
    (dict(vocab=['xxunk', 'the', 'movie']), 'a vocabulary begins with'), (dict(vocab=['xxunk', 'xxpad', 'xxbos', 'a', 'b', 'a']), "vocab has 'a' more than once"),
])
def test_bad_vocab(reviews, kwargs, match): refuses(lambda: lm_dls(reviews, **kwargs), match)


# ---- near-duplicates

def test_near_duplicates(reviews):
    held_out = [58, 59]
    def found(texts): return dls_summary(small_dls(texts, valid=held_out))['duplicates']
    old = ' '.join(reviews[:3])
    assert found([old, *reviews[1:]]) == found([*reviews[:58], reviews[3][:len(reviews[3])//4] + reviews[58], reviews[59]]) == 0
    assert found([old, *reviews[1:58], old, reviews[59]]) == 1
    assert found([old, *reviews[1:58], reviews[58][:100] + old, old]) == 2


def test_what_two_texts_make_together_is_no_duplicate():
    "Texts of six tokens, twice in the same order: a stretch of eight would be of two"
    texts = [[f'{i}.{j}' for j in range(6)] for i in range(200)]
    assert loader.near_duplicates(Corpus.of(texts*2), np.arange(200, 400)).tolist() == []


@pytest.mark.parametrize('seed', [-1, 2**63, 10**30, 'a', 1.5, True])
def test_seeds_that_cannot_be(reviews, seed):
    for f in lm_dls, held_out_texts: refuses(lambda f=f: f(reviews, seed=seed), 'seed=.* cannot be: it must be a whole number')
