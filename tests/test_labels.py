"""Labels: fastai's fields, what a model learns of them, and what is asked of it."""
import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.text.all import awd_lstm_lm_config, set_seed, tokenize_df

import command
from imdb_lm.data import read_review, review_files
from imdb_lm.generate import read_prompt
from imdb_lm.labels import UNMARKED, as_label, chosen_label, column_labels, file_stars, known_labels, mark, mark_all
from imdb_lm.learner import language_model, lm_learner, save_lm
from imdb_lm.loader import lm_dls
from imdb_lm.mini import mini_reviews
from imdb_lm.model import load_lm
import imdb_lm.training  # noqa: F401

TINY = {**awd_lstm_lm_config, 'emb_sz': 96, 'n_hid': 64, 'n_layers': 1}
PLEASED, CROSS = 'a good film , good songs and a good end .', 'a bad film , bad songs and a bad end .'


@pytest.fixture(scope='module')
def table(): return pd.DataFrame({'text': [PLEASED, CROSS]*150, 'mood': ['pos', 'neg']*150})

@pytest.fixture(scope='module')
def learn(table):
    set_seed(0)
    learn = lm_learner(lm_dls(table, bs=4, seq_len=20, label='mood'), config=TINY, drop_mult=0, pretrained=False, alpha=0, beta=0)
    with learn.no_bar(), learn.no_logging(): learn.fit_two_stage(0, 1e-2, 12, 5e-3)
    return learn


def test_fields_are_fastais():
    table = pd.DataFrame({'stars': [9, 1, 10]*40, 'text': ['A fine film!', 'A BAD one, sadly', '2 of us liked it']*40})
    theirs = tokenize_df(table, ['stars', 'text'], mark_fields=True, n_workers=0)[0].text.tolist()
    dls = lm_dls(table, bs=4, seq_len=10, label='stars')
    corpus = dls.train_ds.tokenizer.corpus
    marked = [i for i in range(len(table)) if corpus[i][1] == 'xxfld']
    assert len(marked) > 90 and all(corpus[i] == list(theirs[i]) for i in marked)

def test_long_numbers_stay_apart():
    "Of six digits and more: years with months, ids"
    assert column_labels(pd.Series([20240101, 20240102, None])) == ['20240101', '20240102', None]
    assert [as_label(o) for o in (np.float32(8.1), np.float64(9), np.int64(9), 0.5, -1e300)] == ['8.1', '9', '9', '0.5', '-1e+300']

@pytest.mark.parametrize('kind', ['Int64', 'Float64', 'string', 'category', 'boolean', object])
def test_gaps_in_the_types_of_pandas(kind):
    column = pd.Series([1, None, 0]).astype('Int64').astype(kind)
    one, gap, zero = column_labels(column)
    assert gap is None and (one, zero) == (('True', 'False') if kind == 'boolean' else ('1', '0'))

def test_words_that_are_no_numbers():
    "`nan` is not less and not more than a number: sorted among them it left them in any order"
    for odd in ('nan', 'inf', '-inf', 'NaN', '1.0.2', '.'):
        labels = ['10', odd, '2', '1', '9']
        for _ in labels:
            labels.append(labels.pop(0))
            assert known_labels(labels) == ['1', '2', '9', '10', odd]
        assert [chosen_label(dict(name='stars', values=known_labels(labels)), sentiment=o) for o in ('neg', 'pos')] == ['1', '10']

def test_few_go_without():
    texts = mark_all(['text']*10_000, ['9']*10_000)
    assert abs(texts.count('text')/10_000 - UNMARKED) < 0.01

def test_folders_and_tables_agree():
    path, files = mini_reviews(), review_files(mini_reviews())
    folder = lm_dls(path, bs=8, label='stars')
    rows = pd.DataFrame([dict(text=read_review(o), rating=file_stars(o)) for o in files])
    table = lm_dls(rows, bs=8, label='rating')
    assert table.vocab == folder.vocab and 'xxfld' in folder.vocab
    a, b = folder.train_ds.tokenizer, table.train_ds.tokenizer
    assert a.labels == b.labels and {'1', '10'} <= set(a.labels) <= {str(o) for o in range(1, 11)}
    assert [a.corpus[i] for i in range(len(files))] == [b.corpus[i] for i in range(len(files))]

def test_validation_is_the_same_with_labels():
    path = mini_reviews()
    assert lm_dls(path, bs=8, label='stars').valid_ds.items == lm_dls(path, bs=8).valid_ds.items


def test_a_model_that_was_asked(learn):
    for mood, word in dict(pos='good', neg='bad').items():
        reviews = learn.generate('a', n=20, label=mood, seed=1, n_words=8)
        assert sum(word in o for o in reviews) >= 19, reviews
        assert reviews == learn.generate('a', n=20, sentiment=mood, seed=1, n_words=8)
        assert all(o.startswith('a ') for o in reviews)

