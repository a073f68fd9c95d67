"""The token cache: true of the corpus it was made of, whole or not there, and small in memory."""
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest

from imdb_lm import cache
from imdb_lm.cache import Corpus, cached_tokens
from imdb_lm.data import review_files
from imdb_lm.tokens import tokenize


@pytest.fixture
def home(tmp_path): return tmp_path/'tokens'


@pytest.fixture
def folder(corpus, tmp_path):
    "A copy of 60 reviews that may be changed"
    return shutil.copytree(corpus, tmp_path/'imdb')


@pytest.fixture
def made(monkeypatch):
    "How often a cache was made"
    calls, write = [], cache._write
    monkeypatch.setattr(cache, '_write', lambda *args: (calls.append(1), write(*args)))
    return calls


def rows(corpus): return [corpus[i] for i in range(len(corpus))]

def texts(files): return [o.read_text(encoding='utf-8') for o in files]

def whole(home): return sorted(o.name for o in home.iterdir() if not o.name.startswith('part-'))


# ---- the same tokens

@pytest.mark.parametrize('n_workers', [1, 2])
def test_tokens_are_those_of_tokenize(folder, reviews, home, n_workers, monkeypatch):
    monkeypatch.setattr(cache._batches, '__defaults__', (5_000, 7))
    want = tokenize(reviews)
    for items in (review_files(folder), reviews):
        got = cached_tokens(items, home, n_workers=n_workers)
        assert rows(got) == want == rows(cached_tokens(items, home))
        assert got.words == list(dict.fromkeys(o for row in want for o in row)) # first come, first numbered
        assert got.counts.tolist() == [sum(row.count(o) for row in want) for o in got.words]
        assert got.lengths.tolist() == [len(o) for o in want]
    assert isinstance(got.ids.base, np.memmap) and got.ids.dtype == np.int32


HOSTILE = ['', '\0', ' ', '\x85\u2028', 'xxbos xxunk xxrep 3 a', '😀'*50, 'a'*5_000, '()'*2_000, "can't\n\n\ndo", 'A\x1cB', '\ufeffA', '<br />'*9]

def test_hostile_texts(home): assert rows(cached_tokens(HOSTILE, home)) == tokenize(HOSTILE)

def test_no_texts(home): assert rows(cached_tokens([], home)) == rows(cached_tokens([], home)) == []


def test_no_texts_have_the_types_of_some():
    none, some = ([o.dtype for o in (c.ids, c.ends, c.counts)] for c in (Corpus.of([]), Corpus.of([['a']])))
    assert none == some


def test_any_iterable_of_texts_or_files(folder, reviews, home, made):
    "A filtered column has no row 0, a generator no length"
    table = pd.DataFrame({'text': ['no review', *reviews]})
    for items in (table.text[1:], iter(reviews), np.array(reviews, object)): assert rows(cached_tokens(items, str(home))) == tokenize(reviews)
    assert rows(cached_tokens(iter(review_files(folder)), home)) == tokenize(reviews)
    assert len(made) == 2
    with pytest.raises(TypeError, match='found one DataFrame'): cached_tokens(table, home)


def test_texts_from_the_end():
    corpus = Corpus.of([['a', 'b'], [], ['c']])
    assert [corpus[i] for i in (-1, -2, -3, np.int64(-3))] == [['c'], [], ['a', 'b'], ['a', 'b']]
    for i,o in ((3, corpus), (-4, corpus), (0, Corpus.of([])), (-1, Corpus.of([]))):
        with pytest.raises(IndexError): o[i]

def test_a_corpus_of_rows():
    want = [['a', 'b'], [], ['b']]
    got = Corpus.of(iter(want))
    assert rows(got) == want and got.words == ['a', 'b'] and got.counts.tolist() == [1, 2]


# ---- never stale

def change_text(f): f.write_text(f.read_text(encoding='utf-8') + ' More.', encoding='utf-8')

def change_a_letter(f): f.write_bytes(b'Z' + f.read_bytes()[1:])

def change_in_secret(f):
    s = f.stat()
    change_a_letter(f)
    os.utime(f, ns=(s.st_atime_ns, s.st_mtime_ns))

