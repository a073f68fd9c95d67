"""Model folders: written whole or not at all, read only when they are sound; and what a `LanguageModel` says of texts."""
import copy
import errno
import json
import math
import multiprocessing
import os
import pickle
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_lm_config
from fastai.text.models.core import get_language_model
from safetensors.torch import load_file, save_file

import imdb_lm.model as model
from imdb_lm.model import (FILES, LanguageModel, check_recipe, check_target, find_model, load_lm, model_hash, read_config, read_vocab, shrink_model,
                           write_model)
from imdb_lm.network import NETWORK, build_net, has_int8
from imdb_lm.tokens import BOS, UNK, tokenize

TEXTS = ['the movie is good', 'A film with GREAT actors, and a story!!!', '', 'xxbos', 'a', 'zyzzyva', 'the end .\n\nthe end']


def python(code, *args, **kwargs):
    "Run `code` in a process of its own"
    return subprocess.run([sys.executable, '-c', code, *map(str, args)], capture_output=True, text=True, timeout=120, **kwargs)


def contents(folder): return {o.name: o.read_bytes() for o in folder.iterdir()}


def one_sentence(e): assert str(e.value) and '\n' not in str(e.value)


# ---- what it takes to write a review

def test_neither_fastai_nor_pandas_is_needed(model_folder):
    got = python('''import sys
import imdb_lm.model, imdb_lm.generate, imdb_lm.evaluate
early = [o for o in ('fastai', 'pandas', 'spacy', 'typer', 'IPython') if o in sys.modules]
lm = imdb_lm.model.load_lm(sys.argv[1])
lm.generate('The movie', n_words=3), lm.perplexity('The movie is good.'), imdb_lm.evaluate.evaluate_lm(lm, ['The movie is good.'])
print(early, [o for o in ('fastai', 'pandas', 'IPython', 'torch._dynamo') if o in sys.modules])''', model_folder)
    assert got.stderr == ''
    assert got.stdout == '[] []\n'


# ---- round trip

@pytest.mark.parametrize('changes', [{}, dict(tie_weights=False), dict(out_bias=False), dict(n_layers=1), dict(emb_sz=16, n_hid=12, n_layers=2)])
def test_round_trip(tmp_path, words, config, changes):
    config = {**config, **changes, 'metrics': {'perplexity': 1.5}}
    net = model.AWDLSTM(len(words), **{k: config[k] for k in NETWORK}).eval()
    lm = LanguageModel(net, words, config)
    folder = write_model(tmp_path/'m', {model.fastai_name(n): p for n,p in net.named_parameters()}, words, config)
    back = load_lm(folder, precision='fp32')
    assert folder == tmp_path/'m'
    assert sorted(contents(folder)) == sorted(FILES)
    assert back.vocab == words
    assert back.config == {'format': 1, **config}
    for a,b in zip(net.parameters(), back.net.parameters(), strict=True): assert torch.equal(a, b)
    for text in TEXTS: torch.testing.assert_close(back.next_word(text), lm.next_word(text), atol=1e-6, rtol=0)


def test_words_of_any_script_come_back(tmp_path, words, config, weights):
    words = [*words[:-6], 'naïve', '你好', '🎬', ' \n', '"\\', '\x7f']
    folder = write_model(tmp_path/'m', weights, words, config)
    assert read_vocab(folder) == words


def test_same_logits_as_fastai(words, config):
    drops = {k: v for k,v in awd_lstm_lm_config.items() if k.endswith('_p')}
    theirs = get_language_model(AWD_LSTM, len(words), config={**awd_lstm_lm_config, **config, **drops}).eval()
    ours = build_net(config, len(words), {k: v.detach() for k,v in theirs.state_dict().items()})
    ids = torch.randint(len(words), (3,17))
    with torch.no_grad(): torch.testing.assert_close(ours.decoder(ours(ids)[0]), theirs(ids)[0], atol=1e-5, rtol=0)


def test_precision(model_folder, lm):
    half = load_lm(model_folder, precision='bf16')
    assert half.net.decoder.weight.dtype == torch.bfloat16
    for text in TEXTS: assert (half.next_word(text) - lm.next_word(text)).abs().max() < .02
    assert half.next_word('the').dtype == torch.float32
    assert half.perplexity(TEXTS) == pytest.approx(lm.perplexity(TEXTS), rel=.05)
    assert half.generate('the movie', n_words=5, n=3, seed=1) != ['the movie']*3


@pytest.mark.skipif(not has_int8(), reason='needs an x86 processor')
def test_int8(model_folder, lm):
    small = load_lm(model_folder, precision='int8')
    assert small.precision == 'int8' and repr(small).endswith('int8') and lm.precision == 'fp32'
    assert small.net.n_params == lm.net.n_params
    for text in TEXTS: assert (small.next_word(text) - lm.next_word(text)).abs().max() < .05
    assert small.perplexity(TEXTS) == pytest.approx(lm.perplexity(TEXTS), rel=.05)


