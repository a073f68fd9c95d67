"""The blind test: openings that nothing gives away, guesses from anywhere, an end at any time."""
import io

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from imdb_lm.blind import Opening, blind_test, chance, openings, tell_score
from imdb_lm.model import LanguageModel
from imdb_lm.text import detokenize
from imdb_lm.tokens import tokenize

TEXTS = ['The movie was great, but I do not like the actors in it!', 'A zyzzyva of a movie, terrible and awful and not funny.', 'Good.',
         'WAS the film bad? It was a terrible, awful story with actors...', 'THE "movie" (the film) was great, but I like the awful actors']*9


def test_both_are_made_the_same_way(lm):
    shown = openings(lm, TEXTS, n=30, n_words=9, seed=1)
    assert len(shown) == 30 and 5 < sum(o.real for o in shown) < 25
    real = {detokenize(tokenize([t])[0][1:10]) + ' …' for t in (TEXTS[0], TEXTS[3], TEXTS[4])}
    assert {o.text for o in shown if o.real} == real
    written = [o.text for o in shown if not o.real]
    assert len(set(written)) == len(written) and all('xxunk' not in o.text and o.text.endswith(' …') for o in shown)
    assert shown == openings(lm, TEXTS, n=30, n_words=9, seed=1) != openings(lm, TEXTS, n=30, n_words=9, seed=2)


def test_no_opening_ends_early(lm):
    from copy import deepcopy
    hasty = LanguageModel(deepcopy(lm.net), lm.vocab, lm.config)
    hasty.net.decoder.bias.data[lm.o2i['xxbos']] += 9
    hasty.net.decoder.bias.data[lm.o2i['xxpad']] -= 99
    assert '' in hasty.generate('', n=9, n_words=9, seed=42)
    assert ' …' not in [o.text for o in openings(hasty, TEXTS, n_words=9)]


def test_too_few_real_ones(lm):
    with pytest.raises(ValueError, match='only 0 of 2 held-out reviews have 9 tokens') as e: openings(lm, TEXTS[1:3], n_words=9)
    assert '\n' not in str(e.value)
    with pytest.raises(ValueError, match='only 0 of 0'): openings(lm, [])


@pytest.mark.parametrize('bad', [dict(n=0), dict(n=-1), dict(n=1.5), dict(n_words=0), dict(n_words=-2), dict(n_words='9'), dict(seed=-1), dict(seed=None), dict(temperature=-1)])
def test_settings_that_cannot_be(lm, bad):
    with pytest.raises(ValueError, match=f'{next(iter(bad))}=.* cannot be') as e: openings(lm, TEXTS, **{'n_words': 9, **bad})
    assert '\n' not in str(e.value)


def test_any_list_of_texts(lm):
    want = openings(lm, TEXTS, n=5, n_words=9, seed=1)
    for o in (iter(TEXTS), tuple(TEXTS), np.array(TEXTS), pd.Series(TEXTS)): assert openings(lm, o, n=np.int64(5), n_words=np.int8(9), seed=np.int64(1)) == want
    with pytest.raises(TypeError, match='list of texts, found one str'): openings(lm, TEXTS[0])


def test_chance():
    for n in 1, 5, 20:
        for right in range(n+1): assert chance(right, n) == pytest.approx(binomtest(right, n, alternative='greater').pvalue)


SHOWN = [Opening('A', True), Opening('B', False), Opening('C', False)]

def guess(typed):
    said, lines = [], io.StringIO(typed)
    def ask(question):
        line = lines.readline()
        if line == '^C\n': raise KeyboardInterrupt
        if not line: raise EOFError
        return line
    return blind_test(SHOWN, ask, said.append), ''.join(said)


@pytest.mark.parametrize('typed, n, right', [
    ('r\ng\ng\n', 3, 3), ('REAL\n generated \nr', 3, 2), ('g\nr\nr\n', 3, 0), ('what?\n\nr\n1\ng\ng\nr\nr\n', 3, 3),
    ('', 0, 0), ('r\n', 1, 1), ('r\ng', 2, 2), ('huh\n', 0, 0), ('^C\n', 0, 0), ('r\nr\n^C\nr\n', 2, 1)])
def test_guesses(typed, n, right):
    res, said = guess(typed)
    assert (res['n'], res['right'], len(res['guesses'])) == (n, right, n) and res['chance'] == chance(right, n)
    assert [f'{i} of 3' in said for i in (1, 2, 3)] == [i <= n+1 for i in (1, 2, 3)]
    assert 'True' not in said and 'False' not in said


def test_the_score_in_words():
    assert tell_score(guess('r\nr\ng\n')[0], SHOWN) == ('2 of 3 right; guessing does at least as well with a probability of 50.0%.\n'
                                                        'Mistaken: 2 was generated.')
    assert tell_score(guess('r\n')[0], SHOWN).endswith('No mistake.')
    assert tell_score(guess('')[0], SHOWN) == 'No guess was made.'
