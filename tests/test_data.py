"""IMDb and the pretrained pair through a real download, all that can be wrong with an archive, and review files."""
import errno
import gzip
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import pytest
from fastai.data.external import URLs, untar_data
from fastai.data.transforms import get_text_files

import imdb_lm.data as data
from imdb_lm.data import fastai_folder, read_review, read_reviews, review_files, review_folders, untar_imdb, untar_wt103
from imdb_lm.loader import tokens_folder
from imdb_lm.mini import mini_reviews

LAYOUT = ['train/pos', 'train/neg', 'test/pos', 'test/neg', 'unsup']


def member(name, text=b'', type=tarfile.REGTYPE, linkname=''):
    m = tarfile.TarInfo(name)
    m.size, m.type, m.linkname = len(text), type, linkname
    return m, text


def tgz(members, gz='w:gz'):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=gz) as tar:
        for m,text in members: tar.addfile(m, io.BytesIO(text))
    return out.getvalue()


def imdb(n=3, folders=LAYOUT, root='imdb/'):
    "Members of a small archive in IMDb's layout; the texts are hard to compress, so that a flipped byte hits one"
    yield member(f'{root}README', b'Read me')
    for folder in folders:
        for i in range(n): yield member(f'{root}{folder}/{i}_7.txt', os.urandom(300).hex().encode())


def contents(folder):
    return {o.relative_to(folder).as_posix(): o.read_bytes() if o.is_file() else None for o in Path(folder).rglob('*')}


def leftovers(home):
    "All that a failed call left in the fastai home, lock files (which stay, as fastai's do) and the config aside"
    return sorted(o.relative_to(home).as_posix() for o in home.rglob('*')
                  if o.is_file() and o.suffix not in ('.lock', '.ini') or o.is_dir() and o.parent != home)


def fails(site, members, match, name='imdb.tgz', untar=untar_imdb, exc=ValueError):
    site.files[name] = members if isinstance(members, bytes) else tgz(members)
    with pytest.raises(exc, match=match) as e: untar(site.url(name))
    assert '\n' not in str(e.value)
    return e.value


# The whole archive

def test_same_folder_as_untar_data(site, fastai_home, tmp_path):
    site.files['imdb.tgz'] = tgz(imdb())
    stock = untar_data(site.url('imdb.tgz'), base=tmp_path/'stock')
    path = untar_imdb(site.url('imdb.tgz'))
    assert path == fastai_home/'data'/'imdb'
    assert contents(path) == contents(stock)
    assert len(contents(path)) == 15 + 1 + 7
    assert [o.name for o in path.parent.iterdir()] == ['imdb']
    assert (fastai_home/'archive'/'imdb.tgz').exists()
    assert untar_data(site.url('imdb.tgz')) == path # fastai takes it as its own
    assert site.asked == ['imdb.tgz']*2


def test_without_a_root_folder(site, fastai_home, tmp_path):
    site.files['imdb.tgz'] = tgz(imdb(root=''))
    stock = untar_data(site.url('imdb.tgz'), base=tmp_path/'stock')
    assert contents(untar_imdb(site.url('imdb.tgz'))) == contents(stock)
    assert [o.name for o in (fastai_home/'data').iterdir()] == ['imdb']


def test_default_url_is_looked_up_when_called(site, fastai_home, monkeypatch):
    site.files['imdb.tgz'] = tgz(imdb())
    monkeypatch.setattr(URLs, 'IMDB', site.url('imdb.tgz'))
    assert untar_imdb() == fastai_home/'data'/'imdb'


def test_second_call_needs_no_server_and_writes_nothing(site, fastai_home):
    site.files['imdb.tgz'] = tgz(imdb())
    path = untar_imdb(site.url('imdb.tgz'))
    before = {o: o.stat().st_mtime_ns for o in fastai_home.rglob('*')}
    assert untar_imdb('http://127.0.0.1:9/imdb.tgz') == path
    assert {o: o.stat().st_mtime_ns for o in fastai_home.rglob('*')} == before
    assert len(site.asked) == 1


def test_archive_put_there_by_hand_is_used(fastai_home):
    (fastai_home/'archive').mkdir(parents=True)
    (fastai_home/'archive'/'imdb.tgz').write_bytes(tgz(imdb()))
    assert len(review_files(untar_imdb('http://127.0.0.1:9/imdb.tgz'))) == 15


