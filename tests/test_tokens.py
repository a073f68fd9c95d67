"""Tokens: equality with fastai, bad input, hostile texts, bounded memory, several processes."""
import multiprocessing
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from threading import Thread

import numpy as np
import pandas as pd
import pytest
from fastai.data.external import fastai_path
from fastai.text import core
from hypothesis import HealthCheck, given, settings, strategies as st
from spacy.tokenizer import Tokenizer

from imdb_lm import tokens
from imdb_lm.tokens import BOS, tokenize

stock = core.TokenizeWithRules(core.WordTokenizer())


def stock_tokens(texts): return [list(o) for o in stock(texts)]


def differing(texts):
    "What differs from fastai's tokens: (text, ours, fastai's)"
    return [o for o in zip(texts, tokenize(texts, 1), stock_tokens(texts)) if o[1] != o[2]]


def imdb():
    "The folder of IMDb, where this machine has it; else the test is skipped"
    folder = Path(os.environ.get('IMDB_LM_DATA') or fastai_path('data')/'imdb')
    if not (folder/'unsup').is_dir(): pytest.skip(f'no IMDb in {folder}: IMDB_LM_DATA may name another folder')
    return folder


def reviews(step):
    files = sorted(imdb().rglob('*_*.txt'))[::step]
    return [o.read_text(encoding='utf8') for o in files]


# the same names, the same rules

def test_special_tokens_are_those_of_fastai():
    assert list(tokens.SPECIAL_TOKENS) == core.defaults.text_spec_tok
    for o in 'UNK PAD BOS EOS FLD TK_REP TK_WREP TK_UP TK_MAJ'.split(): assert getattr(tokens, o) == getattr(core, o)


RULES = 'fix_html replace_rep replace_wrep spec_add_spaces rm_useless_spaces replace_all_caps replace_maj'.split()
BITS = ['#39;', 'amp;', '&lt;', '&eacute', '&#233;', '&#x41', 'nbsp;', '<br />', '<unk>', ' @.@ ', ' @-@ ', '\\n',
    '\\"', '...', 'quot;', '&', 'a', 'b', 'A', 'B', 'ab', 'É', '1', '_', '-', '!', ' ', ' ', '\n', '\t', '\x85',
    '\u2028', '\xa0', '/', '#']


@pytest.mark.parametrize('rule', RULES)
def test_each_rule_is_fastais(rule):
    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.lists(st.sampled_from(BITS), max_size=30).map(''.join))
    def check(text): assert getattr(tokens, rule)(text) == getattr(core, rule)(text)
    check()


# texts made by hand

HOSTILE = ['', ' ', '\n', '\n\n', ' \n ', 'a', 'A', ' a', 'a ', '\na\n', 'a  b', 'a \n b', 'a\n b', 'a \nb',
    'a\n \nb', 'a\t\tb', 'a\xa0b', 'a \xa0 b', 'a\x85b', 'a\u2028b\u2029c', 'a\u3000b', 'a\u200bb', 'a\u200db',
    '\ufeffa', 'a\x1cb', 'a\x00b', 'a\x0bb\x0cc', 'a\n/b', 'a\n#b', 'a\n\\b', 'a/\nb', '/', '//', '/ /', ' / ', '#1',
    'a\n !!! b', 'a\n!!!b', '!!!\na', '\n!!!', 'a ▁ b', 'a\n▁b', 'no no no', 'no no no no!', 'no\nno\nno',
    'no  no   no', 'No no no', 'NO NO NO', 'no no now', "no no no's", 'a a aaaa', '4444 4 4', 'xxrep xxrep aaaa',
    '1 1 111', '111 1', 'x\nho ho ho\ny', 'ho ho ho\n\ny', '\nho ho ho', 'aaa aaa aaa', 'a_b a_b a_b', 'é é é',
    'the the\xa0the', 'SHOUT', 'SHOUT!', 'Shout', 'sHOUT', 'I', 'I.', 'A1', 'ABc', "DON'T", "Don't", 'É', 'ÉTÉ',
    'Été', 'AÉ', 'Aé', 'ΣΑΣ', 'ΑΣ ΑΣ.', 'İstanbul', 'ǅ', 'ẞ',
    "can't cannot won't gonna Id ill its it's he'd've o'clock y'all 'em 'tis",
    'e.g. i.e. vs. a.m. 5pm 10a.m. Dr. Mr. U.S. St. co. inc.',
    'well-made made-for-TV a--b a - b 1-2 a...b a..b ....  …', '(a) [b] {c} "d" \'e\' `f` «g» “h” ‘i’',
    'a,b a.b a.B 1,000.50 $5 5$ 50% 5km 5kg. 3/4', ':) :-) ;) :( :(( 8) :D xD <3 </3 ^_^ (o: ಠ_ಠ ¯\\(ツ)/¯',
    'a:) b:( c:-) d:( ( e:(( (', 'x:( (', 'x:( ( (', "a:) 's", 'a:)\n)', 'a:) )', 'w/o w / o and/or',
    'http://www.imdb.com/title/tt0111161/?ref_=nv_sr_1 www.a.com a@b.co a.co/b',
    'xxbos a xxunk xxmaj b xxup xxrep 3 xxwrep xxfld 1 xxeos xxpad', 'XXBOS Xxmaj', '<br /><br />A<br/>b<br>',
    '&amp;lt; &nbsp; &#39; &quot;x&quot; &bogus; &#xe9; &#233 &copy2', 'a\\nb \\"c\\"', 'it#39;s 5#36; x#146;s amp; nbsp; quot;', '<unk> @-@ 3 @.@ 5', '😀',
    '😀😀😀', 'a😀b', '👨‍👩‍👧', 'e\u0301', '中文。字', 'עברית', '\u0645\u0631\u062d\u0628\u0627', 'ﬁ', '½', '①', 'a°C. 5°C.',
    "''", "'", '""', '-', '--', '—', '_', '__', '\ue000', '\U0010ffff', 'a' * 900, 'Ab' * 450 + 'A', '()' * 60,
    'a b ' * 300, '\n' * 1200, 'a' + '\n ' * 700 + 'b', 'a.b' * 30]


