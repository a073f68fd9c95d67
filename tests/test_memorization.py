"""The index of the training text against a slow search; reviews that are written again when they copy."""
import random
from types import SimpleNamespace

import numpy as np
import pytest

from imdb_lm.cache import Corpus
from imdb_lm.loader import held_out_texts
from imdb_lm.memorization import CopyIndex, corpus_index, fresh_reviews, sort_suffixes
from imdb_lm.tokens import BOS, tokenize


def slowly(query, rows):
    "The length of the longest run of `query` in `rows`, by trying"
    have = {tuple(r[i:j]) for r in rows for i in range(len(r)) for j in range(i+1, len(r)+1)}
    return max((j-i for i in range(len(query)) for j in range(i+1, len(query)+1) if tuple(query[i:j]) in have), default=0)


@pytest.mark.parametrize('letters', ['a', 'ab', 'abcdefgh'])
@pytest.mark.parametrize('n', [1, 2, 7, 60])
def test_as_a_slow_search(letters, n):
    rng = random.Random(n)
    def rows(k): return [[rng.choice(letters) for _ in range(rng.randrange(1, 15))] for _ in range(k)]
    known, asked = rows(n), [*rows(30), [], ['z', *letters], [*letters, 'z']*3]
    copies = CopyIndex(Corpus.of([[BOS, *o] for o in known])).copies(asked)
    assert [o.length for o in copies] == [slowly(o, known) for o in asked]
    for o,row in zip(copies, asked):
        run = tuple(o.words.split())
        assert len(run) == o.length
        for r in (row, known[o.text]) if run else (): assert any(tuple(r[i:i+len(run)]) == run for i in range(len(r)))


@pytest.mark.parametrize('top', [1, 3, 1000, 2**31 - 2])
def test_suffixes_in_order(top):
    w = np.random.default_rng(1).integers(1, top+1, 700).astype(np.int32)
    w[300:600] = w[:300] # ties that last
    assert sort_suffixes(w, 700).tolist() == sorted(range(700), key=lambda i: w[i:].tolist())


def test_a_run_does_not_reach_into_the_next_text():
    index = CopyIndex(Corpus.of(tokenize(['one two', 'three four'])))
    assert [o[:2] for o in index.longest_copies(['one two three four', 'two three'])] == [(2, 'one two'), (1, 'two')]


def test_the_same_text_again_and_again():
    index = CopyIndex(Corpus.of(tokenize(['It was a very long and very bad film'*20]*50)))
    assert index.longest_copies(['and very bad filmit was a very long'])[0].length == 8
    assert index.longest_copies(['long and very good'])[0][:2] == (3, 'long and very')


def test_only_the_texts_that_are_meant(reviews):
    corpus = Corpus.of(tokenize(reviews))
    index = CopyIndex(corpus, range(0, len(reviews), 2))
    copies = index.longest_copies(reviews)
    for i,o in enumerate(copies):
        if i%2 == 0: assert o.length == len([t for t in index.numbers[index.ends[i-1] if i else 0:index.ends[i]] if t])
        assert o.text%2 == 0
    assert min(o.length for o in copies[::2]) > np.median([o.length for o in copies[1::2]])


def test_words_that_no_text_has(reviews):
    index = CopyIndex(Corpus.of(tokenize(reviews)))
    assert index.longest_copies(['zyzzyva', '...', '', 'xxmaj xxup', 'zyzzyva the'])[:4] == [(0, '', -1)]*4
    assert index.longest_copies(['zyzzyva THE'])[0].words == 'the'
    assert index.longest_copies([]) == []


def test_the_held_out_are_not_in_it(corpus, reviews):
    index, out = corpus_index(corpus, 0.2, seed=3), held_out_texts(corpus, 0.2, seed=3)
    lengths = np.diff(index.ends, prepend=0)
    assert sum(lengths == 0) == len(out) == 12
    kept = [t for t in reviews if t not in out]
    assert [o.text for o in index.longest_copies(kept)] == [i for i,t in enumerate(reviews) if t not in out]
    assert corpus_index(reviews, 0.2, seed=3).longest_copies(out) == index.longest_copies(out)


@pytest.mark.parametrize('pct', [1, 1., -.1, 2, 'a tenth', float('nan')])
def test_nothing_left_to_look_at(corpus, pct):
    with pytest.raises(ValueError, match='valid_pct=.*leaves no training text'): corpus_index(corpus, pct)


@pytest.mark.parametrize('texts', [[''], ['...', '!?'], ['xxbos xxmaj']])
def test_a_corpus_without_words(texts):
    with pytest.raises(ValueError, match='no words that could be copied'): CopyIndex(Corpus.of(tokenize(texts)))
    with pytest.raises(ValueError, match='no words that could be copied'): CopyIndex(Corpus.of(tokenize(['a b'])), [])


# ---- reviews that do not copy

HOW = dict(n=6, n_words=20, seed=5)

@pytest.fixture(scope='module')
def index(lm):
    "Of what the model writes with this seed: its first try copies"
    return CopyIndex(Corpus.of(tokenize(lm.generate('', n=3, n_words=20, seed=5))))


def test_copies_are_written_again(lm, index):
    plain, fresh = lm.generate('', **HOW), fresh_reviews(lm, index, '', 3, **HOW)
    assert max(o.length for o in index.longest_copies(plain)) > 3 >= max(o.length for o in index.longest_copies(fresh))
    assert len(fresh) == 6 and fresh == fresh_reviews(lm, index, '', 3, **HOW)
    kept = [p for p,o in zip(plain, index.longest_copies(plain)) if o.length <= 3]
    assert 0 < len(kept) < 6 and fresh[:len(kept)] == kept


def test_the_prompt_may_be_a_quotation(lm, index):
    long = next(o for o in lm.generate('', n=20, n_words=20, seed=5) if index.longest_copies([o])[0].length > 3)
    found = fresh_reviews(lm, index, [long], 3, n=2, n_words=20, seed=1)
    assert len(found[0]) == 2 and all(o.startswith(long) for o in found[0])
    assert len(fresh_reviews(lm, index, [long], 3, n=2, n_words=20, seed=1, raw=True)[0]) == 2


def test_it_gives_up(lm):
    all_words = SimpleNamespace(longest_copies=lambda rows: [SimpleNamespace(length=99)]*len(rows))
    assert fresh_reviews(lm, all_words, ['', 'the'], **HOW, tries=2) == [[], []]
    assert fresh_reviews(lm, all_words, '', 99, **HOW) == lm.generate('', **HOW)


def test_numbers_of_numpy(lm, index):
    assert fresh_reviews(lm, index, 'the', np.int64(3), tries=np.int8(2), **HOW) == fresh_reviews(lm, index, 'the', 3, tries=2, **HOW)


@pytest.mark.parametrize('bad', [dict(max_copy=-1), dict(max_copy=1.5), dict(max_copy='10'), dict(max_copy=True), dict(n=0), dict(temperature=-1), dict(seed=-1), dict(tries=0)])
def test_settings_that_cannot_be(lm, index, bad):
    with pytest.raises(ValueError, match=f'{next(iter(bad))}='): fresh_reviews(lm, index, **bad)