def test_the_rule_of_auto(monkeypatch, model_folder, tmp_path):
    auto = model._best_precision
    assert load_lm(model_folder).precision == auto(10_000) == ('bf16' if torch.cuda.is_available() else 'fp32')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for there in (True, False):
        monkeypatch.setattr(model, 'has_int8', lambda: there)
        assert [auto(n) for n in (1, 19_999_999, 20_000_000, 10**9)] == ['fp32', 'fp32', *['int8' if there else 'fp32']*2]
        assert auto(1, small=True) == load_lm(shrink_model(model_folder, tmp_path/f'{there}')).precision == ('int8' if there else 'fp32')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: there)
        assert [auto(n) for n in (1, 10**9)] == ['bf16' if there else 'fp32']*2


def test_int8_that_is_not_there(monkeypatch, model_folder):
    monkeypatch.setattr(model, 'has_int8', lambda: False)
    with pytest.raises(ValueError, match="precision='int8' needs an x86 processor.*use fp32 or bf16") as e: load_lm(model_folder, precision='int8')
    one_sentence(e)


def test_hash(model_folder, tmp_path, words):
    other = shutil.copytree(model_folder, tmp_path/'m')
    assert re.fullmatch('[0-9a-f]{16}', model_hash(model_folder)) and model_hash(other) == model_hash(model_folder)
    (other/'vocab.json').write_text(json.dumps([*words[:9], 'colour', *words[10:]]))
    assert model_hash(other) != model_hash(model_folder)


@pytest.mark.parametrize('precision', ['fp16', 'int4', '', None, 32])
def test_unknown_precision(model_folder, precision):
    with pytest.raises(ValueError, match='precision=.* auto, fp32, bf16, int8') as e: load_lm(model_folder, precision=precision)
    one_sentence(e)


# ---- written whole or not at all

@contextmanager
def largest_file(n):
    "No file gets larger than `n` bytes, as on a disk that is full"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try: yield
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_again(folder, words, config, weights): write_model(folder, {k: v+1 for k,v in weights.items()}, words, config)


@pytest.fixture(params=['new', 'old'])
def target(request, tmp_path, words, config, weights):
    "A place for a model, with nothing or with an older one in it; the test leaves it like that, and nothing beside it"
    folder = tmp_path/'m'
    if request.param == 'old': write_model(folder, weights, words, config)
    before = contents(folder) if folder.exists() else None
    yield folder
    assert (contents(folder) if folder.exists() else None) == before
    assert [o.name for o in tmp_path.iterdir()] == ['m']*(before is not None)


def test_full_disk_in_the_weights(target, words, config, weights):
    with largest_file(3000), pytest.raises(OSError, match='cannot be written|too large') as e: write_again(target, words, config, weights)
    one_sentence(e)


@pytest.mark.parametrize('part', ['config.json', 'vocab.json'])
def test_full_disk_in_the_words(target, words, config, weights, monkeypatch, part):
    write_text = Path.write_text
    def full(self, *args, **kwargs):
        if self.name == part: raise OSError(errno.ENOSPC, 'No space left on device', str(self))
        return write_text(self, *args, **kwargs)
    monkeypatch.setattr(Path, 'write_text', full)
    with pytest.raises(OSError, match='No space left'): write_again(target, words, config, weights)


@pytest.mark.parametrize('stop', [KeyboardInterrupt, MemoryError, ValueError])
def test_stopped_while_writing(target, words, config, weights, monkeypatch, stop):
    def stopped(*args, **kwargs): raise stop
    monkeypatch.setattr(model.json, 'dumps', stopped)
    with pytest.raises(stop): write_again(target, words, config, weights)


@pytest.mark.parametrize('stop', [KeyboardInterrupt, OSError])
def test_stopped_while_renaming(target, words, config, weights, monkeypatch, stop):
    rename = os.rename
    def stopped(a, b):
        if Path(b) == target and not Path(a).name.endswith('.old'): raise stop
        rename(a, b)
    monkeypatch.setattr(model.os, 'rename', stopped)
    with pytest.raises(stop): write_again(target, words, config, weights)


def test_what_does_not_fit_is_not_written(target, words, config, weights):
    with pytest.raises(KeyError): write_model(target, {k: v for k,v in weights.items() if k != '1.decoder.bias'}, words, config)
    with pytest.raises(TypeError): write_model(target, weights, words, {**config, 'about': {1j}})


@pytest.mark.parametrize('changes, match', [
    (dict(n_hid=np.int64(16)), 'the configuration is damaged: n_hid'), (dict(n_hid=None), 'n_hid'), (dict(label=dict(name='stars', values=[1])), 'label'), (dict(label=None), 'label')])
def test_a_config_that_cannot_be_read_again_is_not_written(target, words, config, weights, changes, match):
    with pytest.raises(ValueError, match=match) as e: write_model(target, weights, words, {**config, **changes})
    one_sentence(e)


@pytest.mark.parametrize('name, change', [('1.decoder.bias', lambda w: w[:-1]), ('0.encoder.weight', lambda w: w.T), ('1.decoder.bias', lambda w: w.long())])
def test_weights_that_do_not_fit_are_not_written(target, words, config, weights, name, change):
    with pytest.raises(ValueError, match=f'do not fit: {name} is .* for 64 words') as e: write_model(target, {**weights, name: change(weights[name])}, words, config)
    one_sentence(e)