@pytest.mark.parametrize('others', [{}, dict(values=['neg', 'pos', 'so'])], ids=['against the opposite', 'against none'])
def test_guidance(learn, others):
    "Word by word what two opinions, with the label and with its opposite or without any, make together"
    lm = language_model(learn)
    lm.config['label'] = lm.config['label'] | others
    def by_hand(scale):
        tokens = []
        for _ in range(8):
            against, marked = (lm.next_word(' '.join([text, *tokens])).log() for text in ('a' if others else mark('a', 'neg'), mark('a', 'pos')))
            marked[[lm.o2i['xxunk'], lm.o2i['xxfld']]] = -float('inf')
            scores = against + scale*(marked - against)
            if scale != 1: scores[marked < marked.max() + math.log(0.01)] = -float('inf')
            tokens.append(lm.vocab[scores.argmax()])
        return ' '.join(['a', *tokens])
    guided = {o: lm.generate('a', label='pos', temperature=0, n_words=8, stop=False, raw=True, guidance_scale=o)[0] for o in (1, 2, 3, 90)}
    assert guided == {o: by_hand(o) for o in guided}

def test_guidance_where_there_is_no_prompt(learn):
    "A label without an opposite is held against none: both begin behind a review, or only the beginnings would be compared"
    lm = language_model(learn)
    lm.config['label'] = lm.config['label'] | dict(values=['neg', 'pos', 'mixed'])
    def first(text): return lm.net.decoder(read_prompt(lm, lm.encode(text))[0]).log_softmax(1)[0]
    with torch.inference_mode():
        against, marked = first(''), first(mark('', 'pos'))
        scores = (against + 3*(marked - against)).masked_fill(marked < marked.max() + math.log(0.01), -math.inf)
        scores[[lm.o2i['xxunk'], lm.o2i['xxfld']]] = -math.inf
        cold = lm.next_word(mark('', 'pos')).log()
    assert (marked - cold).abs().max() > 1e-3
    assert lm.generate('', label='pos', temperature=0, n_words=1, stop=False, raw=True, guidance_scale=3) == [lm.vocab[scores.argmax()]]


def test_guidance_of_some(learn):
    asked = dict(n=9, n_words=12, seed=1)
    assert learn.generate('a', guidance_scale=7, **asked) == learn.generate('a', **asked)
    assert learn.generate('a', label='neg', **asked)[:4] == learn.generate('a', label='neg', **{**asked, 'n': 4})
    for o in (0, .9, 101, float('nan'), 'much', True):
        with pytest.raises(ValueError, match='guidance_scale=.* cannot be.*from 1.*to 100'): learn.generate('a', label='pos', guidance_scale=o)

def test_a_model_that_was_not_asked(learn):
    reviews = learn.generate(['', 'a'], n=60, seed=1)
    texts = ' '.join(o for row in reviews for o in row)
    assert 'xxfld' not in texts and 'good' in texts and 'bad' in texts
    assert 'xxfld' not in ' '.join(learn.generate('', n=20, seed=1, raw=True, stop=False))

def test_marks_are_never_shown(learn):
    assert learn.generate('a', label='pos', seed=3, raw=True)[0].startswith('a ')
    assert ''.join(learn.stream('a', label='pos', seed=3)) == learn.generate('a', label='pos', seed=3)[0]

def test_the_model_folder_knows_them(learn, tmp_path):
    save_lm(learn, tmp_path/'model')
    lm = load_lm(tmp_path/'model')
    assert lm.config['label'] == dict(name='mood', values=['neg', 'pos']) == language_model(learn).config['label']
    assert lm.generate('a', label='neg', seed=5) == learn.generate('a', label='neg', seed=5)
    with pytest.raises(ValueError, match=r"stars=9 cannot be: the labels of this model \(mood\) are neg, pos"): lm.generate('', stars=9)

def test_on_the_command_line(learn, tmp_path):
    save_lm(learn, tmp_path/'model')
    write = partial(command.run, 'generate', '--model', tmp_path/'model')
    done = write('a', '--sentiment', 'neg', '--n', '10', '--out', tmp_path/'reviews.jsonl', '--seed', '1')
    lines = [json.loads(o) for o in (tmp_path/'reviews.jsonl').read_text().splitlines()]
    assert done.returncode == 0 and sum('bad' in o['text'] for o in lines) >= 9 and {o['settings']['label'] for o in lines} == {'neg'}
    done = write('a', '--stars', '11')
    assert done.returncode == 1 and 'stars=11 cannot be' in done.stderr and 'Traceback' not in done.stderr

def test_models_without_labels_say_so(table):
    lm = language_model(lm_learner(lm_dls(table, bs=16, seq_len=20), config=TINY, pretrained=False))
    assert 'label' not in lm.config
    with pytest.raises(ValueError, match='trained without labels'): lm.generate('', stars=9)

@pytest.mark.parametrize('column, says', [([None]*300, "fill the column 'mood'"), ([np.nan]*300, 'none of the 300 texts has a label')])
def test_empty_columns(table, column, says):
    with pytest.raises(ValueError, match=says): lm_dls(table.assign(mood=column), bs=16, label='mood')

def test_unknown_columns(table):
    with pytest.raises(ValueError, match="no columns 'moods'; it has 'text', 'mood': name the column of labels as label$"): lm_dls(table, bs=16, label='moods')
    with pytest.raises(ValueError, match="one label, 'stars'"): lm_dls(mini_reviews(), bs=16, label='mood')