def test_folder_put_there_by_hand_is_used(fastai_home):
    folder = fastai_home/'data'/'imdb'
    for o in LAYOUT:
        (folder/o).mkdir(parents=True)
        (folder/o/'0_0.txt').write_text('A review')
    assert untar_imdb() == folder
    assert not (fastai_home/'archive').exists()


def test_config_of_fastai_is_honoured(site, fastai_home, tmp_path):
    fastai_home.mkdir()
    config = f'[DEFAULT]\ndata = {tmp_path}/elsewhere\narchive = boxes\nmodel = models\nstorage = tmp\n'
    (fastai_home/'config.ini').write_text(config)
    site.files['imdb.tgz'] = tgz(imdb())
    assert untar_imdb(site.url('imdb.tgz')) == tmp_path/'elsewhere'/'imdb'
    assert (fastai_home/'boxes'/'imdb.tgz').exists()


# The network

def test_server_down(fastai_home):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        with pytest.raises(ConnectionError) as e: untar_imdb(f'http://127.0.0.1:{s.getsockname()[1]}/imdb.tgz')
    for o in fastai_home/'archive'/'imdb.tgz', fastai_home/'data'/'imdb', 'FASTAI_HOME', 'mini_reviews()':
        assert str(o) in str(e.value)
    assert '\n' not in str(e.value)
    assert leftovers(fastai_home) == []


def test_404(site, fastai_home):
    with pytest.raises(ConnectionError, match='HTTP status 404') as e: untar_imdb(site.url('imdb.tgz'))
    assert '\n' not in str(e.value)
    assert leftovers(fastai_home) == []


def test_fewer_bytes_than_announced(site, fastai_home):
    site.cut.add('imdb.tgz')
    fails(site, imdb(), 'broke off before its end')
    assert leftovers(fastai_home) == []
    site.cut.clear()
    assert untar_imdb(site.url('imdb.tgz')).exists()


def test_an_archive_that_fastai_knows_otherwise(site, fastai_home, monkeypatch):
    monkeypatch.setattr(data.FastDownload, 'check', lambda self, url, file: False)
    fails(site, imdb(), 'size and hash')
    assert leftovers(fastai_home) == []


def test_the_real_url_must_bring_all_reviews(site, fastai_home, monkeypatch):
    monkeypatch.setattr(data, 'IMDB_URL', site.url('imdb.tgz'))
    fails(site, imdb(), '3 reviews in train/pos where IMDb has 12,500')
    assert leftovers(fastai_home) == []
    monkeypatch.setattr(data, 'IMDB_REVIEWS', dict.fromkeys(LAYOUT, 3))
    assert untar_imdb(site.url('imdb.tgz')).exists()


# Bad archives: each is one sentence, leaves nothing, and is fetched anew by the next call

OUTSIDE = b'written outside'
ODD = 'is a link or a device'
BAD = { # the member, and what the error says about it
    'parent':          (member('imdb/../../../escaped.txt', OUTSIDE), 'climbs out of its folder'),
    'parent, inside':  (member('imdb/unsup/../x.txt', OUTSIDE), 'climbs out of its folder'),
    'absolute':        (member('/tmp/escaped.txt', OUTSIDE), 'has an absolute path'),
    'symlink':         (member('imdb/unsup/l.txt', type=tarfile.SYMTYPE, linkname='/etc/passwd'), ODD),
    'symlink, inside': (member('imdb/unsup/l.txt', type=tarfile.SYMTYPE, linkname='0_7.txt'), ODD),
    'hard link':       (member('imdb/unsup/l.txt', type=tarfile.LNKTYPE, linkname='imdb/README'), ODD),
    'fifo':            (member('imdb/unsup/p.txt', type=tarfile.FIFOTYPE), ODD),
    'device':          (member('imdb/unsup/d.txt', type=tarfile.CHRTYPE), ODD),
    'deep':            (member('imdb/' + 'a/'*50 + 'd.txt'), 'is more than 50 folders deep'),
    'long':            (member('imdb/' + 'a'*256), 'has too long a name'),
    'very long':       (member('imdb/' + f'{"b"*200}/'*20), 'has too long a name'),
    'sparse':          (member('imdb/unsup/s.txt', type=tarfile.GNUTYPE_SPARSE), ODD),
}