def test_the_old_model_survives_when_it_cannot_be_put_back(tmp_path, words, config, weights, monkeypatch):
    folder = write_model(tmp_path/'m', weights, words, config)
    before, rename = contents(folder), os.rename
    def stuck(a, b):
        if Path(b) == folder: raise OSError(errno.EIO, 'Input/output error')
        rename(a, b)
    monkeypatch.setattr(model.os, 'rename', stuck)
    with pytest.raises(OSError): write_again(folder, words, config, weights)
    assert [contents(o.parent) for o in tmp_path.rglob('config.json')] == [before]
    assert load_lm(folder).vocab == words


def killed_before(step, write, monkeypatch):
    "`write` in a process that is killed before its `step`th renaming or removal of a folder"
    def child():
        steps = iter(range(step))
        def dying(f):
            def inner(*args, **kwargs):
                if next(steps, None) is None: os.kill(os.getpid(), signal.SIGKILL)
                return f(*args, **kwargs)
            return inner
        monkeypatch.setattr(model.os, 'rename', dying(os.rename))
        monkeypatch.setattr(model.shutil, 'rmtree', dying(shutil.rmtree))
        write()
    process = multiprocessing.get_context('fork').Process(target=child)
    process.start()
    process.join(60)
    return process.exitcode


def test_killed_at_each_step_of_replacing(tmp_path, words, config, weights, monkeypatch):
    new, done = {k: v+1 for k,v in weights.items()}, []
    for step in range(9):
        folder = write_model(tmp_path/str(step)/'m', weights, words, config)
        killed = killed_before(step, lambda: write_model(folder, new, words, config), monkeypatch)
        got = load_lm(folder, precision='fp32').net.decoder.bias
        done.append(torch.equal(got, new['1.decoder.bias']))
        assert done[-1] or torch.equal(got, weights['1.decoder.bias'])
        write_model(folder, new, words, config)
        assert torch.equal(load_lm(folder, precision='fp32').net.decoder.bias, new['1.decoder.bias'])
        assert not folder.with_name('.m.old').exists()
        if killed == 0: break
    assert killed == 0 and done == sorted(done) and {*done} == {False, True}


def test_killed_between_the_renamings(tmp_path, words, config, weights, monkeypatch):
    folder = write_model(tmp_path/'m', weights, words, config)
    before = contents(folder)
    rename = os.rename
    def dying(a, b):
        if Path(b) == folder: os.kill(os.getpid(), signal.SIGKILL)
        rename(a, b)
    def child():
        monkeypatch.setattr(model.os, 'rename', dying)
        write_again(folder, words, config, weights)
    process = multiprocessing.get_context('fork').Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and not folder.exists()
    assert contents(tmp_path/'.m.old') == before
    assert load_lm(folder).vocab == read_vocab(folder) == words and read_config(folder)['n_hid'] == 16
    with largest_file(3000), pytest.raises(OSError): write_again(folder, words, config, weights)
    assert load_lm(folder).vocab == words
    write_again(folder, words, config, weights)
    assert load_lm(folder, precision='fp32').net.decoder.bias[0] == weights['1.decoder.bias'][0]+1
    assert not (tmp_path/'.m.old').exists()


def test_a_page_without_a_model_is_somebodys_own(tmp_path, words, config, weights):
    (tmp_path/'m').mkdir()
    (tmp_path/'m'/'README.md').write_text('my notes')
    with pytest.raises(FileExistsError, match='holds something else than a model, README.md'): write_model(tmp_path/'m', weights, words, config)
    assert (tmp_path/'m'/'README.md').read_text() == 'my notes'


def test_what_only_looks_like_an_older_model_is_never_removed(tmp_path, words, config, weights):
    (tmp_path/'.m.old').mkdir()
    (tmp_path/'.m.old'/'thesis.tex').write_text('Dear mother')
    with pytest.raises(FileExistsError, match='.m.old holds something else.*thesis.tex') as e: write_model(tmp_path/'m', weights, words, config)
    one_sentence(e)
    assert (tmp_path/'.m.old'/'thesis.tex').exists()