@pytest.mark.parametrize('text', HOSTILE, ids=lambda o: ascii(o)[:30])
def test_hostile_text(text):
    assert not differing([text, f'{text} {text}', f'It is {text}. "{text}"', f'{text}\n{text}'])


def test_hostile_texts_side_by_side(): assert not differing([' '.join(HOSTILE), '\n'.join(HOSTILE)])


# texts made by chance

SPACES = [chr(o) for o in range(0x3001) if chr(o).isspace()]
CASES = sorted(stock.tok.pipe.__self__.tokenizer.rules)
WORDS = ['the', 'The', 'THE', 'movie', 'I', 'not', "n't", "'s", 'a', 'é', 'É', 'Σ', 'ο', 'İ', '1', '10', '3.5', 'O', 'www.',
    '.com', 'http://', '@', 'xxbos', 'xxmaj', 'xxrep', '&', ';', '😀', '\u200d', '\u0301', '中', '\x00', '\xad', '▁',
    *'.,!?:;-_\'"()[]{}<>/\\#*+=$%^~|`’‘“”…–—']
REPEATED = st.tuples(st.sampled_from(WORDS), st.sampled_from(['', ' ', '\n', '  ']), st.integers(2, 5))
PIECES = st.one_of(*map(st.sampled_from, [WORDS, CASES, BITS, SPACES, [' ', ' ', '\n']]),
                   st.characters(exclude_categories=['Cs']), REPEATED.map(lambda o: (o[0] + o[1])*o[2]))
BETWEEN = st.sampled_from(['', ' ', ' ', '\n', '  '])
MIXED = st.lists(PIECES, max_size=25).map(''.join)
SPACED = st.lists(st.tuples(PIECES, BETWEEN).map(''.join), max_size=25).map(''.join)
SIGNS = [*":;=8(()))[]{}<>-_*'.,oOpPdDxX3/|^0\\’° \n", ' ', ' ', 's ', "'s", 'w/o', 'doin', 'vs.']
SMILEYS = st.lists(st.sampled_from(SIGNS), max_size=30).map(''.join)
KINDS = pytest.mark.parametrize('texts', [MIXED, SPACED, SMILEYS, st.text()], ids=['mixed', 'spaced', 'smileys', 'any'])


def check_by_chance(texts, n, again):
    @settings(max_examples=n, deadline=None, derandomize=again, suppress_health_check=list(HealthCheck))
    @given(st.lists(texts, min_size=1, max_size=4))
    def check(texts): assert not differing(texts)
    check()


@KINDS
def test_texts_by_chance(texts): check_by_chance(texts, 500, again=True)


@pytest.mark.slow
@KINDS
def test_many_texts_by_chance(texts): check_by_chance(texts, 20_000, again=False)


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
    stems = {o.strip('.\'"(),') for o in cases} | {'movie', 'xxmaj', 'mph', 'etc', 'http', 'www'}
    stems |= {a + b for a,b in product(ascii_lowercase, repeat=2)} | {f'{o}x' for o in stems}
    n = 0
    for before,stem,after in product(['', '"', '('], sorted(stems), ['', *'.,!?;:")']):
        piece = before + stem + after
        plain = tokens._plain_tokens(piece, cases)
        if plain is None: continue
        n += 1
        assert plain == tokens._texts(spacy(piece)), piece
    assert n > 10_000


