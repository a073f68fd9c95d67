"""What benchmarks/gpu.sh takes along is the corpus that it left behind."""
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from imdb_lm import loader
from imdb_lm.mini import mini_reviews
from imdb_lm.model import load_lm

sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
import gpu  # noqa: E402 -- a script


@pytest.fixture(scope='module')
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp('pack')
    gpu.write_ids(path, mini_reviews())
    return path


@pytest.mark.parametrize('how', [dict(), dict(label='stars'), dict(label='stars', max_vocab=300)])
def test_packed_reviews_make_the_same_batches(pack, monkeypatch, how):
    want = loader.lm_dls(mini_reviews(), bs=8, seq_len=20, **how)
    monkeypatch.setattr(loader, 'cached_tokens', loader.cached_tokens) # which is put back
    got = gpu.packed_dls(pack, bs=8, seq_len=20, **how)
    assert list(got.vocab) == list(want.vocab) and got.train_ds.tokenizer.labels == want.train_ds.tokenizer.labels
    for a,b in ((got.valid, want.valid), (got.train.new(shuffle=False), want.train.new(shuffle=False))):
        assert len(a) == len(b)
        for x,y in zip(a, b): assert torch.equal(x[0], y[0]) and torch.equal(x[1], y[1])


def test_some_of_the_packed_reviews(pack, monkeypatch):
    monkeypatch.setattr(loader, 'cached_tokens', loader.cached_tokens)
    monkeypatch.setattr(gpu, 'TINY', True)
    dls = gpu.packed_dls(pack, bs=4, seq_len=20)
    assert len(dls.train_ds) + len(dls.valid_ds) == 300


def test_the_starter_comes_home(pack, monkeypatch, tmp_path):
    import starter
    for o,name,value in ((loader, 'cached_tokens', loader.cached_tokens), (gpu, 'TINY', True), (starter, 'CONFIG', dict(starter.CONFIG))):
        monkeypatch.setattr(o, name, value)
    gpu.starter(pack, tmp_path, 1)
    said = (tmp_path/'starter.md').read_text(encoding='utf-8')
    assert 'Round 2, peak rate 0.003:' in said and '**This movie is terrible**' in said
    with tarfile.open(tmp_path/'starter.tar.gz') as tar: tar.extractall(tmp_path, filter='data')
    assert load_lm(tmp_path/'starter'/'round-2').config['label']['name'] == 'stars'


@pytest.mark.parametrize('args,says', [([], 'benchmarks/results/gpu.md'), (['dance', 'pack'], 'prepare, run and collect'), (['run', 'nowhere'], 'nowhere is no pack')])
def test_the_script_says_what_it_wants(args, says):
    done = subprocess.run(['bash', Path(gpu.__file__).with_suffix('.sh'), *args], capture_output=True, text=True)
    assert done.returncode == 2 and says in done.stdout + done.stderr
