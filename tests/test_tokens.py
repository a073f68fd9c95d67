"""Tokens: equality with fastai, bad input, hostile texts, bounded memory, several processes."""
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from threading import Thread

import pytest
from fastai.text import core
from hypothesis import HealthCheck, given, settings, strategies as st

from imdb_lm import tokens
from imdb_lm.tokens import BOS, tokenize

stock = core.TokenizeWithRules(core.WordTokenizer())


def stock_tokens(texts): return [list(o) for o in stock(texts)]


def differing(texts):
    "What differs from fastai's tokens: (text, ours, fastai's)"
    return [o for o in zip(texts, tokenize(texts, 1), stock_tokens(texts)) if o[1] != o[2]]


def imdb():
    "The folder of IMDb, where this machine has it; else the test is skipped"
    folders = [Path(o) for o in [os.environ.get('IMDB_LM_DATA')] if o] or [core.Path(core_data())/'imdb']
    for o in folders:
        if (o/'unsup').is_dir(): return o
    pytest.skip(f'no IMDb in {folders[0]}; IMDB_LM_DATA names another folder')


def core_data():
    from fastai.data.external import fastai_path
    return fastai_path('data')


def reviews(step):
    files = sorted(imdb().rglob('*_*.txt'))[::step]
    return [o.read_text(encoding='utf8') for o in files]


# the same names, the same rules

def test_special_tokens_are_those_of_fastai():
    assert list(tokens.SPECIAL_TOKENS) == core.defaults.text_spec_tok
    for o in 'UNK PAD BOS EOS FLD TK_REP TK_WREP TK_UP TK_MAJ'.split(): assert getattr(tokens, o) == getattr(core, o)


RULES = 'fix_html replace_rep replace_wrep spec_add_spaces rm_useless_spaces replace_all_caps replace_maj'.split()
BITS = ['#39;', 'amp;', '&lt;', '&eacute', '&#233;', '&#x41', 'nbsp;', '<br />', '<unk>', ' @.@ ', ' @-@ ', '\\n', '\\"', '...',
        'quot;', '&', 'a', 'b', 'A', 'B', 'ab', 'É', '1', '_', '-', '!', ' ', ' ', '\n', '\t', '\x85', '\u2028', '\xa0', '/', '#']


@pytest.mark.parametrize('rule', RULES)
def test_each_rule_is_fastais(rule):
    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.sampled_from(BITS), max_size=30).map(''.join))
    def check(text): assert getattr(tokens, rule)(text) == getattr(core, rule)(text)
    check()


# texts made by hand

HOSTILE = ['', ' ', '\n', '\n\n', ' \n ', 'a', 'A', ' a', 'a ', '\na\n', 'a  b', 'a \n b', 'a\n b', 'a \nb', 'a\n \nb', 'a\t\tb',
    'a\xa0b', 'a \xa0 b', 'a\x85b', 'a\u2028b\u2029c', 'a\u3000b', 'a\u200bb', 'a\u200db', '\ufeffa', 'a\x1cb', 'a\x00b', 'a\x0bb\x0cc',
    'a\n/b', 'a\n#b', 'a\n\\b', 'a/\nb', '/', '//', '/ /', ' / ', '#1', 'a\n !!! b', 'a\n!!!b', '!!!\na', '\n!!!', 'a ▁ b', 'a\n▁b',
    'no no no', 'no no no no!', 'no\nno\nno', 'no  no   no', 'No no no', 'NO NO NO', 'no no now', "no no no's", 'a a aaaa', '4444 4 4',
    'xxrep xxrep aaaa', '1 1 111', '111 1', 'x\nho ho ho\ny', 'ho ho ho\n\ny', '\nho ho ho', 'aaa aaa aaa', 'a_b a_b a_b', 'é é é', 'the the\xa0the',
    'SHOUT', 'SHOUT!', 'Shout', 'sHOUT', 'I', 'I.', 'A1', 'ABc', "DON'T", "Don't", 'É', 'ÉTÉ', 'Été', 'AÉ', 'Aé', 'ΣΑΣ', 'ΑΣ ΑΣ.', 'İstanbul', 'ǅ', 'ẞ',
    "can't cannot won't gonna Id ill its it's he'd've o'clock y'all 'em 'tis", 'e.g. i.e. vs. a.m. 5pm 10a.m. Dr. Mr. U.S. St. co. inc.',
    'well-made made-for-TV a--b a - b 1-2 a...b a..b ....  …', '(a) [b] {c} "d" \'e\' `f` «g» “h” ‘i’', 'a,b a.b a.B 1,000.50 $5 5$ 50% 5km 5kg. 3/4',
    ':) :-) ;) :( :(( 8) :D xD <3 </3 ^_^ (o: ಠ_ಠ ¯\\(ツ)/¯', 'a:) b:( c:-) d:( ( e:(( (', 'x:( (', 'x:( ( (', "a:) 's", 'a:)\n)', 'a:) )', 'w/o w / o and/or',
    'http://www.imdb.com/title/tt0111161/?ref_=nv_sr_1 www.a.com a@b.co a.co/b', 'xxbos a xxunk xxmaj b xxup xxrep 3 xxwrep xxfld 1 xxeos xxpad',
    'XXBOS Xxmaj', '<br /><br />A<br/>b<br>', '&amp;lt; &nbsp; &#39; &quot;x&quot; &bogus; &#xe9; &#233 &copy2', 'a\\nb \\"c\\"', '<unk> @-@ 3 @.@ 5',
    '😀', '😀😀😀', 'a😀b', '👨‍👩‍👧', 'e\u0301', '中文。字', 'עברית', '\u0645\u0631\u062d\u0628\u0627', 'ﬁ', '½', '①', 'a°C. 5°C.', "''", "'", '""', '-', '--', '—', '_', '__',
    '\ue000', '\U0010ffff', 'a' * 999, 'Ab' * 499 + 'A', '()' * 60, 'a b ' * 300, '\n' * 1200, 'a' + '\n ' * 700 + 'b', 'a.b' * 30]