def test_special_cases_that_spacy_would_not_cut_stay_whole():
    "`joined` leaves them out"
    t = tokens._spacy_tokenizer()
    bare = Tokenizer(t.vocab, None, t.prefix_search, t.suffix_search, t.infix_finditer, t.token_match, t.url_match)
    cut = [o for o in t.rules if o == o.lower() and (t.find_prefix(o) or t.find_suffix(o) or t.find_infix(o))]
    for o in cut: assert len(bare(o)) > 1 or tokens._texts(bare(o)) == tokens._texts(t(o)), o
    assert len(cut) > 100


# processes and threads

SOME = [f'Review {i}: {o}' for i,o in enumerate(HOSTILE * 4)]


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_two_processes_give_what_one_gives(method, tmp_path):
    script = tmp_path/'main.py'
    script.write_text(f"""
import multiprocessing as mp
from imdb_lm.tokens import tokenize
if __name__ == '__main__':
    mp.set_start_method({method!r})
    texts = [f'Review {{i}}: it is GREAT!!!! (not) mustn\u2019t' for i in range(2000)]
    res = tokenize(texts, 2)
    assert res == tokenize(texts, 1)
    assert res[1234][:4] == ['xxbos', 'xxmaj', 'review', '1234']
""")
    run_python(script)


def test_many_texts_start_processes_where_they_are_forked(monkeypatch):
    monkeypatch.setattr('fastcore.basics.num_cpus', lambda: 4)
    monkeypatch.setattr(tokens, 'get_start_method', lambda allow_none: 'fork')
    assert tokens._workers(9_000*1000, None) == 1
    assert tokens._workers(10_000*1000, None) == 2
    assert tokens._workers(90_000*1000, None) == 4
    monkeypatch.setattr(tokens, 'get_start_method', lambda allow_none: 'spawn')
    assert tokens._workers(90_000*1000, None) == 1


def test_how_processes_start_stays_the_callers_to_say():
    run_python("-c", "import multiprocessing; from imdb_lm.tokens import tokenize; tokenize(['a']); multiprocessing.set_start_method('spawn'); print('ok')")


def test_a_daemon_does_not_start_processes():
    with multiprocessing.get_context('fork').Pool(1) as pool:
        assert pool.apply(tokenize, (['A film.']*600, 2)) == tokenize(['A film.']*600, 1)


def test_threads_share_the_memo():
    memo,found = tokens._Memo(limit=10_000),{}
    def work(i): found[i] = [memo.tokenize([o])[0] for o in SOME]
    threads = [Thread(target=work, args=(i,)) for i in range(4)]
    for o in threads: o.start()
    for o in threads: o.join()
    assert list(found.values()) == [tokenize(SOME)]*4


# the memo

def test_the_memo_is_bounded():
    memo = tokens._Memo(limit=5000)
    for i in range(0, 4000, 100):
        texts = [f'word{j}, (W{j})' for j in range(i, i + 100)]
        assert memo.tokenize(texts) == tokenize(texts)
        assert sum(map(len, memo)) < 5000 + 3000
        assert len(memo.tokenizers[0].vocab.strings) < 5000


def test_an_interrupted_batch_leaves_no_harm(monkeypatch):
    memo = tokens._Memo()
    make = tokens._piece_tokens
    def stop(*args):
        yield next(make(*args))
        raise KeyboardInterrupt
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(tokens, '_piece_tokens', stop)
        memo.tokenize(["a well-made film, isn't it?"])
    assert memo.tokenize(["a well-made film, isn't it?"]) == stock_tokens(["a well-made film, isn't it?"])


# long and hostile

def run_python(*args, **kwargs):
    env = {**os.environ, 'PYTHONPATH': str(Path(tokens.__file__).parents[1])}
    res = subprocess.run([sys.executable, *map(str, args)], env=env, capture_output=True, text=True, **kwargs)
    assert res.returncode == 0, res.stderr
    return res.stdout


MEGABYTE = ["'AB'*500_000 + 'a'", "'()'*500_000", "'a'*1_000_000", "'a '*500_000", "'a a b b '*125_000",
    "'('*500_000 + ' ('*250_000", "'a:( ( '*150_000", "''.join(f'({i})' for i in range(130_000))",
    "'a' + ' '*1_000_000 + 'b'", "'a' + chr(10)*1_000_000 + 'b'", "'&#' + '1'*1_000_000", "'&#'*500_000",
    "'ab'*250_000 + ' ' + 'ab'*250_000 + ' ' + 'ab'*250_000", "'a@:'*333_000", "'İa'*500_000"]