@pytest.mark.parametrize('old', [False, True])
def test_killed_while_writing(tmp_path, words, config, weights, old):
    folder = tmp_path/'m'
    if old: write_model(folder, weights, words, config)
    before = contents(folder) if old else None
    save_file({k: v.clone() for k,v in weights.items()}, tmp_path/'w.safetensors')
    (tmp_path/'rest.json').write_text(json.dumps([words, config]))
    child = subprocess.Popen([sys.executable, '-c', '''import json, sys, time
from safetensors.torch import load_file
import imdb_lm.model as model
words, config = json.load(open('rest.json'))
def dumps(*args, **kwargs):
    print('half', flush=True)
    time.sleep(60)
model.json.dumps = dumps
model.write_model('m', load_file('w.safetensors'), words, config)'''], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == 'half\n'
    child.kill()
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    assert (contents(folder) if folder.exists() else None) == before
    write_again(folder, words, config, weights)
    assert load_lm(folder).vocab == words


def test_an_older_model_is_replaced(tmp_path, words, config, weights):
    folder = write_model(tmp_path/'m', weights, words, config)
    (folder/'history.csv').write_text('epoch\n')
    write_model(folder, {k: v+1 for k,v in weights.items()}, words, config)
    assert sorted(contents(folder)) == sorted(FILES)
    assert torch.equal(load_file(folder/'model.safetensors')['1.decoder.bias'], weights['1.decoder.bias']+1)
    assert [o.name for o in tmp_path.iterdir()] == ['m']


def test_a_link_is_followed(tmp_path, words, config, weights):
    (tmp_path/'disk').mkdir()
    for name in 'old', 'new': (tmp_path/name).symlink_to(tmp_path/'disk'/name)
    write_model(tmp_path/'disk'/'old', weights, words, config)
    for name in 'old', 'new':
        assert write_model(tmp_path/name, weights, words, config) == tmp_path/name
        assert (tmp_path/name).is_symlink() and sorted(contents(tmp_path/'disk'/name)) == sorted(FILES)
    assert sorted(o.name for o in (tmp_path/'disk').iterdir()) == ['new', 'old']


def test_a_model_can_be_read_by_others(model_folder):
    assert model_folder.stat().st_mode & 0o055 == 0o055
    for name in FILES: assert (model_folder/name).stat().st_mode & 0o044 == 0o044


@pytest.mark.parametrize('names', [['notes.txt'], ['config.json', 'index.html'], [*FILES, 'thesis.tex'], ['.git']])
def test_other_things_are_never_replaced(tmp_path, words, config, weights, names):
    for name in names: (tmp_path/'m'/name).mkdir(parents=True)
    with pytest.raises(FileExistsError, match='something else') as e: write_model(tmp_path/'m', weights, words, config)
    one_sentence(e)
    assert sorted(o.name for o in (tmp_path/'m').iterdir()) == sorted(names)


def test_weights_that_are_no_numbers_replace_no_model(tmp_path, words, config, weights):
    folder = write_model(tmp_path/'m', weights, words, config)
    before = model_hash(folder)
    name = next(iter(weights))
    with pytest.raises(ValueError, match='weights that are no finite numbers') as e: write_model(folder, {**weights, name: weights[name]*float('nan')}, words, config)
    one_sentence(e)
    assert model_hash(folder) == before and [o.name for o in tmp_path.iterdir()] == ['m']


def test_what_file_managers_leave_is_no_obstacle(tmp_path, words, config, weights):
    write_model(tmp_path/'m', weights, words, config)
    for o in '.DS_Store', 'Thumbs.db': (tmp_path/'m'/o).write_text('a view')
    write_model(tmp_path/'m', weights, words, config)
    assert sorted(o.name for o in (tmp_path/'m').iterdir()) == sorted(FILES)


def test_a_name_that_is_not_utf_8(tmp_path, words, config, weights):
    "Where the system has such names, safetensors does not read them"
    with pytest.raises(ValueError, match=r"m\\udce9'.*is not UTF-8.*name another folder") as e: write_model(tmp_path/'m\udce9', weights, words, config)
    one_sentence(e)
    assert not list(tmp_path.iterdir())


def test_targets_that_cannot_be(tmp_path, monkeypatch, words, config, weights):
    (tmp_path/'file').write_text('Dear mother')
    monkeypatch.chdir(tmp_path)
    for folder,exc,match in [('file', FileExistsError, 'is a file'), ('file/model', NotADirectoryError, 'is a file'),
        ('.', FileExistsError, 'new folder in it'),
                             ('..', FileExistsError, 'new folder in it'), ('/', FileExistsError, 'new folder in it'),
                             ('/proc', FileExistsError, 'new folder in it')]:
        with pytest.raises(exc, match=match) as e: write_model(folder, weights, words, config)
        one_sentence(e)
        with pytest.raises(exc, match=match): check_target(folder)
    assert [o.name for o in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('name', ['hf://me/model', Path('hf://me/model')])
def test_a_name_on_the_hub_is_no_folder_to_write(name):
    with pytest.raises(ValueError, match='no folder but a name on the Hub') as e: check_target(name)
    one_sentence(e)


def test_a_link_to_itself(tmp_path, words, config, weights):
    (tmp_path/'m').symlink_to(tmp_path/'m')
    with pytest.raises(FileNotFoundError, match='no model folder'): load_lm(tmp_path/'m')
    with pytest.raises(OSError): write_model(tmp_path/'m', weights, words, config)
    assert [o.name for o in tmp_path.iterdir()] == ['m'] and (tmp_path/'m').is_symlink()


def test_asking_writes_nothing(tmp_path):
    assert check_target(tmp_path/'a'/'b') == (tmp_path/'a'/'b').resolve()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def read_only():
    "A folder that nobody may write to, not even root, who becomes nobody"
    box = Path(tempfile.mkdtemp())
    (box/'shut').mkdir(mode=0o555)
    box.chmod(0o755)
    root = os.geteuid() == 0
    if root: os.seteuid(65534)
    yield box/'shut'
    if root: os.seteuid(0)
    shutil.rmtree(box)


@pytest.mark.parametrize('name', ['m', 'a/b'])
def test_no_permission(read_only, words, config, weights, name):
    with pytest.raises(PermissionError) as e: write_model(read_only/name, weights, words, config)
    one_sentence(e)
    assert list(read_only.iterdir()) == []


# ---- read only when it is sound

@pytest.fixture
def folder(tmp_path, model_folder):
    "A copy of the small model, to be damaged"
    return shutil.copytree(model_folder, tmp_path/'m')


def refuses(folder, match, exc=ValueError):
    with pytest.raises(exc, match=match) as e: load_lm(folder)
    one_sentence(e)
    assert folder.name in str(e.value)


# ---- in 8 bits

@pytest.fixture
def small(folder, tmp_path): return shrink_model(folder, tmp_path/'small')

def test_a_small_model_says_nearly_the_same(folder, small):
    a, b = load_lm(folder, 'fp32'), load_lm(small, 'fp32')
    for text in TEXTS: torch.testing.assert_close(a.next_word(text), b.next_word(text), atol=2e-3, rtol=.05)
    assert b.config == a.config and b.vocab == a.vocab

def test_a_model_shrinks_where_it_is(folder):
    (folder/'README.md').write_text('a card')
    (folder/'history.csv').write_text('epoch')
    assert shrink_model(str(folder), str(folder)) == folder
    assert sorted(contents(folder)) == sorted([*FILES, 'README.md', 'history.csv']) and contents(folder)['README.md'] == b'a card'
    assert load_lm(folder).vocab

def test_card_and_history_are_there_when_the_model_is(folder, tmp_path, monkeypatch):
    (folder/'README.md').write_text('a card')
    swapped = []
    monkeypatch.setattr(model, '_swap_in', lambda tmp, target: swapped.append((tmp/'README.md').read_text()))
    shrink_model(folder, folder)
    assert swapped == ['a card']

def test_a_path_of_a_name_on_the_hub(monkeypatch):
    monkeypatch.setattr('imdb_lm.hub.pull', str.upper)
    for name in 'hf://me/small', Path('hf://me/small'): assert find_model(name) == 'HF://ME/SMALL'

def test_a_small_model_is_small(model_folder, tmp_path):
    sizes = [(o/'model.safetensors').stat().st_size for o in (model_folder, shrink_model(model_folder, tmp_path/'small'))]
    assert sizes[1] < 0.5*sizes[0]

@pytest.mark.parametrize('spoil, says', [
    (lambda w: w.pop('0.encoder.weight.scale'), '0.encoder.weight.scale is missing'),
    (lambda w: w.update({'0.encoder.weight.scale': torch.ones(3)}), r'0.encoder.weight.scale is \[3\]'),
    (lambda w: w.update({'1.decoder.bias.scale': torch.ones(3)}), 'expected nothing'),
    (lambda w: w.update({'1.decoder.bias': w['1.decoder.bias'].to(torch.int8)}), 'is of type I8'),
    (lambda w: w.update({'0.encoder.weight.scale': w['0.encoder.weight.scale'].to(torch.int32)}), 'is of type I32'),
])
def test_spoilt_small_models(small, spoil, says):
    weights = load_file(small/'model.safetensors')
    spoil(weights)
    save_file(weights, small/'model.safetensors')
    refuses(small, says)

def test_missing_folder(tmp_path): refuses(tmp_path/'nowhere', 'no model folder at', FileNotFoundError)


def test_a_file_is_no_folder(folder): refuses(folder/'config.json', 'no model folder at', FileNotFoundError)


@pytest.mark.parametrize('name', FILES)
def test_missing_file(folder, name):
    (folder/name).unlink()
    refuses(folder, f'{name} missing', FileNotFoundError)
    (folder/name).mkdir()
    refuses(folder, f'{name} missing', FileNotFoundError)


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('keep', [0, 1, 7, .3, .99, -1])
def test_truncated(folder, name, keep):
    content = (folder/name).read_bytes()
    (folder/name).write_bytes(content[:int(keep*len(content)) if isinstance(keep, float) else keep])
    refuses(folder, 'is damaged')


@pytest.mark.parametrize('name', FILES)
def test_random_bytes(folder, name):
    for seed in range(20):
        (folder/name).write_bytes(random.Random(seed).randbytes(1000))
        refuses(folder, 'is damaged')


def test_more_bytes_than_tensors(folder):
    with open(folder/'model.safetensors', 'ab') as f: f.write(b'more')
    refuses(folder, 'is damaged')


class Evil:
    "Unpickled, it leaves a file"
    def __init__(self, mark): self.mark = mark
    def __reduce__(self): return Path.touch, (self.mark,)


@pytest.mark.parametrize('name', FILES)
def test_nothing_runs_that_is_in_the_folder(folder, tmp_path, name):
    mark = tmp_path/'ran'
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()
    mark.unlink()
    (folder/name).write_bytes(pickle.dumps(Evil(mark)))
    refuses(folder, 'is damaged')
    torch.save({'0.encoder.weight': Evil(mark)}, folder/name)
    refuses(folder, 'is damaged')
    assert not mark.exists()


def header(**tensors):
    "The beginning of a safetensors file"
    text = json.dumps(tensors).encode()
    return struct.pack('<Q', len(text)) + text


@pytest.mark.parametrize('content', [
    struct.pack('<Q', 2**62) + b'{}', struct.pack('<Q', 2**64-1), struct.pack('<Q', 99_000_000) + b'{}', header(),
    header(w=dict(dtype='F32', shape=[2**40, 2**40], data_offsets=[0, 2**60])), header(w=dict(dtype='F32', shape=[2**31], data_offsets=[0, 2**33])),
    header(w=dict(dtype='F32', shape=[-1], data_offsets=[0, 4])) + bytes(4), header(w=dict(dtype='F32', shape=[1], data_offsets=[4, 0])) + bytes(4),
    header(w=dict(dtype='OBJECT', shape=[1], data_offsets=[0, 4])) + bytes(4), struct.pack('<Q', 5) + b'[1,2]', struct.pack('<Q', 10**5) + b'['*10**5])
def test_headers_that_lie(folder, content):
    (folder/'model.safetensors').write_bytes(content)
    refuses(folder, 'is damaged|does not fit')


@pytest.mark.parametrize('name, change', [
    ('0.encoder.weight', lambda w: w[:-1]), ('0.encoder.weight', lambda w: w[:,:-1]), ('0.encoder.weight', lambda w: w.flatten()),
    ('0.rnns.1.weight_hh_l0_raw', lambda w: w.T), ('1.decoder.bias', lambda w: w[None]), ('1.decoder.bias', lambda w: w[:0]),
    ('0.rnns.2.module.bias_ih_l0', lambda w: w.sum())])
def test_wrong_shape(folder, weights, name, change):
    save_file({**weights, name: change(weights[name]).contiguous()}, folder/'model.safetensors')
    refuses(folder, f'does not fit its config.json and vocab.json .*: {name} is .*, expected')


@pytest.mark.parametrize('dtype', [torch.int64, torch.int8, torch.bool, torch.uint8])
def test_wrong_type(folder, weights, dtype):
    save_file({k: v.to(dtype) for k,v in weights.items()}, folder/'model.safetensors')
    refuses(folder, 'expected floating point')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_fine(folder, weights, lm, dtype):
    save_file({k: v.to(dtype) for k,v in weights.items()}, folder/'model.safetensors')
    assert (load_lm(folder, precision='fp32').next_word('the') - lm.next_word('the')).abs().max() < .02


def test_missing_tensor(folder, weights):
    for name in weights:
        save_file({k: v for k,v in weights.items() if k != name}, folder/'model.safetensors')
        refuses(folder, f'{name} is missing')


@pytest.mark.parametrize('name', ['1.decoder.weight', '0.rnns.3.weight_hh_l0_raw', 'x'])
def test_extra_tensor(folder, weights, name):
    save_file({**weights, name: torch.zeros(3)}, folder/'model.safetensors')
    refuses(folder, f'{name} is .*, expected nothing')


@pytest.mark.parametrize('change, match', [
    (lambda v: v[:-1], 'does not fit'), (lambda v: v+['more'], 'does not fit'), (lambda v: {w: i for i,w in enumerate(v)}, 'it holds no list'),
    (lambda v: ' '.join(v), 'it holds no list'), (lambda v: None, 'it holds no list'), (lambda v: [], 'missing'), (lambda v: [*v[:-1], 1], 'no text'),
    (lambda v: [*v[:-1], ['a']], 'no text'), (lambda v: [*v[:-1], 'half \ud83c'], 'no text'), (lambda v: [*v[:-1], None], 'no text'), (lambda v: ['other' if w == UNK else w for w in v], 'xxunk missing'),
    (lambda v: ['other' if w == BOS else w for w in v], 'xxbos missing'), (lambda v: ['other' if w == 'xxpad' else w for w in v], 'xxpad missing'),
    (lambda v: [*v[1:], v[0]], r"begins with \['xxpad', 'xxbos', .*, not with xxunk, xxpad, xxbos"), (lambda v: [v[0], *reversed(v[1:])], 'begins with'),
    (lambda v: sorted(v), 'begins with'), (lambda v: [*v[:20], v[19], *v[21:]], "holds the word '.*' 2 times"),
    (lambda v: [*v[:3], *v[:-3]], "holds the word 'xxunk' 2 times"), (lambda v: [*v[:40], *['the']*24], "holds the word 'the' 25 times")])
def test_wrong_vocabulary(folder, words, change, match):
    (folder/'vocab.json').write_text(json.dumps(change(words)))
    refuses(folder, match)


@pytest.mark.parametrize('content', ['', '{', '[]', 'null', '"config"', '['*10**5, 'format: 1', b'\xff\xfe', b'{"format": 1, "emb_sz": \xff}'])
def test_config_that_is_none(folder, content):
    (folder/'config.json').write_bytes(content if isinstance(content, bytes) else content.encode())
    refuses(folder, 'config.json is damaged')


@pytest.mark.parametrize('format', [2, 0, '1', None, [1], 1e9])
def test_other_format(folder, config, format):
    (folder/'config.json').write_text(json.dumps({**config, 'format': format}))
    refuses(folder, 'has model format .* reads 1: update imdb_lm')


@pytest.mark.parametrize('changes', [
    *[{k: v} for k in ('n_layers', 'emb_sz', 'n_hid') for v in (0, -1, 10**9, 10**30, True, 2.0, '3', None, [3])],
    *[dict(pad_token=v) for v in (-1, 64, 10**30, False, None)], *[{k: v} for k in ('tie_weights', 'out_bias') for v in (1, 0, None, 'yes')]])
def test_sizes_that_cannot_be(folder, config, changes):
    (folder/'config.json').write_text(json.dumps({'format': 1, **config, **changes}))
    refuses(folder, f'config.json is damaged: {next(iter(changes))}')


@pytest.mark.parametrize('name', NETWORK)
def test_config_without(folder, config, name):
    (folder/'config.json').write_text(json.dumps({'format': 1, **{k: v for k,v in config.items() if k != name}}))
    refuses(folder, f'config.json is damaged: {name} missing')


@pytest.mark.parametrize('changes', [dict(tie_weights=False), dict(out_bias=False), dict(n_layers=2), dict(n_layers=4), dict(emb_sz=13), dict(n_hid=15)])
def test_config_of_another_network(folder, config, changes):
    (folder/'config.json').write_text(json.dumps({'format': 1, **config, **changes}))
    refuses(folder, 'does not fit')


def test_a_vocabulary_that_cannot_be_read_again_is_not_written(target, words, config, weights):
    for vocab in (words[1:] + words[:1], [*words[:-1], 'the'], [*words[:-1], 1]):
        with pytest.raises(ValueError, match='the vocabulary') as e: write_model(target, weights, vocab, config)
        one_sentence(e)


@pytest.mark.parametrize('kind', [['classifier'], {}, None, 5, 'poem'])
def test_a_model_of_another_kind(folder, config, kind):
    (folder/'config.json').write_text(json.dumps({'format': 1, **config, 'kind': kind}))
    refuses(folder, 'holds a .*, not a language model')


def test_a_newer_config_may_say_more(folder, config):
    (folder/'config.json').write_text(json.dumps({'format': 1, **config, 'colour': 'red'}))
    assert read_config(folder)['colour'] == 'red'
    assert load_lm(folder).generate('the', n_words=2)


# ---- what the model says of texts

def test_next_word(lm, words):
    for text in TEXTS:
        p = lm.next_word(text)
        assert p.shape == (len(words),) and p.dtype == torch.float32
        assert p.sum().item() == pytest.approx(1, abs=1e-5) and p.min() >= 0
    assert torch.equal(lm.next_word(), lm.next_word(''))
    assert not torch.equal(lm.next_word('the movie'), lm.next_word('a movie'))


def test_unknown_words_are_one_word(lm):
    assert [lm.vocab[i] for i in lm.encode('the zyzzyva')] == [BOS, 'the', UNK]
    assert torch.equal(lm.next_word('the zyzzyva'), lm.next_word('the quux'))
    assert 'xxfake' not in lm.o2i
    assert lm.encode('xxfake')[1] == lm.o2i[UNK]


@pytest.mark.parametrize('text', ['', ' ', '\n', 'xxbos', 'xxbos xxbos', 'xxrep', 'xxmaj xxrep 3'])
def test_odd_texts(lm, text):
    ids = lm.encode(text)
    assert ids.dtype == torch.int64 and lm.vocab[ids[0]] == BOS
    assert [lm.vocab[i] if lm.vocab[i] != UNK else UNK for i in ids] == [t if t in lm.o2i else UNK for t in tokenize([text])[0]]
    assert [len(o) for o in lm.token_scores([text])[0]] == [len(ids)-1]*2


def by_hand(lm, text):
    "The negative log-likelihood of each word of `text`, from the probabilities of the next one"
    w = text.split()
    return [-math.log(lm.next_word(' '.join(w[:i]))[lm.o2i.get(w[i], lm.o2i[UNK])]) for i in range(len(w))]


def test_perplexity_by_hand(lm):
    texts = ['the movie is good', 'a story with great actors and a zyzzyva', 'funny']
    for text,(nll,_) in zip(texts, lm.token_scores(texts)): assert nll.tolist() == pytest.approx(by_hand(lm, text), abs=1e-4)
    nll = sum((by_hand(lm, t) for t in texts), [])
    assert lm.perplexity(texts) == pytest.approx(math.exp(sum(nll)/len(nll)), rel=1e-4)
    assert lm.perplexity(texts[0]) == pytest.approx(math.exp(sum(nll[:4])/4), rel=1e-4)
    assert lm.perplexity(iter(texts)) == pytest.approx(lm.perplexity(texts))


def test_hits_are_the_likeliest_words(lm):
    plain, net, w = [w for w in lm.vocab if w.isalpha() and not w.startswith('xx')], copy.deepcopy(lm.net), []
    for o in plain: net.decoder.bias[lm.o2i[o]] += 9
    lm = LanguageModel(net, lm.vocab, lm.config)
    for _ in range(30):
        p = lm.next_word(' '.join(w))
        w.append(max((o for o in plain if o not in w[-1:]), key=lambda o: p[lm.o2i[o]]))
    _, hit = lm.token_scores([' '.join(w)])[0]
    assert hit.tolist() == [lm.next_word(' '.join(w[:i])).argmax().item() == lm.o2i[w[i]] for i in range(30)]
    assert 0 < hit.sum() < 30


def test_surprisal(lm):
    for text in TEXTS:
        pairs = lm.surprisal(text)
        assert [w for w,_ in pairs] == tokenize([text])[0][1:]
        assert [o for _,o in pairs] == pytest.approx(lm.token_scores([text])[0][0].tolist())
    assert lm.surprisal('the zyzzyva')[1][1] == pytest.approx(-math.log(lm.next_word('the')[lm.o2i[UNK]]), abs=1e-4)


def mixed_texts(lm):
    words = [w for w in lm.vocab if w.isalpha() and not w.startswith('xx')]
    rng = random.Random(3)
    return [' '.join(rng.choices(words, k=n)) for n in (0, 1, 2, 100, 0, 3, 1, 40, 100, 7, 2, 0, 5)]


@pytest.mark.parametrize('bs', [1, 2, 3, 5, 32])
def test_the_neighbours_in_a_batch_change_nothing(lm, bs):
    texts = mixed_texts(lm)
    for text,(nll,hit) in zip(texts, lm.token_scores(texts, bs=bs)):
        (alone, alone_hit), = lm.token_scores([text])
        assert len(nll) == len(tokenize([text])[0])-1
        torch.testing.assert_close(nll, alone, atol=1e-4, rtol=0)
        assert torch.equal(hit, alone_hit)


@pytest.mark.parametrize('span', [1, 7, 256])
@pytest.mark.parametrize('piece', [1, 64, 10_000])
def test_reading_in_pieces_changes_nothing(lm, monkeypatch, piece, span):
    texts = mixed_texts(lm)
    whole = lm.token_scores(texts)
    monkeypatch.setattr(model, 'PIECE', piece)
    monkeypatch.setattr(model, 'SPAN', span)
    for (a,hit_a),(b,hit_b) in zip(whole, lm.token_scores(texts)):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
        assert torch.equal(hit_a, hit_b)


@pytest.mark.parametrize('texts', [[], [''], ['', ''], ''])
def test_no_words_to_judge(lm, texts):
    with pytest.raises(ValueError, match='no words to judge') as e: lm.perplexity(texts)
    one_sentence(e)


def test_a_text_that_is_none(lm):
    with pytest.raises(TypeError): lm.perplexity(['the movie', None])
    with pytest.raises(TypeError): lm.next_word(None)


@pytest.mark.parametrize('bs', [0, -1, 1.5, None, True])
def test_texts_side_by_side_that_cannot_be(lm, bs):
    with pytest.raises(ValueError, match=f'bs={bs} cannot be: it must be a whole number of at least 1'): lm.token_scores(['the movie'], bs=bs)


def test_the_worst_perplexity_is_infinite(lm):
    net = copy.deepcopy(lm.net)
    net.decoder.bias[lm.o2i['the']] += 9999
    assert LanguageModel(net, lm.vocab, lm.config).perplexity('a movie') == math.inf


def test_precision_by_name(lm):
    for name,dtype in dict(fp64=torch.float64, fp32=torch.float32, fp16=torch.float16, bf16=torch.bfloat16).items():
        assert LanguageModel(copy.deepcopy(lm.net).to(dtype), lm.vocab, lm.config).precision == name


def test_numbers_of_numpy():
    recipe = check_recipe(np.int64(1), np.float32(.5), np.int32(2), .25)
    assert json.loads(json.dumps(recipe)) == dict(frozen_epochs=1, frozen_lr=.5, epochs=2, lr=.25)


# ---- names

def test_a_folder_called_starter_comes_first(folder, tmp_path, monkeypatch):
    "A name never hides a folder that is there"
    monkeypatch.chdir(tmp_path)
    assert find_model('starter').parent.name == 'imdb_lm' and load_lm('starter').config['n_layers'] == 2
    shutil.copytree(folder, 'starter')
    assert find_model('starter') == Path('starter') and len(load_lm('starter').vocab) == 64


@pytest.mark.parametrize('label', [5, [], {}, dict(name='stars'), dict(name=1, values=[]), dict(name='stars', values='1'), dict(name='stars', values=[1])])
def test_labels_that_are_none(model_folder, tmp_path, label):
    folder = shutil.copytree(model_folder, tmp_path/'m')
    (folder/'config.json').write_text(json.dumps({**json.loads((folder/'config.json').read_text()), 'label': label}))
    with pytest.raises(ValueError, match='config.json.* is damaged: label'): load_lm(folder)