@pytest.mark.parametrize('text', HOSTILE, ids=lambda o: ascii(o)[:30])
def test_hostile_text(text): assert not differing([text, f'{text} {text}', f'It is {text}. "{text}"', f'{text}\n{text}'])


def test_hostile_texts_side_by_side(): assert not differing([' '.join(HOSTILE), '\n'.join(HOSTILE), ''.join(HOSTILE)])


# texts made by chance

SPACES = [chr(o) for o in range(0x3001) if chr(o).isspace()]
CASES = sorted(stock.tok.pipe.__self__.tokenizer.rules)
WORDS = ['the', 'The', 'THE', 'movie', 'I', 'not', "n't", "'s", 'a', 'é', 'É', 'Σ', 'ο', 'İ', '1', '10', '3.5', 'O', 'www.', '.com', 'http://', '@',
         'xxbos', 'xxmaj', 'xxrep', '&', ';', '😀', '\u200d', '\u0301', '中', '\x00', '\xad', '▁', *'.,!?:;-_\'"()[]{}<>/\\#*+=$%^~|`’‘“”…–—']
PIECES = st.one_of(st.sampled_from(WORDS), st.sampled_from(CASES), st.sampled_from(BITS), st.sampled_from(SPACES), st.sampled_from([' ', ' ', '\n']),
                   st.characters(exclude_categories=['Cs']), st.tuples(st.sampled_from(WORDS), st.integers(2, 5)).map(lambda o: o[0]*o[1]),
                   st.tuples(st.sampled_from(WORDS), st.sampled_from([' ', '\n', '  ']), st.integers(2, 4)).map(lambda o: (o[0] + o[1])*o[2]))
MIXED = st.lists(PIECES, max_size=25).map(''.join)
SPACED = st.lists(st.tuples(PIECES, st.sampled_from(['', ' ', ' ', '\n', '  '])), max_size=25).map(lambda o: ''.join(map(''.join, o)))
SMILEYS = st.lists(st.sampled_from([*":;=8(()))[]{}<>-_*'.,oOpPdDxX3/|^0\\’° \n", ' ', ' ', 's ', "'s", 'w/o', 'doin', 'vs.']), max_size=30).map(''.join)
KINDS = pytest.mark.parametrize('texts', [MIXED, SPACED, SMILEYS, st.text()], ids=['mixed', 'spaced', 'smileys', 'any'])


def check_by_chance(texts, n):
    @settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(texts, min_size=1, max_size=4))
    def check(texts): assert not differing(texts)
    check()


@KINDS
def test_texts_by_chance(texts): check_by_chance(texts, 500)


@pytest.mark.slow
@KINDS
def test_many_texts_by_chance(texts): check_by_chance(texts, 20_000)


# real reviews

def test_a_sample_of_imdb(): assert not differing(reviews(step=50))


@pytest.mark.slow
def test_all_of_imdb():
    texts = reviews(step=1)
    assert len(texts) >= 100_000
    for i in range(0, len(texts), 5000): assert not differing(texts[i:i + 5000])


# what spaCy is spared

def test_plain_pieces_are_what_spacy_makes_of_them():
    cases,_,_ = tokens._special_cases()
    spacy = tokens._spacy_tokenizer()
    stems = {o.strip('.\'"(),') for o in cases} | {'the', 'movie', 'km', 'us', 'xxmaj', 'zz', 'mph', 'etc', 'http', 'www'}
    n = 0
    for before,stem,after in product(['', '"', '('], sorted(stems), ['', *'.,!?;:")']):
        piece = before + stem + after
        plain = tokens._plain_tokens(piece, cases)
        if plain is None: continue
        n += 1
        assert plain == tokens._texts(spacy(piece)), piece
    assert n > 10_000


def test_a_case_of_one_token_is_never_cut():
    "`joined` leaves such cases out"
    t = tokens._spacy_tokenizer()
    bare = tokens._unjoining_tokenizer(tokens._spacy_tokenizer())
    bare.rules = {}
    for o in t.rules:
        if t.find_prefix(o) or t.find_suffix(o) or t.find_infix(o): 
            parts = tokens._texts(bare(o))
            assert len(parts) > 1 or parts == tokens._texts(t(o)), o