@pytest.mark.parametrize('bad', BAD)
def test_hostile_member(bad, site, fastai_home, tmp_path):
    (m, text), why = BAD[bad]
    name = m.name.replace('/tmp/', f'{tmp_path}/')
    fails(site, [*imdb(), member(name, text, m.type, m.linkname), member('imdb/after.txt', b'more')],
          re.escape(f'{name!r:.200} {why}'))
    assert leftovers(fastai_home) == []
    assert not [o for o in tmp_path.rglob('*escaped*')]
    site.files['imdb.tgz'] = tgz(imdb())
    assert len(review_files(untar_imdb(site.url('imdb.tgz')))) == 15


def test_tarfile_has_the_last_word(site, fastai_home, monkeypatch):
    "What our own look at a member lets pass is still refused by the filter of tarfile"
    monkeypatch.setattr(data, '_refusal', lambda m: '')
    fails(site, [*imdb(), *[BAD['parent'][0]]], 'outside the destination')
    fails(site, [*imdb(), *[BAD['symlink'][0]]], 'link to an absolute path|absolute')
    assert leftovers(fastai_home) == []


def test_python_without_filters(site, fastai_home, monkeypatch):
    monkeypatch.delattr(tarfile, 'data_filter')
    fails(site, imdb(), '3.10.12', exc=RuntimeError)
    assert site.asked == [] and leftovers(fastai_home) == []


def test_too_many_bytes(site, fastai_home, monkeypatch):
    monkeypatch.setattr(data, 'MAX_BYTES', 100_000)
    fails(site, [*imdb(), member('imdb/bomb.txt', bytes(100_000))], "'imdb/bomb.txt' it unpacks to over 100,000 bytes")
    assert leftovers(fastai_home) == []


