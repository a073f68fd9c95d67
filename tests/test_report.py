"""Figures of reviews by hand, and the report as it lies on the disk."""
import json
import math
import random
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import imdb_lm.report as rep
from imdb_lm.cache import Corpus
from imdb_lm.evaluate import evaluate_lm
from imdb_lm.memorization import CopyIndex
from imdb_lm.report import distinct, repetition, report, review_stats, self_bleu, write_report
from imdb_lm.tokens import tokenize


def bleu(row, refs):
    "BLEU-4 as the papers have it, one review against its references"
    def grams(o, n): return Counter(tuple(o[i:i+n]) for i in range(len(o)-n+1))
    score = 1.
    for n in range(1, 5):
        mine, most = grams(row, n), Counter()
        for r in refs: most |= grams(r, n)
        add = n > 1
        if not mine and not add: return 0.
        score *= ((mine & most).total() + add)/(mine.total() + add)
    near = min((len(r) for r in refs), key=lambda o: (abs(o - len(row)), o))
    return score**.25*(1 if len(row) > near else math.exp(1 - near/len(row)))


@pytest.mark.parametrize('letters', ['ab', 'abcdefghij'])
def test_self_bleu_is_bleu_against_all_others(letters):
    rng = random.Random(1)
    rows = [[rng.choice(letters) for _ in range(rng.randrange(1, 20))] for _ in range(12)]
    rows += [rows[0], rows[1][:3]]
    want = sum(bleu(o, rows[:i] + rows[i+1:]) for i,o in enumerate(rows))/len(rows)
    assert self_bleu(rows) == pytest.approx(want)


def test_variety_at_its_ends():
    same, other = [['a', 'b', 'c', 'd', 'e']]*3, [[f'{i}{j}' for j in range(5)] for i in range(3)]
    assert self_bleu(same) == pytest.approx(1) and self_bleu(other) == 0
    assert (distinct(same, 1), distinct(other, 2), repetition(same), repetition(other)) == (1/3, 1, 0, 0)
    assert repetition([['a']*10]) == pytest.approx(6/7)
    assert self_bleu([['a'], []]) == self_bleu([[], ['a', 'b']]) == 0


def test_marks_and_capitals_are_no_variety(lm):
    index = CopyIndex(Corpus.of(tokenize(['the movie was great'])))
    a, b = (review_stats(o, [True]*2, index) for o in (['The movie', 'WAS great'], ['the movie', 'was great']))
    assert a == b and a['length'] == 2 and a['copy'] == 2


@pytest.fixture(scope='module')
def parts(lm, reviews):
    index = CopyIndex(Corpus.of(tokenize(reviews[:40])))
    return lm, reviews[40:], index, report(lm, reviews[40:], index, n=6, n_words=12, temperatures=(.5, 1.2))


def test_report(parts):
    lm, texts, index, res = parts
    assert res['figures'] == evaluate_lm(lm, texts) and res['settings'] == dict(n=6, n_words=12, seed=42)
    for t,o in zip((.5, 1.2), res['written'], strict=True):
        texts_t, ended = rep._write(lm, 6, 12, t, 42)
        assert texts_t == lm.generate('', n=6, n_words=12, temperature=t, seed=42)
        assert o == dict(temperature=t, **review_stats(texts_t, ended, index)) and o['reviews'] == 6
    assert res['real']['ended'] == 0 and res['real']['longest'] <= 12
    assert res == report(lm, texts, index, n=6, n_words=12, temperatures=(.5, 1.2))


def test_whether_it_came_to_an_end(lm):
    texts, ended = rep._write(lm, 40, 30, 1., 1)
    longer = lm.generate('', n=40, n_words=60, temperature=1., seed=1)
    assert all(a == b for a,b,end in zip(texts, longer, ended) if end) and sum(a != b for a,b in zip(texts, longer)) > 0.8*(40 - sum(ended)) > 0
    assert rep._cut(['the movie was great'], 4)[1] == [False] and rep._cut(['the movie was great'], 5) == (['the movie was great'], [True])
    assert rep._cut(['The movie was great'], 3) == (['The movie'], [False])