@pytest.mark.parametrize('change', [change_text, change_a_letter, change_in_secret, os.unlink, lambda f: f.rename(f.with_name('new.txt')),
                                    lambda f: shutil.copy(f, f.with_name('more.txt')), lambda f: f.with_name('more.txt').touch()])
def test_changes_are_seen(folder, home, made, change):
    cached_tokens(review_files(folder), home)
    cached_tokens(review_files(folder), home)
    assert len(made) == 1
    change(review_files(folder)[30])
    files = review_files(folder)
    assert rows(cached_tokens(files, home)) == tokenize(texts(files))
    assert len(made) == 2


def test_a_text_changed_in_a_list(reviews, home, made):
    cached_tokens(reviews, home)
    cached_tokens(list(reviews), home)
    cached_tokens(reviews, home, verify=True)
    assert len(made) == 1
    for other in ([*reviews[:-1], 'A film.'], reviews[::-1], reviews[:-1], [''.join(reviews[:2]), '', *reviews[2:]]):
        assert rows(cached_tokens(other, home)) == tokenize(other)
    assert len(made) == 5


def test_the_order_of_files_matters(folder, home):
    files = review_files(folder)
    assert rows(cached_tokens(files[::-1], home)) == rows(cached_tokens(files, home))[::-1]


def test_another_version_makes_its_own(reviews, home, made, monkeypatch):
    cached_tokens(reviews, home)
    monkeypatch.setattr(cache, '_versions', 'spacy 99')
    cached_tokens(reviews, home)
    assert len(made) == 2


def test_errors_make_their_own(tmp_path, home):
    (tmp_path/'a.txt').write_bytes(b'A caf\xe9.')
    got = {o: cached_tokens([tmp_path/'a.txt'], home, errors=o)[0] for o in ('ignore', 'replace')}
    assert got == {'ignore': tokenize(['A caf.'])[0], 'replace': tokenize(['A caf\ufffd.'])[0]}


def test_verify_reads_the_files(folder, home, made, monkeypatch):
    monkeypatch.setattr(cache, '_stamp', lambda stat: 0) # a file system that keeps no times
    files = review_files(folder)
    cached_tokens(files, home)
    cached_tokens(files, home, verify=True)
    assert len(made) == 1
    change_a_letter(files[59])
    assert rows(cached_tokens(files, home)) != tokenize(texts(files))
    for _ in range(2): assert rows(cached_tokens(files, home, verify=True)) == tokenize(texts(files))
    assert rows(cached_tokens(files, home)) == tokenize(texts(files))
    assert len(made) == 2


def test_files_changed_while_they_are_read(folder, home, monkeypatch):
    read = cache.read_review
    def slowly(f, errors):
        text = read(f, errors)
        if f.name == '0_1.txt' or f == review_files(folder)[3]: change_text(f)
        return text
    monkeypatch.setattr(cache, 'read_review', slowly)
    with pytest.raises(RuntimeError, match='changed while they were read: call again'): cached_tokens(review_files(folder), home, n_workers=1)
    assert os.listdir(home) == []


# ---- whole or not there

@pytest.mark.parametrize('name', ['ids.npy', 'ends.npy', 'counts.npy', 'words.json', 'about.json'])
@pytest.mark.parametrize('spoil', [os.unlink, lambda f: f.write_bytes(b''), lambda f: f.write_bytes(f.read_bytes()[:-1]),
                                   lambda f: f.write_bytes(b'\x93NUMPY' + b'\xff'*200), lambda f: f.write_text('[1]')])
def test_a_damaged_cache_is_made_again(reviews, home, name, spoil):
    want = rows(cached_tokens(reviews, home))
    spoil(next(home.glob(f'*/{name}')))
    assert rows(cached_tokens(reviews, home)) == want
    assert len(whole(home)) == 1


def test_others_may_read_it(reviews, home):
    was = os.umask(0o077)
    try: cached_tokens(reviews, home)
    finally: os.umask(was)
    made = next(home.glob('*/ids.npy')).parent
    assert made.stat().st_mode & 0o055 == 0o055 and all(o.stat().st_mode & 0o044 == 0o044 for o in made.iterdir())