def test_a_megabyte_takes_seconds():
    "With fastai's rules or with spaCy alone some of these take hours"
    run_python('-c', f"""from imdb_lm.tokens import tokenize
for text in {', '.join(MEGABYTE)}:
    tokens, = tokenize([text])
    assert tokens[0] == 'xxbos' and len(tokens) > 1""", timeout=600)


def test_beyond_a_million_characters():
    text = 'A film (not a:( ( bad).\n' * 50_000
    line = tokenize([text[:23]])[0][1:]
    assert tokenize([text])[0] == [BOS, *[*line, '\n']*49_999, *line]


def test_only_runs_beyond_a_thousand_characters_differ():
    assert not differing(['ab'*500, 'Ab'*499 + '!', f'a:( ( {"b"*1000} :( (', 'a:( ( ' + '( '*1000])
    assert not differing(['a' + '\n'*1001 + 'b:( (' + '\n'*1001 + 'c'])
    assert tokenize(['ab'*500 + '-b'])[0] == [BOS, *['ab'*50]*10, '-b']


# bad input

@pytest.mark.parametrize('texts,kind', [('a text', 'str'), (b'a text', 'bytes'), (None, 'NoneType'), (3, 'int'), ({'a': 'text'}, 'dict'),
                                        (pd.DataFrame({'text': ['a']}), 'DataFrame'), (np.array([['a', 'b']]), 'ndarray')])
def test_one_thing_is_no_list(texts, kind):
    with pytest.raises(TypeError, match=f'list of texts, found one {kind}'): tokenize(texts)


@pytest.mark.parametrize('bad', [None, float('nan'), pd.NA, 3, b'a', ['a']])
def test_a_text_that_is_none(bad):
    with pytest.raises(TypeError, match=r'texts\[2\] is .*where a str was expected'): tokenize(['a', 'b', bad])


def test_half_a_surrogate_pair():
    text = b'caf\xe9 noir'.decode('utf8', errors='surrogateescape')
    match = r"texts\[1\] holds half a surrogate pair, '\\udce9', at character 3"
    with pytest.raises(ValueError, match=match): tokenize(['é', text])


@pytest.mark.parametrize('n_workers', [-1, -5, 1.5, float('nan'), '2'])
def test_no_number_of_processes(n_workers):
    with pytest.raises(ValueError, match='n_workers=.* cannot be'): tokenize(['a'], n_workers)


def test_any_iterable_of_texts():
    for o in (('a', 'b'), iter('ab'), pd.Series(['a', 'b'], index=[7, 9]), np.array(['a', 'b'])):
        assert tokenize(o) == [[BOS, 'a'], [BOS, 'b']]
    assert tokenize([]) == []


def test_tokens_are_plain_strings(): assert {type(o) for o in tokenize(np.array(['A b\n/ c?']))[0]} == {str}


# imports

def loaded_after(code):
    return set(run_python('-c', f'{code}; import sys; print(*sys.modules)').split())


def test_the_module_alone_is_light():
    assert not loaded_after('import imdb_lm.tokens') & {'torch', 'fastai', 'fastcore', 'spacy', 'numpy'}


def test_fastai_is_never_imported():
    loaded = loaded_after('from imdb_lm.tokens import tokenize; tokenize(["It is Zyxomma?!"])')
    assert 'spacy' in loaded and 'fastai' not in loaded


def test_common_words_need_no_spacy():
    assert 'spacy' not in loaded_after('from imdb_lm.tokens import tokenize; tokenize(["I like this movie because", "it\'s a very well made film."])')


def test_common_pieces_of_another_spacy(monkeypatch):
    assert tokens._common_pieces()
    monkeypatch.setattr(tokens, 'version', lambda name: '1.0')
    assert tokens._common_pieces() == {}


def test_no_room_for_another_process(monkeypatch):
    "A large process may not be let fork: it goes on alone"
    def fork(): raise OSError(12, 'Cannot allocate memory')
    texts = ['A film.', 'Not good!']*3
    monkeypatch.setattr(os, 'fork', fork)
    assert tokenize(texts, n_workers=2) == tokenize(texts, n_workers=1)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='processes are forked here')
def test_room_for_one_process_but_not_for_two():
    "Nor does the one that there is wait for ever, and the program with it"
    code = """
import os
from imdb_lm.tokens import tokenize
fork, texts, n = os.fork, ['A film.', 'Not good!']*300, 0
def second_fails():
    global n
    n += 1
    if n == 2: raise OSError(12, 'Cannot allocate memory')
    return fork()
os.fork = second_fails
assert tokenize(texts, n_workers=3) == tokenize(texts, n_workers=1) and n == 2
"""
    subprocess.run([sys.executable, '-c', code], check=True, timeout=100)