def test_copies_are_counted(parts, reviews):
    lm, _, index, _ = parts
    res = report(lm, reviews[:20], index, n=4, n_words=30, temperatures=(1.,))
    assert res['real']['copying'] == 1 and res['real']['longest_copy'] >= 15


def test_files(parts, tmp_path):
    res = parts[3]
    page = write_report(res, tmp_path/'a'/'b', 'imdb_lm evaluate m --report b')
    assert sorted(o.name for o in page.parent.iterdir()) == ['report.json', 'report.md', 'report.png']
    assert json.loads((page.parent/'report.json').read_text()) == {'command': 'imdb_lm evaluate m --report b', **res}
    assert (page.parent/'report.png').read_bytes()[:4] == b'\x89PNG'
    text = page.read_text(encoding='utf-8')
    for o in 'imdb_lm evaluate m --report b', f"{res['figures']['bits_per_byte']:.3f}", f"| self-BLEU | {res['real']['self_bleu']:.3f} |", '![](report.png)': assert o in text
    assert {o.count('|') for o in text.splitlines() if o.startswith('| ') and 'self' in o or o.startswith('| longest')} == {5}
    write_report(res, tmp_path/'a'/'b', 'again')
    assert 'again' in page.read_text() and len(list(page.parent.iterdir())) == 3


def test_places_that_cannot_be(parts, tmp_path):
    (tmp_path/'file').write_text('mine')
    with pytest.raises(FileExistsError, match='is a file: name a folder'): write_report(parts[3], tmp_path/'file')
    assert (tmp_path/'file').read_text() == 'mine'


@pytest.mark.parametrize('n', [0, 1, -3])
def test_too_few_to_compare(parts, n):
    lm, texts, index, _ = parts
    with pytest.raises(ValueError, match=f'n={n} cannot be: it must be a whole number of at least 2'): report(lm, texts, index, n=n)
    for k in 0, 1:
        with pytest.raises(ValueError, match=f'{k} held-out reviews are too few'): report(lm, texts[:k], index)
    with pytest.raises(ValueError, match='found 1, give two'): self_bleu([['a']])


@pytest.mark.parametrize('bad', [dict(n=2.5), dict(n='6'), dict(n_words=0), dict(seed=-1), dict(seed=None)])
def test_settings_are_looked_at_first(parts, bad, monkeypatch):
    "Before minutes of reading and writing"
    lm, texts, index, _ = parts
    monkeypatch.setattr(rep, 'evaluate_lm', None)
    monkeypatch.setattr(rep, '_write', None)
    with pytest.raises(ValueError, match=f'{next(iter(bad))}=.* cannot be') as e: report(lm, texts, index, **bad)
    assert '\n' not in str(e.value)


def test_any_list_of_texts_and_numbers(parts, tmp_path):
    lm, texts, index, want = parts
    for o in (iter(texts), tuple(texts), np.array(texts), pd.Series(texts, index=range(5, 5 + len(texts)))):
        res = report(lm, o, index, n=np.int64(6), n_words=np.int8(12), temperatures=np.array([.5], np.float32), seed=np.int64(42))
        assert {**res, 'written': res['written'][:1]} == {**want, 'written': want['written'][:1]}
    assert json.loads((write_report(res, tmp_path).parent/'report.json').read_text())['settings'] == want['settings']
    with pytest.raises(TypeError, match='list of texts, found one str'): report(lm, texts[0], index)
    assert review_stats(iter(texts), [True]*len(texts), index) == review_stats(texts, [True]*len(texts), index)


def test_fewer_texts_than_asked_for(parts):
    lm, texts, index, _ = parts
    res = report(lm, texts[:3], index, n=50, n_words=5, temperatures=(1.,))
    assert res['settings']['n'] == res['real']['reviews'] == res['written'][0]['reviews'] == 3