@pytest.mark.parametrize('bit', [1 << 30, 1 << 31])
def test_a_number_that_is_no_word(reviews, home, bit):
    "As a bit of the disk may turn"
    want = rows(cached_tokens(reviews, home))
    ids = np.lib.format.open_memmap(next(home.glob('*/ids.npy')), mode='r+')
    ids.view(np.uint32)[7] ^= bit
    ids.flush()
    assert rows(cached_tokens(reviews, home)) == want


SCRIPT = '''
import sys
from pathlib import Path
from imdb_lm import cache
from imdb_lm.data import review_files
cache._batches.__defaults__ = (2_000, 5)
corpus = cache.cached_tokens(review_files(sys.argv[1]), Path(sys.argv[2]), n_workers=int(sys.argv[3]))
print(len(corpus.ids), flush=True)
'''

def start(*args): return subprocess.Popen([sys.executable, '-c', SCRIPT, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


@pytest.mark.parametrize('n', [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment(folder, home, n):
    "After a kill -9 of the whole process group the next call makes it whole"
    want = tokenize(texts(review_files(folder)))
    for i in range(n):
        shutil.rmtree(home, ignore_errors=True)
        process = start(folder, home, 1 + i%2)
        while not home.exists() and process.poll() is None: time.sleep(0.005)
        time.sleep(Random(i).uniform(0, 0.4))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for name in whole(home): cache._load(home/name)
        assert rows(cached_tokens(review_files(folder), home)) == want


def test_two_processes_at_once(folder, home):
    processes = [start(folder, home, 1) for _ in range(2)]
    outs = [p.communicate(timeout=120) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outs
    assert outs[0][0] == outs[1][0]
    assert len(os.listdir(home)) == 1


def test_another_process_was_first(reviews, home, monkeypatch):
    rename = Path.rename
    def late(self, to):
        shutil.copytree(self, to)
        return rename(self, to)
    monkeypatch.setattr(Path, 'rename', late)
    assert rows(cached_tokens(reviews, home)) == tokenize(reviews)
    assert len(os.listdir(home)) == 1


@pytest.mark.parametrize('where', ['_Writer.add', '_Writer.close', '_save'])
def test_a_full_disk(reviews, home, monkeypatch, where):
    def full(*args, **kwargs): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(f'imdb_lm.cache.{where}', full)
    with pytest.raises(OSError, match='no room for the tokens in .*tokens: make some, or set FASTAI_HOME') as e: cached_tokens(reviews, home)
    assert e.value.errno == errno.ENOSPC and os.listdir(home) == []


def test_a_home_that_cannot_be_written(reviews, home):
    home.write_text('a file where the folder should be')
    with pytest.warns(UserWarning, match='tokens cannot be written .*: the tokens are kept for this run only; set FASTAI_HOME'):
        corpus = cached_tokens(reviews, home)
    assert rows(corpus) == tokenize(reviews)


@pytest.mark.skipif(os.name == 'nt' or os.geteuid() == 0, reason='needs a user who may not write everywhere')
def test_a_read_only_home(reviews, home):
    home.mkdir()
    home.chmod(0o555)
    with pytest.warns(UserWarning, match='cannot be written'): assert rows(cached_tokens(reviews, home)) == tokenize(reviews)
    home.chmod(0o755)


def test_a_cache_of_no_use_that_stays(reviews, home, monkeypatch):
    "Somebody else's, say: the tokens are made for this run, and are those of the texts"
    cached_tokens(reviews, home)
    next(home.glob('*/ids.npy')).write_bytes(b'')
    remove = shutil.rmtree
    def refused(path, *args, **kwargs):
        if home in Path(path).parents and not args and not kwargs: raise PermissionError(errno.EACCES, 'Permission denied')
        remove(path, *args, **kwargs)
    monkeypatch.setattr('shutil.rmtree', refused)
    with pytest.warns(UserWarning, match='cannot be written .Permission denied.: the tokens are kept for this run only'): assert rows(cached_tokens(reviews, home)) == tokenize(reviews)


def test_a_read_only_home_with_a_cache_in_it(reviews, home, monkeypatch):
    cached_tokens(reviews, home)
    def refused(*args, **kwargs): raise PermissionError(errno.EACCES, 'Permission denied')
    for name in ('os.utime', 'tempfile.mkdtemp', 'tempfile.TemporaryFile'): monkeypatch.setattr(name, refused)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert rows(cached_tokens(reviews, home)) == tokenize(reviews)


def test_what_was_not_used_for_a_month_goes(reviews, home):
    for n in (60, 50): cached_tokens(reviews[:n], home)
    long_ago = time.time() - 31*86400
    for o in home.iterdir(): os.utime(o, (long_ago, long_ago))
    cached_tokens(reviews, home)      # used again
    cached_tokens(reviews[:40], home) # made
    assert sorted(len(np.load(o)) for o in home.glob('*/ends.npy')) == [40, 60]


def test_nothing_else_goes(reviews, home):
    "The folder of caches may be one where somebody keeps other things, of any age"
    for o in ('thesis', 'part-one', 'a'*32, 'f'*31): (home/o).mkdir(parents=True)
    for o in ('thesis/ids.npy', 'part-one/ids.npy', 'f'*31 + '/ids.npy', 'letter'): (home/o).write_text('precious')
    (home/'link').symlink_to('nowhere')
    long_ago = time.time() - 400*86400
    for o in home.iterdir(): os.utime(o, (long_ago, long_ago), follow_symlinks=False)
    before = set(home.rglob('*'))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        cached_tokens(reviews, home)
    assert before < set(home.rglob('*'))


def test_the_clock_may_jump(reviews, home, monkeypatch):
    "Tokens are made again at worst: forty years back, forty years on"
    want = tokenize(reviews)
    for jump in (0, -40, 40, 0):
        now = time.time() + jump*365*86400
        with monkeypatch.context() as m:
            m.setattr(time, 'time', lambda: now)
            assert rows(cached_tokens(reviews, home)) == want and rows(cached_tokens(reviews[:9], home)) == want[:9]


# ---- what is no text

def test_a_file_that_is_not_utf8_is_named(folder, home):
    files = review_files(folder)
    files[40].write_bytes(b'caf\xe9')
    for n_workers in (1, 2):
        with pytest.raises(ValueError, match=f'{files[40].name} has the byte 0xe9, which is not UTF-8, at byte 3'): cached_tokens(files, home, n_workers=n_workers)
    assert os.listdir(home) == []

def test_a_file_that_is_gone(folder, home):
    files = review_files(folder)
    files[4].unlink()
    with pytest.raises(FileNotFoundError, match=files[4].name): cached_tokens(files, home)

def test_half_a_surrogate_pair(home):
    with pytest.raises(ValueError, match=r'texts\[1\] holds half a surrogate pair'): cached_tokens(['a', '\ud800'], home)

def test_a_list_with_something_else_in_it(home):
    with pytest.raises(TypeError, match=r'texts\[1\] is None'): cached_tokens(['a', None], home)


def test_a_name_that_is_not_utf8(tmp_path, home):
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9.txt'))
    try: file.write_text('A film.')
    except OSError: pytest.skip('this file system takes only names in UTF-8')
    assert rows(cached_tokens([file], home)) == tokenize(['A film.'])


def test_what_is_noted(reviews, home):
    cached_tokens(reviews, home)
    about = json.loads(next(home.glob('*/about.json')).read_text())
    assert 'spacy' in about['versions'] and 'imdb_lm' in about['versions']


# ---- all of IMDb

@pytest.mark.slow
def test_all_of_imdb(imdb_folder, home, made):
    files = review_files(imdb_folder)
    corpus = cached_tokens(files, home)
    for i in range(0, len(files), 1000): assert corpus[i] == tokenize([files[i].read_text(encoding='utf-8')])[0]
    assert len(corpus) == 100_000 and corpus.counts.sum() == len(corpus.ids)
    cached_tokens(files, home)
    assert len(made) == 1