def test_a_download_without_end(site, fastai_home, monkeypatch, capsys):
    "Neither the disk nor the terminal is filled by a site that does not say how much it sends"
    site.files['imdb.tgz'], site.unsized = tgz(imdb(n=40)), {'imdb.tgz'}
    monkeypatch.setattr(data, 'MAX_BYTES', len(site.files['imdb.tgz'])//2)
    with pytest.raises(ValueError, match='imdb.tgz sends over [0-9,]+ bytes, more than any archive used here has'): untar_imdb(site.url('imdb.tgz'))
    assert leftovers(fastai_home) == []
    monkeypatch.undo()
    monkeypatch.setenv('FASTAI_HOME', str(fastai_home))
    assert len(review_files(untar_imdb(site.url('imdb.tgz')))) == 200
    assert len(capsys.readouterr().out) < 30_000


@pytest.mark.parametrize('content', [b'', b'no section', b'\xff\xfe', b'[DEFAULT]\nversion = 2\n'])
def test_settings_of_fastai_that_are_damaged(fastai_home, content):
    fastai_home.mkdir()
    (fastai_home/'config.ini').write_bytes(content)
    for f in untar_imdb, mini_reviews, tokens_folder:
        with pytest.raises(ValueError, match='config.ini holds no settings of fastai: delete it'): f()
    assert (fastai_home/'config.ini').read_bytes() == content
    (fastai_home/'config.ini').unlink()
    assert fastai_folder('data') == fastai_home/'data'


def test_too_many_members(site, fastai_home, monkeypatch):
    monkeypatch.setattr(data, 'MAX_MEMBERS', 25) # 16 files, 9 folders
    site.files['whole.tgz'] = tgz(imdb())
    assert untar_imdb(site.url('whole.tgz')).exists()
    shutil.rmtree(fastai_home)
    fails(site, [*imdb(), member('imdb/last.txt')], "'imdb/last.txt' it unpacks to over 25 files and folders")
    assert leftovers(fastai_home) == []
    fails(site, [*imdb(n=1), member('imdb/' + 'a/'*18 + 'deep.txt')], "deep.txt' it unpacks to over 25 files and folders")


def headers(n, size, type=tarfile.GNUTYPE_LONGNAME, text=b'\0'):
    "`n` headers that announce a name of `size` bytes, and then it"
    m = tarfile.TarInfo('././@LongLink')
    m.size, m.type = size, type
    for _ in range(n): yield m.tobuf(tarfile.GNU_FORMAT) + text*(-(-size//512)*512)


BOMBS = { # behind three folders of reviews: bytes, and what is said of them
    'a name that is endless': ([headers(1, 3*2**20)], 'over 1,048,576 bytes between two members'),
    'a name that lies':       ([headers(1, 2**33 - 1, text=b'')], 'over 1,048,576 bytes between two members'),
    'settings without end':   ([headers(1, 3*2**20, tarfile.XHDTYPE)], 'over 1,048,576 bytes between two members'),
    'names upon names':       ([headers(3000, 0)], 'over 1,048,576 bytes between two members|recursion'),
    'zeros behind the end':   ([[bytes(2**22)]], 'over 1,048,576 bytes between two members, or behind the last one'),
}

@pytest.mark.parametrize('kind', BOMBS)
def test_bombs_between_members(kind, site, fastai_home):
    "tarfile would take any of these into memory, or read on and on"
    parts, why = BOMBS[kind]
    plain = tgz(imdb(), gz='w').rstrip(b'\0')
    plain += bytes(-len(plain)%512)
    bomb = gzip.compress(plain + b''.join(b''.join(o) for o in parts) + bytes(1024))
    assert len(bomb) < 40_000
    fails(site, bomb, f'imdb.tgz was no good and is deleted: .*({why})')
    assert leftovers(fastai_home) == []


@pytest.mark.parametrize('end', [0.05, 0.5, 0.9, 0.999])
def test_cut_archive(end, site, fastai_home):
    whole = tgz(imdb())
    fails(site, whole[:int(len(whole)*end)], 'imdb.tgz was no good and is deleted')
    assert leftovers(fastai_home) == []
    site.files['imdb.tgz'] = whole
    assert untar_imdb(site.url('imdb.tgz')).exists()


@pytest.mark.parametrize('at', [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_flipped_bytes(at, site, fastai_home):
    whole = bytearray(tgz(imdb()))
    i = int(len(whole)*at)
    whole[i:i+2] = bytes(o ^ 0x55 for o in whole[i:i+2])
    fails(site, bytes(whole), 'imdb.tgz was no good and is deleted')
    assert leftovers(fastai_home) == []


def test_damaged_header_is_not_taken_for_the_end(site, fastai_home):
    "tarfile stops at a header that it cannot read, as if the archive ended there"
    plain = bytearray(tgz(imdb(), gz='w'))
    at = plain.rindex(b'imdb/unsup/2_7.txt')
    plain[at+148:at+154] = b'999999' # the checksum
    fails(site, gzip.compress(bytes(plain)), 'data behind its end')
    assert leftovers(fastai_home) == []


@pytest.mark.parametrize('body', [b'', b'<html>Please log in</html>', tgz([]), tgz([], gz='w')], ids=['nothing', 'a page', 'an empty archive', 'an unzipped one'])
def test_not_an_archive_of_reviews(body, site, fastai_home):
    fails(site, body, 'imdb.tgz was no good and is deleted')
    assert leftovers(fastai_home) == []


def test_one_name_for_a_file_and_a_folder(site, fastai_home):
    fails(site, [*imdb(), member('imdb/README/more.txt', b'more')], 'was no good and is deleted')
    assert leftovers(fastai_home) == []


@pytest.mark.parametrize('missing', LAYOUT)
def test_wrong_layout(missing, site, fastai_home):
    fails(site, imdb(folders=[o for o in LAYOUT if o!=missing]), f'no reviews .*in {missing}')
    assert leftovers(fastai_home) == []


@pytest.mark.parametrize('missing', LAYOUT)
def test_broken_folder_that_is_there_already(missing, fastai_home):
    folder = fastai_home/'data'/'imdb'
    for o in LAYOUT:
        (folder/o).mkdir(parents=True)
        if o!=missing: (folder/o/'0_0.txt').write_text('A review')
    with pytest.raises(ValueError, match=f'no reviews .*in {missing}; delete {folder}'): untar_imdb()
    assert (folder/missing).exists()


# Stopped in the middle

@pytest.mark.parametrize('stop', [KeyboardInterrupt, MemoryError])
def test_stopped_while_unpacking(stop, site, fastai_home, monkeypatch):
    site.files['imdb.tgz'] = tgz(imdb())
    extract, n = tarfile.TarFile.extract, iter(range(100))
    def stops(*args, **kwargs):
        if next(n)==9: raise stop()
        return extract(*args, **kwargs)
    with monkeypatch.context() as m:
        m.setattr(tarfile.TarFile, 'extract', stops)
        with pytest.raises(stop): untar_imdb(site.url('imdb.tgz'))
    assert leftovers(fastai_home) == ['archive/imdb.tgz']
    assert len(review_files(untar_imdb(site.url('imdb.tgz')))) == 15
    assert len(site.asked) == 1


def test_full_disk(site, fastai_home, monkeypatch):
    site.files['imdb.tgz'] = tgz(imdb())
    def full(*args, **kwargs): raise OSError(errno.ENOSPC, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(tarfile.TarFile, 'extract', full)
        with pytest.raises(OSError, match='No space left on device: cannot write .*make room') as e:
            untar_imdb(site.url('imdb.tgz'))
    assert e.value.errno == errno.ENOSPC
    assert leftovers(fastai_home) == ['archive/imdb.tgz']
    assert untar_imdb(site.url('imdb.tgz')).exists()


def test_home_that_cannot_be_written(site, fastai_home):
    fastai_home.mkdir()
    (fastai_home/'archive').write_text('a file where a folder should be')
    with pytest.raises(FileExistsError, match='set FASTAI_HOME'): untar_imdb(site.url('imdb.tgz'))


def python(code, home):
    env = {**os.environ, 'FASTAI_HOME': str(home), 'PYTHONPATH': str(Path(data.__file__).parent.parent)}
    return subprocess.Popen([sys.executable, '-c', textwrap.dedent(code)], env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_killed_while_unpacking(site, fastai_home):
    site.files['imdb.tgz'] = tgz(imdb())
    p = python(f'''
        import tarfile, time
        from imdb_lm.data import untar_imdb
        extract, n = tarfile.TarFile.extract, iter(range(100))
        def waits(*args, **kwargs):
            if next(n)==9: time.sleep(600)
            return extract(*args, **kwargs)
        tarfile.TarFile.extract = waits
        untar_imdb('{site.url('imdb.tgz')}')''', fastai_home)
    part = fastai_home/'data'/'.imdb.part'
    while len(list(part.rglob('*.txt'))) < 8 and p.poll() is None: time.sleep(0.05)
    p.kill()
    assert p.wait() == -signal.SIGKILL, p.stdout.read()
    p.stdout.close()
    assert part.exists() and not (fastai_home/'data'/'imdb').exists()
    (part/'stale.txt').write_text('from the process that was killed')
    path = untar_imdb(site.url('imdb.tgz'))
    assert len(review_files(path)) == 15
    assert [o.name for o in path.parent.iterdir()] == ['imdb']
    assert len(site.asked) == 1


def test_two_processes_at_once(site, fastai_home):
    site.files['imdb.tgz'] = tgz(imdb(n=100))
    code = f'''
        from imdb_lm.data import untar_imdb, review_files
        print('found', len(review_files(untar_imdb('{site.url('imdb.tgz')}'))))'''
    outs = [p.communicate(timeout=120)[0] for p in [python(code, fastai_home), python(code, fastai_home)]]
    assert all('found 500' in o for o in outs), outs
    assert site.asked == ['imdb.tgz']
    assert [o.name for o in (fastai_home/'data').iterdir()] == ['imdb']


def test_a_disk_without_locks(site, fastai_home, monkeypatch):
    "Some network file systems have none: that keeps nobody from a download"
    def none(*args): raise OSError(errno.ENOLCK, 'No locks available')
    monkeypatch.setattr('fcntl.flock', none)
    site.files['imdb.tgz'] = tgz(imdb())
    assert len(review_files(untar_imdb(site.url('imdb.tgz')))) == 15


# The pretrained pair

def pair(*exts): return [member(f'wt103-fwd/{o}', b'x'*50) for o in exts]


def test_wt103(site, fastai_home, tmp_path, monkeypatch):
    site.files['wt103-fwd.tgz'] = tgz(pair('lstm_fwd.pth', 'itos_wt103.pkl', '._lstm_fwd.pth'))
    monkeypatch.setattr(URLs, 'WT103_FWD', site.url('wt103-fwd.tgz'))
    folder = fastai_home/'models'/'wt103-fwd'
    assert untar_wt103() == (folder/'lstm_fwd.pth', folder/'itos_wt103.pkl')
    assert untar_wt103('http://127.0.0.1:9/wt103-fwd.tgz')[0].exists()
    assert contents(folder) == contents(untar_data(site.url('wt103-fwd.tgz'), base=tmp_path/'stock'))
    assert untar_data(site.url('wt103-fwd.tgz'), c_key='model') == folder


def test_wt103_broken(site, fastai_home):
    bad = dict(name='wt103-fwd.tgz', untar=untar_wt103)
    fails(site, pair('a.pth'), 'no .pkl file', **bad)
    fails(site, pair('a.txt'), 'no .pth file and no .pkl file', **bad)
    fails(site, pair('a.pth', 'a.pkl', '../../b.pkl'), r"'wt103-fwd/\.\./\.\./b\.pkl' climbs", **bad)
    fails(site, tgz(pair('a.pth', 'a.pkl'))[:60], 'no good and is deleted', **bad)
    assert leftovers(fastai_home) == []


def test_wt103_offline(fastai_home):
    with pytest.raises(ConnectionError) as e: untar_wt103('http://127.0.0.1:9/wt103-fwd.tgz')
    for o in 'pretrained=False', 'pair', 'model folder', str(fastai_home/'models'/'wt103-fwd'):
        assert o in str(e.value)


def test_wt103_folder_that_is_incomplete(fastai_home):
    folder = fastai_home/'models'/'wt103-fwd'
    folder.mkdir(parents=True)
    (folder/'a.pth').touch()
    with pytest.raises(ValueError, match=f'no .pkl file; delete {folder}'): untar_wt103()


# The review files

@pytest.fixture
def corpus(tmp_path):
    for o in [*LAYOUT, 'models', 'train/.hidden']:
        (tmp_path/'c'/o).mkdir(parents=True)
        for i in 'ab': (tmp_path/'c'/o/f'{i}.txt').write_text('A review')
    for o in 'README.txt', 'train/words.feat', 'train/pos/.c.txt', 'train/pos/D.TXT': (tmp_path/'c'/o).write_text('')
    return tmp_path/'c'


def test_review_files_are_those_of_fastai(corpus):
    assert review_folders(corpus) == ['train', 'test', 'unsup']
    files = review_files(corpus)
    assert list(files) == sorted(get_text_files(corpus, folders=['train', 'test', 'unsup']))
    assert len(files) == 11 and not {'README.txt', '.c.txt'} & {o.name for o in files}
    assert list(review_files(str(corpus))) == list(files)


def test_review_files_of_another_folder(corpus):
    (corpus/'unsup').rename(corpus/'more')
    assert review_folders(corpus) is None
    files = review_files(corpus)
    assert list(files) == sorted(get_text_files(corpus))
    assert {o.parent.name for o in files} == {'c', 'pos', 'neg', 'models', 'more'}


def test_review_files_sort_as_paths_do(tmp_path):
    "A folder before those whose names go on: / before - and space, which are before it in ASCII"
    for o in ('a', 'a-b', 'a b', 'a.c'):
        (tmp_path/o).mkdir()
        (tmp_path/o/'1.txt').touch()
    assert [o.parent.name for o in review_files(tmp_path)] == ['a', 'a b', 'a-b', 'a.c'] == [o.parent.name for o in sorted(tmp_path.glob('*/*'))]


def test_a_folder_that_cannot_be_read(corpus, monkeypatch):
    "Its reviews are not left out in silence"
    scan = os.scandir
    def scandir(path):
        if str(path).endswith('closed'): raise PermissionError(13, 'Permission denied', str(path))
        return scan(path)
    (corpus/'train'/'closed').mkdir()
    monkeypatch.setattr(os, 'scandir', scandir)
    with pytest.raises(OSError, match=r'closed cannot be read \(Permission denied\): change its permissions'): review_files(corpus)


def test_a_folder_that_is_named_twice(corpus):
    assert list(review_files(corpus, ['train', 'unsup', 'train'])) == sorted(get_text_files(corpus, folders=['train', 'unsup']))


def test_links_are_followed_but_not_in_a_circle(corpus):
    (corpus/'more').mkdir()
    (corpus/'more'/'new.txt').write_text('A review')
    (corpus/'train'/'linked').symlink_to('../more')
    assert list(review_files(corpus)) == sorted(get_text_files(corpus, folders=['train', 'test', 'unsup']))
    before = [str(o) for o in review_files(corpus)]
    for o in 'ab': (corpus/'train'/o).symlink_to('.')
    (corpus/'more'/'up').symlink_to('..')
    assert [str(o) for o in review_files(corpus)] == before
    assert len(before) == 12


def test_links_that_lead_to_each_other(tmp_path, monkeypatch):
    "Each of seven folders links to all others: nearly 14,000 ways"
    monkeypatch.setattr(data, 'MAX_BY_LINKS', 300)
    for a in 'abcdefg':
        (tmp_path/a).mkdir()
        (tmp_path/a/'review.txt').write_text('A review')
        for b in 'abcdefg': (tmp_path/a/b).symlink_to(f'../{b}')
    with pytest.raises(ValueError, match='has links that lead to over 300 folders, or to some of them in many ways'): review_files(tmp_path)


def test_no_review_files(tmp_path):
    (tmp_path/'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='there is no folder .*none'): review_files(tmp_path/'none')
    with pytest.raises(ValueError, match='it holds nothing'): review_files(tmp_path/'empty')
    for i in range(7): (tmp_path/f'{i}.csv').touch()
    with pytest.raises(FileNotFoundError): review_files(tmp_path/'0.csv')
    with pytest.raises(ValueError, match='0.csv, 1.csv, 2.csv, 3.csv, 4.csv and 3 more'): review_files(tmp_path)


# Their texts

@pytest.mark.parametrize('text', ['', 'plain', 'naïve 日本 🎬', '\ufeffmark', ' \n', 'a\r\nb\rc\n\r\r\nd\x0b\x85e'])
def test_read_review_reads_as_read_text_does(text, tmp_path):
    file = tmp_path/'a.txt'
    file.write_bytes(text.encode('utf8'))
    assert read_review(file) == read_review(str(file)) == file.read_text(encoding='utf8')


@pytest.mark.parametrize('bad, at, what', [(b'ab\xe9 c', 2, '0xe9'), (b'\xff', 0, '0xff'), (b'abc\xe6\x97', 3, '0xe6'),
                                           (b'ab\0c', 2, 'NUL'), (b'a\0b\xff', 3, '0xff'), (b'\xc3\xa9\0', 2, 'NUL')])
def test_unreadable_file_is_named(bad, at, what, tmp_path):
    files = [tmp_path/'good.txt', tmp_path/'bad.txt', tmp_path/'last.txt']
    for o in files: o.write_bytes(b'fine')
    assert read_reviews(files) == ['fine']*3
    files[1].write_bytes(bad)
    with pytest.raises(ValueError, match=f"bad.txt has .*{what}.* at byte {at}: .*errors='replace'"): read_reviews(files)
    assert read_reviews(files, errors='replace')[::2] == ['fine']*2
    assert read_review(files[1], 'replace') == files[1].read_text(encoding='utf8', errors='replace')


def test_read_reviews_at_the_door(tmp_path):
    assert read_reviews([]) == []
    (tmp_path/'a.txt').touch()
    assert read_reviews(tmp_path.glob('*.txt')) == ['']
    with pytest.raises(LookupError, match='replcae'): read_reviews([tmp_path/'a.txt'], errors='replcae')
    for errors in ('surrogateescape', 'surrogatepass', 'xmlcharrefreplace'): # half characters, half characters where there are such, and what only writing knows
        (tmp_path/'a.txt').write_bytes(b'caf\xe9 \xed\xa0\x80')
        with pytest.raises(ValueError, match=f"errors='{errors}' leaves no plain text"): read_reviews([tmp_path/'a.txt'], errors=errors)
    with pytest.raises(FileNotFoundError, match='b.txt'): read_reviews([tmp_path/'b.txt'])


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such files')
def test_what_is_no_plain_file_is_not_waited_for(tmp_path):
    "A pipe that nobody writes to, a device without an end"
    os.mkfifo(tmp_path/'pipe.txt')
    (tmp_path/'zero.txt').symlink_to('/dev/zero')
    for o in ('pipe', 'zero'):
        with pytest.raises(ValueError, match=f'{o}.txt is a folder, a pipe or a device'): read_review(tmp_path/f'{o}.txt')


def test_a_long_line(tmp_path):
    file = tmp_path/'long.txt'
    file.write_bytes(b'word '*4_000_000)
    assert len(read_review(file)) == 20_000_000
