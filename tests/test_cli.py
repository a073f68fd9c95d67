"""The command `imdb_lm` as somebody types it. What needs no process of its own is typed into this one, to save the seconds of each import."""
import array
import csv
import fcntl
import io
import json
import os
import pickle
import pty
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch
from fastai.data.external import URLs

import command
import imdb_lm.cli as cli
import imdb_lm.loader as loader
from imdb_lm import __version__
from imdb_lm.blind import Opening
from imdb_lm.card import PROMPTS
from imdb_lm.model import FILES, load_lm

COMMAND = Path(sys.executable).with_name('imdb_lm')
SUBCOMMANDS = ['train', 'generate', 'evaluate', 'convert', 'demo', 'card', 'push', 'app', 'classify']
SMALL = ['--frozen-epochs', '1', '--epochs', '1', '--bs', '2', '--seq-len', '8']


def start(*args, **kwargs):
    "The command in a process of its own"
    env = {**os.environ, 'OMP_NUM_THREADS': '1', **kwargs.pop('env', {})}
    return subprocess.Popen([COMMAND, *map(str, args)],
        **{**dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding='utf-8'), **kwargs}, env=env)


def shell(*args, input=None, **kwargs):
    "Its exit code and what it wrote to stdout and stderr"
    with start(*args, **({} if input is None else {'stdin': subprocess.PIPE}), **kwargs) as p: out, err = p.communicate(input, timeout=120)
    return p.returncode, out, err


@pytest.fixture
def typed(monkeypatch, capfd, tmp_path):
    "The same in this process, in an empty folder"
    monkeypatch.chdir(tmp_path)
    def typed(*args, stdin=''):
        monkeypatch.setattr(sys, 'argv', ['imdb_lm', *map(str, args)])
        monkeypatch.setattr(sys, 'stdin', io.StringIO(stdin) if isinstance(stdin, str) else stdin)
        capfd.readouterr()
        with pytest.raises(SystemExit) as e: cli.main()
        return e.value.code, *capfd.readouterr()
    return typed


def one_line(result, match, code=1):
    "One line on stderr that says what is wrong"
    rc, out, err = result
    assert rc == code
    assert re.fullmatch(f'imdb_lm: .*(?:{match}).*\n', err), err
    assert not out.strip('\r'), out # where a bar would be fastprogress goes back to the line's beginning


@pytest.fixture(scope='session')
def corpus(tmp_path_factory):
    "A folder of 30 short texts"
    folder, rng = tmp_path_factory.mktemp('corpus'), random.Random(1)
    def some(words): return rng.choice(words.split())
    for i in range(30):
        text = ' '.join(' '.join(map(some, ['The A This', 'film movie story', 'is was', 'very so not', 'good. bad. funny. awful.'])) for _ in range(5))
        (folder/f'{i}.txt').write_text(text)
    return folder


@pytest.fixture(scope='session')
def trained(tmp_path_factory, corpus):
    "What a small training says, and the folder it was called in"
    cwd = tmp_path_factory.mktemp('trained')
    return shell('train', '--data', corpus, '--out', 'my/model', *SMALL, cwd=cwd), cwd


# ---- help

def test_help():
    rc, out, err = shell('--help')
    assert (rc, err) == (0, '') and out == shell('-h')[1]
    for o in [*SUBCOMMANDS, '--version', '--install-completion', 'imdb_lm train --data', 'imdb_lm generate --model']: assert o in out


def test_version(): assert shell('--version') == (0, f'imdb_lm {__version__}\n', '')


def test_nothing_typed():
    rc, out, err = shell()
    assert rc == 2 and 'generate' in out+err and 'Traceback' not in err


@pytest.mark.parametrize('name', SUBCOMMANDS)
def test_help_of_each_option(typed, name):
    rc, out, err = typed(name, '--help')
    assert (rc, err) == (0, '')
    entries = re.split(r'\n  (?=-|\w+\S* +[<\[{]|\w+\.\.\.)',
        out.split('Options:')[1] + (out.split('Arguments:')[1].split('Options:')[0] if 'Arguments:' in out else ''))
    for entry in filter(str.strip, entries): assert re.search(r'\S(?:  +|\n +)[^[\s]+ \S', entry), f'no help: {entry}'
    assert '--debug' in out and '--quiet' in out
    assert 'Example: imdb_lm '+name in ' '.join(out.split()) or name == 'demo'


def test_help_fits_its_lines(typed):
    _, out, _ = typed('--help')
    assert '...' not in out.split('Commands:')[1]
    assert [o.split('#')[0].split() for o in out.splitlines() if '#' in o] == [
        ['imdb_lm', 'train', '--data', 'FOLDER', '--out', 'my_model', '--dry-run'], ['imdb_lm', 'train', '--data', 'FOLDER', '--out', 'my_model'],
        ['imdb_lm', 'generate', '--model', 'my_model', '"I', 'like', 'this', 'movie"'], ['imdb_lm', 'evaluate', 'my_model', '--data', 'FOLDER']]


def test_help_knows_the_sizes(typed):
    from imdb_lm.learner import SIZES
    out = ' '.join(typed('train', '--help')[1].split())
    for name in 'bs', 'seq_len': assert f'Default: {SIZES["laptop"][name]} for laptop, {SIZES["post"][name]} for post' in out


def test_what_the_help_says(typed, corpus):
    "From a folder of texts to reviews, by the lines of `imdb_lm --help` alone"
    for line in [o.split('#')[0] for o in typed('--help')[1].splitlines() if '#' in o]:
        args = shlex.split(line.replace('FOLDER', str(corpus)))
        rc, out, err = typed(*args[1:], *(SMALL if args[1] == 'train' else []))
        assert rc == 0 and out


def test_options_are_the_arguments_of_python():
    import inspect
    from imdb_lm.generate import Writing
    ours, theirs = (inspect.signature(f).parameters for f in (cli.generate, Writing))
    assert set(theirs) - set(ours) == {'lm', 'no_unk'} and set(ours) - set(theirs) == {'model', 'json', 'out', 'resume', 'max_copy', 'against', 'text_col'}
    for name in set(ours) & set(theirs) - {'prompts', 'banned'}: assert ours[name].default == theirs[name].default


@pytest.mark.parametrize('args', [['--help'], ['--version'], ['generate', '--help'], ['train', '--help'], ['generate', '--nonsense'],
    ['generate', '--n', 'x'], ['train', '--size', 'big'], ['nonsense']])
def test_help_and_slips_wait_for_nothing(args):
    got = subprocess.run([sys.executable, '-c', '''import atexit, sys
atexit.register(lambda: print([o for o in ('torch', 'fastai', 'pandas', 'spacy', 'numpy') if o in sys.modules]))
from imdb_lm.cli import main
main()''', *args], capture_output=True, text=True)
    assert got.stdout.splitlines()[-1] == '[]'
    assert got.returncode == (2 if args[-1] in ('--nonsense', 'x', 'big', 'nonsense') else 0)


@pytest.mark.parametrize('args, match', [
    (['genrate'], "No such command 'genrate'. Did you mean 'generate'"), (['generate', '--nwords', '3'], 'No such option: --nwords.*--n-words'),
    (['--foo'], 'No such option: --foo'), (['generate', '--two\nlines'], 'No such option'), (['xyz'], "No such command 'xyz'"),
    (['generate', '--n', 'three'], "Invalid value for '--n'"),
    (['generate', '--temperature', 'hot'], "Invalid value for '--temperature'"),
    (['train', '--size', 'big'], "Invalid value for '--size'.*laptop.*post"), (['train', '--out'], 'requires an argument'),
    (['train', 'folder'], 'unexpected extra argument'), (['evaluate'], "Missing argument 'folder'"), (['convert', 'a.pth'], "Missing argument 'pkl'")])
def test_slips_of_the_keyboard(typed, args, match):
    where = ' '.join(['imdb_lm', *[o for o in args[:1] if o in SUBCOMMANDS]])
    one_line(typed(*args), f'{match}.*; see {where} --help$', code=2)


# ---- train

def test_train(trained, corpus):
    (rc, out, err), cwd = trained
    assert rc == 0, err
    assert 'Traceback' not in err and 'Nothing is pretrained' in err
    assert '30 reviews (3 held out)' in out and 'size: laptop, AWD-LSTM 2 x 384' in out and 'pretrained: no' in out
    assert re.search('^epoch +train_loss .* perplexity', out, re.M) and '█' not in out and '%' not in out.split('unknown')[1], 'bars are for terminals'
    assert 'my/model' in out
    reviews = out[out.index('Reviews from it:'):].split('\n\n', 1)[1]
    assert [reviews.count(p) for p in PROMPTS] == [1, 1, 1]
    assert sorted(o.name for o in (cwd/'my'/'model').iterdir()) == sorted([*FILES, 'README.md', 'history.csv'])
    assert sorted(o.name for o in cwd.rglob('*') if o.is_dir()) == ['model', 'my']
    rows = list(csv.DictReader(open(cwd/'my'/'model'/'history.csv')))
    assert [(o['stage'], o['epoch']) for o in rows] == [('1', '0'), ('2', '0')]
    assert all(float(o[k]) > 0 for o in rows for k in ('train_loss', 'valid_loss', 'accuracy', 'perplexity'))
    lm = load_lm(cwd/'my'/'model')
    assert 'movie' in lm.vocab
    assert lm.config['metrics']['perplexity'] == pytest.approx(float(rows[-1]['perplexity']))
    assert str(corpus.parent) not in (cwd/'my'/'model'/'config.json').read_text()


def test_train_again_is_the_same(trained, corpus, typed):
    rc, out, err = typed('train', '--data', corpus, '--out', 'again', *SMALL)
    assert rc == 0
    assert [o.read_bytes() for o in (Path('again')/'vocab.json', trained[1]/'my'/'model'/'vocab.json')] == [Path('again/vocab.json').read_bytes()]*2
    a, b = (load_lm(o) for o in ('again', trained[1]/'my'/'model'))
    torch.testing.assert_close(a.next_word('The movie'), b.next_word('The movie'), atol=1e-3, rtol=0)
    assert 'already' not in out
    Path('empty').mkdir()
    Path('empty', '.DS_Store').touch()
    assert 'already' not in typed('train', '--data', corpus, '--out', 'empty', *SMALL)[1]
    rc, out, err = typed('train', '--data', corpus, '--out', 'again', *SMALL)
    assert rc == 0 and 'out: again holds a model already, which the new one will replace' in out


def test_dry_run_writes_nothing(typed, corpus, tmp_path):
    rc, out, err = typed('train', '--data', corpus, '--dry-run', *SMALL)
    assert rc == 0
    assert list(tmp_path.iterdir()) == []
    for o in ['30 reviews', 'tokens', 'vocabulary', '% unknown', 'tokens/s', 'about a minute', 'memory', ' GB', 'disk', ' MB']: assert o in out
    assert 'nan' not in out


def test_train_goes_on_from_a_folder(typed, corpus, trained):
    model = trained[1]/'my'/'model'
    rc, out, err = typed('train', '--data', corpus, '--pretrained', model, '--out', 'next', *SMALL)
    assert rc == 0
    before = float(re.search(r'before training: perplexity ([\d.]+)', out)[1])
    assert before == pytest.approx(load_lm(model).config['metrics']['perplexity'], rel=.05)
    assert f'pretrained: {model}' in out
    assert json.loads(Path('next/config.json').read_text())['base'] == [dict(name=model.name, data=load_lm(model).config['data'])]
    assert f'the weights of `{model.name}`' in Path('next/README.md').read_text()
    assert sorted(o.name for o in Path('next').iterdir()) == sorted([*FILES, 'README.md', 'history.csv'])


def test_a_table_is_a_corpus(typed, corpus, trained):
    with open('table.csv', 'w') as f: csv.writer(f).writerows([['text'], *[[o.read_text()] for o in sorted(corpus.iterdir())]])
    rc, out, err = typed('train', '--data', 'table.csv', '--dry-run', *SMALL)
    assert rc == 0 and '30 reviews' in out


def test_recipe_for_a_start_from_nothing(typed, corpus):
    rc, out, err = typed('train', '--data', corpus, '--recipe', 'scratch', '--bs', '2', '--seq-len', '8')
    assert rc == 0
    recipe = load_lm('model').config['recipe']
    assert recipe.items() >= dict(frozen_epochs=0, epochs=1, lr=5e-3, pretrained=False, max_norm=1.).items() and 'alpha' not in recipe
    assert 'gradients clipped to 1' in Path('model/README.md').read_text()
    assert len(Path('model/history.csv').read_text().splitlines()) == 2
    assert 'stage one' not in err


def test_recipe_that_does_not_go_together(typed, no_corpus):
    one_line(typed('train', '--recipe', 'scratch', '--frozen-epochs', '1'), 'has one stage: leave --frozen-epochs out')
    one_line(typed('train', '--recipe', 'scratch', '--lr', '0'), r'(?<!\w)lr=0.0 cannot be')
    one_line(typed('train', '--recipe', 'scratch', '--pretrained', 'starter'), 'starts from nothing, not from starter: add --pretrained none')


def test_from_nothing_needs_no_wikipedia():
    for name in None, 'none': assert cli._pretrained(name, 'post', 'scratch') is False


# ---- what fits in memory, and a run that goes on

FIT = ['--frozen-epochs', '1', '--epochs', '1', '--seq-len', '8']


@pytest.fixture(scope='module')
def whole_batch(tmp_path_factory, corpus):
    "A training with the default batch"
    cwd = tmp_path_factory.mktemp('whole')
    assert command.run('train', '--data', corpus, *FIT, cwd=cwd).returncode == 0
    return cwd/'model'


def weights(folder): return (Path(folder)/'model.safetensors').read_bytes()


def table(folder): return [{k: v for k,v in row.items() if k != 'time'} for row in csv.DictReader(open(Path(folder)/'history.csv'))]


def test_auto_where_all_fits(typed, corpus, whole_batch, tmp_path):
    rc, out, err = typed('train', '--data', corpus, *FIT, '--bs', 'auto')
    assert rc == 0, err
    assert '\nbs: 16, a trial of it fits in memory\n' in out
    assert weights(tmp_path/'model') == weights(whole_batch) and table(tmp_path/'model') == table(whole_batch)


def test_auto_where_less_fits(typed, corpus, monkeypatch):
    monkeypatch.setattr('imdb_lm.memory.largest_bs', lambda learn: 4)
    rc, out, err = typed('train', '--data', corpus, *FIT, '--bs', 'auto')
    assert rc == 0 and Path('model').exists()
    assert '\nbs: 4, a trial of it fits in memory, more does not; the gradients of 4 batches are added up, so the weights still change once every 16 rows\n' in out
    rc, out, err = typed('train', '--data', corpus, *FIT, '--bs', 'auto', '--dry-run')
    assert rc == 0 and 'bs: 4, ' in out and re.search(r'a step +[\d.]+ s  [\d,]+ tokens/s', out)


@pytest.mark.parametrize('bs', ['x', '2.5', '', 'AUTO'])
def test_rows_that_cannot_be(typed, no_corpus, bs): one_line(typed('train', '--bs', bs), f"bs='{bs}' cannot be: it must be a whole number of at least 1, or auto")


def test_out_of_memory_is_one_line(typed, corpus, monkeypatch):
    def out_of_it(*args, **kwargs): raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.20 GiB')
    monkeypatch.setattr('imdb_lm.learner.LMLearner.fit_one_cycle', out_of_it)
    rc, out, err = typed('train', '--data', corpus, *SMALL)
    assert rc == 1 and re.search(r'imdb_lm: out of memory with batches of 2 x 8: .* bs=1 fits; .*--bs auto does\n$', err) and 'Traceback' not in err


def test_no_number_is_one_line(typed, corpus, monkeypatch):
    def lost(*args, **kwargs): raise FloatingPointError('the loss is nan: train again with a lower rate')
    monkeypatch.setattr('imdb_lm.learner.LMLearner.fit_one_cycle', lost)
    rc, out, err = typed('train', '--data', corpus, *SMALL)
    assert rc == 1 and err.endswith('imdb_lm: the loss is nan: train again with a lower rate\n')


@pytest.mark.parametrize('bs', [[], ['--bs', 'auto']])
def test_the_table_of_a_resumed_run_is_whole(typed, corpus, monkeypatch, bs):
    "And its batch is the one that it began with"
    monkeypatch.setattr('imdb_lm.memory.largest_bs', lambda learn: 4)
    call = ['train', '--data', corpus, *FIT, '--epochs', '2', *bs]
    assert typed(*call, '--out', 'alone', '--checkpoint', 'c1')[0] == 0
    with monkeypatch.context() as m:
        def stop(self):
            if self.learn.run_log.stage == 2 and self.epoch == 1: raise KeyboardInterrupt
        m.setattr('imdb_lm.training.StopOnNaN.after_batch', stop)
        rc, out, err = typed(*call, '--checkpoint', 'c2')
        assert rc == 130 and not Path('model').exists()
    def never(learn): raise AssertionError('it was tried again')
    monkeypatch.setattr('imdb_lm.memory.largest_bs', never)
    rc, out, err = typed(*call, '--checkpoint', 'c2')
    assert rc == 0 and 'Going on from step' in err
    assert ('bs: 4, as the run in c2 began; the gradients of 4 batches are added up' in out) == bool(bs)
    assert [(o['stage'], o['epoch']) for o in table('model')] == [('1', '0'), ('2', '0'), ('2', '1')]
    assert table('model') == table('alone') and weights('model') == weights('alone')


@pytest.fixture
def no_corpus(monkeypatch):
    "The corpus is not to be read: what is asked for cannot be, and that must be said before the minutes this takes"
    def read(*args, **kwargs): raise AssertionError('the corpus was read')
    monkeypatch.setattr(loader, 'lm_dls', read)


@pytest.mark.parametrize('dry', [[], ['--dry-run']])
def test_out_that_cannot_be(typed, no_corpus, dry):
    Path('file').write_text('Dear mother')
    Path('letters').mkdir()
    Path('letters/to_mother.txt').write_text('Dear mother')
    for out,match in [('file', 'file is a file'), ('file/model', 'file is a file'), ('letters', 'letters holds something else.*to_mother.txt'),
        ('.', 'new folder')]:
        one_line(typed('train', '--out', out, *dry), match)
    assert Path('file').read_text() == 'Dear mother' and Path('letters/to_mother.txt').exists()


def test_pretrained_that_is_not_there(typed, no_corpus, fastai_home, monkeypatch, model_folder, tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        monkeypatch.setattr(URLs, 'WT103_FWD', f'http://127.0.0.1:{s.getsockname()[1]}/wt103-fwd.tgz')
        for pretrained in ['--pretrained=wt103'], []:
            one_line(typed('train', '--size', 'post', *pretrained), 'cannot fetch.*FASTAI_HOME.*give --pretrained none')
    one_line(typed('train', '--pretrained', 'wt103'), 'add --size post')
    one_line(typed('train', '--pretrained', 'nowhere'), 'no model folder at nowhere')
    shutil.copytree(model_folder, 'cut')
    Path('cut/vocab.json').unlink()
    one_line(typed('train', '--pretrained', 'cut'), 'vocab.json missing')


def texts(folder, *contents):
    Path(folder).mkdir()
    for i,o in enumerate(contents): (Path(folder)/f'{i}.txt').write_bytes(o)
    return folder


@pytest.mark.parametrize('name', ['train', 'evaluate'])
def test_a_corpus_that_is_none(typed, model_folder, name):
    def on(data, *args): return typed(name, *([model_folder] if name == 'evaluate' else ['--bs=2']), '--data', data, *args)
    one_line(on('nowhere'), 'nowhere is not there')
    one_line(on(texts('empty')), 'empty has no .txt files .it holds nothing')
    one_line(on(texts('latin1', *[b'A caf\xe9']*20)), r'latin1/\d+.txt has the byte 0xe9, which is not UTF-8')
    one_line(on(texts('nul', *[b'A \0 B']*20)), r'nul/\d+.txt has a NUL byte')
    one_line(on(texts('one', b'A film.')), 'none is left for validation|no words to judge')
    one_line(on(texts('blank', *[b'']*20)), 'too few for a batch|no words to judge')
    Path('table.csv').write_text('review\nA film.\n')
    one_line(on('table.csv'), "no columns 'text'; it has 'review'")
    Path('notes.docx').write_text('A film.')
    one_line(on('notes.docx'), 'notes.docx is no table that can be read')
    assert not Path('model').exists()


@pytest.mark.parametrize('option', ['--epochs=-1', '--frozen-epochs=-1', *[f'--{o}={v}' for o in ('lr', 'frozen-lr') for v in (0, -1, 'nan', 'inf')]])
def test_recipes_that_cannot_be(typed, no_corpus, option):
    name, value = option.strip('-').replace('-', '_', option.count('frozen')).split('=')
    one_line(typed('train', option), f'{name}={value}.* cannot be: it must be a ')
    one_line(typed('train', option, '--dry-run'), f'{name}={value}.* cannot be')


@pytest.mark.parametrize('option, match', [('--bs=0', 'bs=0'), ('--bs=-1', 'bs=-1'), ('--seq-len=0', 'seq_len=0'), ('--bs=5000', 'too few for a batch of 5000 rows: lower bs')])
def test_settings_of_a_training_that_cannot_be(typed, corpus, option, match):
    rc, out, err = typed('train', '--data', corpus, '--bs=2', '--seq-len=8', option)
    assert rc == 1 and re.search(f'^imdb_lm: .*{match}', err, re.M) and 'Traceback' not in err
    assert not Path('model').exists()


# ---- generate

def test_prompts_from_a_pipe_and_no_fastai(model_folder, lm):
    rc, out, err = shell('generate', '--model', model_folder, '--json', '--seed', 1, input='The movie\nÜnï 你好 🎬\n', env={'PYTHONPROFILEIMPORTTIME': '1'})
    assert rc == 0
    lines = [json.loads(o) for o in out.splitlines()]
    assert [o['prompt'] for o in lines] == ['The movie', 'Ünï 你好 🎬']
    assert [[o['text']] for o in lines] == lm.generate(['The movie', 'Ünï 你好 🎬'], seed=1)
    assert '你好 🎬' in out
    imported = {line.rsplit('|', 1)[1].strip() for line in err.splitlines() if line.startswith('import time:')}
    assert 'torch' in imported
    assert not {o for o in imported if o.split('.')[0] in ('fastai', 'pandas', 'IPython', 'matplotlib')}
    assert not [line for line in err.splitlines() if not line.startswith('import time:')]


def test_a_terminal_is_not_waited_for(typed, model_folder, lm):
    ours, theirs = pty.openpty()
    os.write(ours, b'not read\n\x04')
    with open(theirs) as terminal:
        assert terminal.isatty()
        assert typed('generate', '--model', model_folder, '--seed', 1, stdin=terminal) == (0, lm.generate('', seed=1)[0] + '\n\n', '')
    os.close(ours)


def test_no_terminal_at_all(typed, model_folder, lm):
    assert typed('generate', '--model', model_folder, '--seed', 1, stdin=None) == (0, lm.generate('', seed=1)[0] + '\n\n', '')


def test_text_for_people(typed, model_folder, lm):
    rc, out, err = typed('generate', 'The movie', '--model', model_folder, '--n', 3, '--n-words', 5, '--seed', 1)
    assert (rc, err) == (0, '')
    assert out == ''.join(f'{o}\n\n' for o in lm.generate('The movie', n=3, n_words=5, seed=1))


def test_prompts_of_all_kinds(typed, model_folder, lm):
    def prompts(*args, **kwargs):
        rc, out, err = typed('generate', '--model', model_folder, '--json', '--seed', 1, *args, **kwargs)
        assert (rc, err) == (0, '')
        return [json.loads(o)['prompt'] for o in out.splitlines()]
    assert prompts(stdin='') == ['']
    assert prompts('') == ['']
    assert prompts('the', '', 'A film', stdin='not read\n') == ['the', '', 'A film']
    assert prompts(stdin='the\r\nA film') == ['the', 'A film']
    assert prompts('--', '--help') == ['--help']
    assert prompts(stdin=io.TextIOWrapper(io.BytesIO(b'\xef\xbb\xbfthe\n'), 'ascii', 'surrogateescape')) == ['the']
    one_line(typed('generate', '--model', model_folder, stdin=io.TextIOWrapper(io.BytesIO(b'caf\xe9'), 'utf-8', 'surrogateescape')), 'not UTF-8: convert it')
    assert prompts('the "good"\nfilm', '--n', 2) == ['the "good"\nfilm']*2
    assert prompts('xxrep 30000000 a') == ['xxrep 30000000 a']


def test_seed(typed, model_folder):
    def say(*args): return typed('generate', 'the', '--model', model_folder, '--n-words', 20, *args)[1]
    assert say('--seed', 5) == say('--seed', 5) != say('--seed', 6)
    assert say() != say()
    assert say('--seed', 5, '--n', 3).startswith(say('--seed', 5))


def test_options_reach_the_reviews(typed, model_folder, lm):
    def say(*args): return [json.loads(o)['text'] for o in typed('generate', 'the movie', '--json', '--seed', 5, '--model', model_folder,
        *args)[1].splitlines()]
    for args,kwargs in [(['--n', 2], dict(n=2)), (['--n-words', 3], dict(n_words=3)), (['--temperature', 0], dict(temperature=0)),
        (['--top-k', 2], dict(top_k=2)), (['--top-p', .3], dict(top_p=.3)),
                        (['--min-p', .5], dict(min_p=.5)), (['--repetition-penalty', 2], dict(repetition_penalty=2.)),
                        (['--banned', 'good', '--banned', 'bad'], dict(banned=['good', 'bad'])), (['--min-words', 60], dict(min_words=60)),
                        (['--no-stop'], dict(stop=False)), (['--raw'], dict(raw=True))]:
        assert say(*args) == lm.generate('the movie', seed=5, **kwargs)
        assert kwargs.keys() == {'n'} or say(*args) != lm.generate('the movie', seed=5) or kwargs.keys() & {'stop', 'banned', 'min_words'}


@pytest.mark.parametrize('option', ['--n=0', '--n=-2', '--n-words=0', '--n-words=-1', '--temperature=-1', '--temperature=nan', '--temperature=inf',
    '--top-p=2', '--top-p=0', '--top-k=0',
                                    '--min-p=2', '--min-p=nan', '--repetition-penalty=0', '--seed=-1'])
def test_settings_that_cannot_be(typed, model_folder, option):
    name = re.match('--(.*)=', option)[1].replace('-', '_')
    one_line(typed('generate', 'the', '--model', model_folder, option), f'{name}=.* cannot be')


def test_no_model(typed, model_folder):
    one_line(typed('generate', 'the', '--model', 'nowhere'), 'no model folder at nowhere')
    one_line(typed('evaluate', 'nowhere', '--data', 'nowhere'), 'no model folder at nowhere')
    Path('file').write_text('')
    one_line(typed('generate', 'the', '--model', 'file'), 'no model folder at file')
    Path('empty').mkdir()
    one_line(typed('generate', 'the', '--model', 'empty'), 'model.safetensors, config.json, vocab.json missing')


@pytest.mark.parametrize('name', FILES)
def test_damaged_model(typed, model_folder, name):
    shutil.copytree(model_folder, 'm')
    for content in (b'', b'\xff\x00', pickle.dumps(Path('x')), (model_folder/name).read_bytes()[:-2]):
        (Path('m')/name).write_bytes(content)
        one_line(typed('generate', 'the', '--model', 'm'), f'{name} is damaged')
        one_line(typed('evaluate', 'm', '--data', 'mini'), f'{name} is damaged')


def test_quiet(typed, corpus, model_folder, lm):
    "The result alone; what goes wrong is still said"
    assert typed('train', '--data', corpus, '--out', 'mine', '--quiet', *SMALL) == (0, '', '') and set(FILES) < {o.name for o in Path('mine').iterdir()}
    rc, out, err = typed('train', '--data', corpus, '--dry-run', '-q', *SMALL)
    assert (rc, err) == (0, '') and 'tokens/s' in out
    assert typed('generate', 'the', '--model', model_folder, '--n', 3, '--seed', 1, '--out', 'r.jsonl', '-q') == (0, '', '')
    assert [json.loads(o)['text'] for o in open('r.jsonl')] == lm.generate('the', n=3, seed=1)
    figures = typed('evaluate', model_folder, '--data', corpus)
    assert typed('evaluate', model_folder, '--data', corpus, '-q') == (0, figures[1], '') and 'perplexity' in figures[1]
    one_line(typed('generate', '--model', 'nowhere', '-q'), 'no model folder at nowhere')
    one_line(typed('convert', 'a.pth', 'a.pkl', '-q'), 'a.pth')


def test_colours_are_for_terminals(typed, model_folder, corpus):
    shown, rc, err, _ = in_a_terminal('evaluate', model_folder, '--data', corpus, env={'TERM': 'xterm-256color'})
    assert rc == 0 and '\x1b[36m' in shown and 'bits per byte' in shown
    assert '\x1b' not in ''.join(typed('evaluate', model_folder, '--data', corpus)[1:])


def test_debug_shows_the_traceback(tmp_path):
    rc, out, err = shell('generate', 'the', '--model', 'nowhere', '--debug', cwd=tmp_path)
    assert (rc, out) == (1, '')
    assert err.startswith('Traceback') and 'FileNotFoundError: no model folder at nowhere' in err


def test_what_nobody_expected(typed, monkeypatch, model_folder):
    def surprise(*args): raise KeyError('colour')
    monkeypatch.setattr('imdb_lm.model.load_lm', surprise)
    one_line(typed('generate', 'the', '--model', model_folder), "KeyError 'colour' .--debug shows where")
    monkeypatch.setattr(sys, 'argv', ['imdb_lm', 'generate', 'the', '--model', str(model_folder), '--debug'])
    with pytest.raises(KeyError): cli.main()


def test_the_starter_writes_when_no_model_is_named(typed):
    "And says so, apart from what it writes"
    rc, out, err = typed('generate', 'This movie', '--n-words', '20', '--seed', '1')
    assert (rc, out.count('\n\n')) == (0, 1) and out.startswith('This movie ')
    assert re.fullmatch('imdb_lm: using the starter.*--model.*\n', err)
    assert typed('generate', 'This movie', '--n-words', '20', '--seed', '1', '--model', 'starter') == (0, out, '')
    assert typed('generate', 'This movie', '--n-words', '20', '--seed', '1', '--quiet') == (0, out, '')
    best = typed('generate', 'This movie', '--n-words', '20', '--seed', '1', '--stars', '10')[1]
    assert best != out


def test_a_demo_of_seconds(typed):
    rc, out, err = typed('demo', '--quick')
    assert (rc, err) == (0, '')
    assert [out.count(f'\n{p}') for p in PROMPTS] == [3, 3, 3]


def test_classify(typed, tmp_path, words, config, weights):
    "Texts, files and pipes are judged alike"
    from imdb_lm.classifier import Classifier, write_clas
    from imdb_lm.network import build_net
    torch.manual_seed(3)
    head = torch.nn.Sequential(torch.nn.Linear(3*config['emb_sz'], 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    sizes = {**config, 'out_bias': False}
    net = build_net(sizes, len(words), {k: w for k,w in weights.items() if k != '1.decoder.bias'})
    clas = Classifier(net, head, words, {**sizes, 'classes': ['neg', 'pos'], 'seq_len': 8, 'max_len': None})
    write_clas('judge', clas)
    Path('review.txt').write_text('the movie is good')
    label, probs = clas.predict('the movie is good')
    for got in (typed('classify', 'the movie is good', '--model', 'judge'), typed('classify', 'review.txt', '--model', 'judge'),
                typed('classify', '--model', 'judge', stdin='the movie is good\n\n')):
        assert got == (0, f'{label} {probs.max():.1%}  the movie is good\n', '')
    row = json.loads(typed('classify', 'review.txt', '--model', 'judge', '--json', '--words')[1])
    assert row['label'] == label and row['probabilities'] == pytest.approx(dict(zip(clas.classes, probs.tolist()))) and len(row['words']) == 4
    one_line(typed('classify', '--model', 'judge'), 'no text to judge')
    for nothing in '', ' ': one_line(typed('classify', nothing, '--model', 'judge'), 'nothing to judge')
    one_line(typed('classify', 'the', '--model', 'nowhere'), 'nowhere')
    one_line(typed('generate', 'the', '--model', 'judge'), 'classifier')
    Path('latin1.txt').write_bytes(b'a caf\xe9')
    one_line(typed('classify', 'latin1.txt', '--model', 'judge'), 'latin1.txt is not UTF-8')
    one_line(typed('classify', 'nowhere.txt', '--model', 'judge'), 'nowhere.txt is not there')
    one_line(typed('classify', 'judge', '--model', 'judge'), 'judge is a folder')
    Path('marked.txt').write_bytes(b'\xef\xbb\xbfthe movie is good')
    assert typed('classify', 'marked.txt', '--model', 'judge') == typed('classify', 'review.txt', '--model', 'judge')


def test_advice_is_for_those_who_type(typed, model_folder, monkeypatch):
    "What options replace is what the library says"
    said = ''.join(o.read_text(encoding='utf-8') for o in Path(cli.__file__).parent.glob('*.py') if o.name != 'cli.py')
    assert all(python in said for python in cli._SPELLED)
    Path('a.csv').write_text('review\nA film.\n')
    one_line(typed('train', '--data', 'a.csv', '--out', 'm', '--quiet'), "no columns 'text'; it has 'review': name the column of texts with --text-col")
    one_line(typed('generate', '--model', model_folder, '--max-copy', '3', '--against', 'a.csv'), 'column of texts with --text-col')
    rc, out, err = typed('generate', '--model', model_folder, '--max-copy', '3', '--against', 'a.csv', '--text-col', 'review')
    assert (rc, err) == (0, '') and out
    one_line(typed('generate', '--model', model_folder, '--stars', '9'), 'leave it out, or train with --label')


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='there is no /dev/full here')
@pytest.mark.parametrize('args', [('--help',), ('--version',), ('generate', '--help')])
def test_a_full_disk(args):
    with open('/dev/full', 'w') as full: rc, _, err = shell(*args, stdout=full)
    assert rc == 1 and re.fullmatch(r'imdb_lm: .*No space left on device\n', err), err


@pytest.mark.parametrize('command', [('train', '--out', 'm'), ('evaluate', 'starter'), ('demo',)])
def test_seeds_that_cannot_be(typed, command):
    rc, out, err = typed(*command, '--seed', 10**30)
    assert rc == 1 and re.search(r'imdb_lm: seed=1000+ cannot be: it must be a whole number below 2\*\*63\n$', err)


def test_card(typed, model_folder):
    "The page of a model folder, with the figures of a report where one is named"
    shutil.copytree(model_folder, 'mine')
    assert typed('card', 'mine') == (0, 'The card is in mine/README.md.\n', '')
    assert 'Not measured' in Path('mine/README.md').read_text()
    Path('report').mkdir()
    figures = dict(reviews=3, perplexity=12.34, stream_perplexity=12., bits_per_byte=2.5, accuracy=.25, unknown=.5)
    Path('report/report.json').write_text(json.dumps(dict(command='imdb_lm evaluate mine --report report', figures=figures)))
    assert typed('card', 'mine', '--report', 'report')[0] == 0
    assert '**12.3**' in Path('mine/README.md').read_text() and 'imdb_lm evaluate mine --report report' in Path('mine/README.md').read_text()
    one_line(typed('card', 'mine', '--report', 'nowhere'), 'no report at nowhere')
    one_line(typed('card', 'nowhere'), 'no model folder at nowhere')


def test_the_reader_goes_away(model_folder):
    got = subprocess.run(f'"{COMMAND}" generate the --model "{model_folder}" --n 200 --no-stop | head -1', shell=True, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=120)
    assert got.stdout.startswith('the') and got.stderr == ''


def test_no_reader_at_all(typed, model_folder, monkeypatch, tmp_path):
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, 'w') as pipe:
        monkeypatch.setattr(sys, 'stdout', pipe)
        rc, out, err = typed('generate', 'the', '--model', model_folder)
    assert rc == 1 and err == ''


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_the_disk_of_the_reviews_is_full(model_folder, monkeypatch):
    monkeypatch.delenv('PYTHONUNBUFFERED', raising=False) # without it Python tries to write once more when it ends
    with open('/dev/full', 'w') as full: rc, out, err = shell('generate', 'the', '--model', model_folder, stdout=full)
    assert rc == 1 and re.fullmatch('imdb_lm: .*No space left on device.*\n', err)


def unread(pipe):
    "Bytes in `pipe` that nobody has read yet"
    n = array.array('i', [0])
    fcntl.ioctl(pipe, termios.FIONREAD, n)
    return n[0]


def test_ctrl_c(model_folder):
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) # where tests run in the background it is not
    with start('generate', '--model', model_folder, stdin=subprocess.PIPE, preexec_fn=heard) as p:
        p.stdin.write('the movie\n')
        p.stdin.flush()
        while unread(p.stdin) and p.poll() is None: time.sleep(.05)
        p.send_signal(signal.SIGINT)
        out, err = p.stdout.read(), p.stderr.read()
    assert (p.returncode, out, err) == (130, '', 'imdb_lm: stopped\n')


def in_a_terminal(*args, stop_after=None, env=None):
    "What a terminal shows of stdout, and the exit code; stopped by Ctrl-C when so many bytes are there"
    ours, theirs = pty.openpty()
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with start(*args, stdout=theirs, preexec_fn=heard, env=env or {}) as p:
        os.close(theirs)
        shown, pieces = b'', 0
        while True:
            try: piece = os.read(ours, 1000)
            except OSError: break
            shown, pieces = shown + piece, pieces + 1
            if stop_after and len(shown) > stop_after: p.send_signal(signal.SIGINT); stop_after = None
        err = p.stderr.read()
    os.close(ours)
    return shown.decode().replace('\r\n', '\n'), p.returncode, err, pieces


def test_words_appear_in_a_terminal(model_folder, lm):
    shown, rc, err, _ = in_a_terminal('generate', 'the movie', '--model', model_folder, '--seed', 1)
    assert (shown, rc, err) == (lm.generate('the movie', seed=1)[0] + '\n\n', 0, '')
    shown, rc, err, _ = in_a_terminal('generate', 'the movie', '--model', model_folder, '--seed', 1, '--n', 3)
    assert (shown, rc, err) == (''.join(f'{o}\n\n' for o in lm.generate('the movie', seed=1, n=3)), 0, '')


def test_a_vocabulary_that_commands_terminals(typed, model_folder, tmp_path):
    "It is seen as text, and passed on as it is"
    folder = shutil.copytree(model_folder, tmp_path/'hostile')
    words = json.loads((folder/'vocab.json').read_text())
    (folder/'vocab.json').write_text(json.dumps([f'\x1b[2J{o}\x9b' if o.isalpha() and not o.startswith('xx') else o for o in words]))
    how = ['--model', folder, '--seed', 1, '--n-words', 60, '--no-stop']
    for n in 1, 2:
        shown = in_a_terminal('generate', '', *how, '--n', n)[0]
        assert '[2J' in shown and not {'\x1b', '\x9b'} & set(shown)
    assert '\x1b[2J' in typed('generate', '', *how)[1]


@pytest.fixture
def terminal(monkeypatch):
    "stdout and stderr as if they were terminals"
    class Terminal(io.StringIO):
        encoding = 'utf-8'
        def isatty(self): return True
    def terminal(name):
        monkeypatch.setattr(sys, name, Terminal())
        return getattr(sys, name)
    return terminal


def test_openings_that_command_terminals(terminal, lm, monkeypatch):
    monkeypatch.setattr('imdb_lm.blind.openings', lambda *args, **kwargs: [Opening('A \x1b[2Jfilm', True)])
    monkeypatch.setattr(sys, 'stdin', io.StringIO('r\n'))
    out = terminal('stdout')
    cli._blind(lm, [], 1)
    assert 'A [2Jfilm' in out.getvalue() and '1 of 1 right' in out.getvalue() and '\x1b' not in out.getvalue()


def test_errors_that_command_terminals(terminal, typed):
    err = terminal('stderr')
    cli._complain('it holds a \x1b]0;owned\x07\x9b2J, no model')
    assert 'it holds a ]0;owned2J, no model' in err.getvalue() and not {'\x07', '\x9b'} & set(err.getvalue()) and '\x1b]' not in err.getvalue()


@pytest.mark.parametrize('env', [{'RANK': '1'}, {'RANK': ''}, {'RANK': '1', 'WORLD_SIZE': ''}, {'RANK': 'first', 'WORLD_SIZE': '1'}])
def test_one_process_speaks_whatever_it_is_called(typed, model_folder, monkeypatch, env):
    for k,v in env.items(): monkeypatch.setenv(k, v)
    rc, out, err = typed('generate', 'the movie', '--model', model_folder, '--n-words', 5)
    assert rc == 0 and out.startswith('the movie')


@pytest.mark.parametrize('n', ['two', '-1', '1.5'])
def test_a_number_of_processes_that_cannot_be(typed, monkeypatch, n):
    monkeypatch.setenv('WORLD_SIZE', n)
    one_line(typed('generate'), f"WORLD_SIZE='{n}' is no number of processes: unset it")


@pytest.mark.parametrize('read', [cli._prompts, cli._texts])
def test_a_pipe_that_is_not_utf_8(monkeypatch, read):
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'caf\xff\n'), encoding='utf-8', errors='strict'))
    with pytest.raises(ValueError, match='what comes through the pipe is not UTF-8: convert it'): read([])
    monkeypatch.setattr(sys, 'stdin', io.StringIO('A film.\u2028It is \x85 good.\nAnother.'))
    assert read([]) == ['A film.\u2028It is \x85 good.', 'Another.'] # only what ends a line ends a text


@pytest.mark.parametrize('checkpoint', ['m', 'm/checkpoints', 'm/a/b', 'link/c'])
def test_checkpoints_within_the_model(typed, corpus, tmp_path, checkpoint):
    "The model could not be written where they are"
    (tmp_path/'link').symlink_to('m')
    one_line(typed('train', '--data', corpus, '--out', 'm', '--checkpoint', checkpoint, *SMALL), 'is in the model folder m, which is written whole at the end: name a folder for checkpoints beside it')
    assert [o.name for o in tmp_path.iterdir()] == ['link']


def test_ctrl_c_keeps_what_was_shown(model_folder, lm):
    shown, rc, err, pieces = in_a_terminal('generate', 'the movie', '--model', model_folder, '--seed', 1, '--n-words', 10**9, '--no-stop', stop_after=500)
    assert (rc, err) == (130, 'imdb_lm: stopped\n') and pieces > 2
    assert lm.generate('the movie', seed=1, n_words=len(shown), stop=False)[0].startswith(shown.rstrip('\n')) and shown.endswith('\n\n')


def test_a_file_of_reviews(typed, model_folder, lm):
    call = ['generate', 'the movie', '--model', model_folder, '--seed', 1, '--out', 'r.jsonl', '--n']
    rc, out, err = typed(*call, 3)
    assert (rc, out) == (0, '') and re.fullmatch(r'3 of 3 reviews, [\d,.]+ reviews/s, [\d,]+ words/s, 0 s left\n', err)
    one_line(typed(*call, 3), 'r.jsonl is there already: continue it with resume=True')
    rc, out, err = typed(*call, 9, '--resume')
    assert rc == 0 and [json.loads(o)['text'] for o in open('r.jsonl')] == lm.generate('the movie', n=9, seed=1)
    one_line(typed(*call, 9, '--resume', '--top-k', 3), 'top_k=None, this run top_k=3')
    one_line(typed(*call[:4], '--resume'), '--resume needs --out')
    one_line(typed('generate', '--model', 'nowhere', '--out', 'no/r.jsonl'), 'make the folder')


def test_ctrl_c_while_writing_a_file(model_folder, tmp_path):
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with start('generate', 'the', '--model', model_folder, '--n', 10**6, '--no-stop', '--out', 'r.jsonl', cwd=tmp_path, preexec_fn=heard) as p:
        while not (tmp_path/'r.jsonl').exists() or not (tmp_path/'r.jsonl').stat().st_size: time.sleep(.05)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate()
    assert p.returncode == 130 and out == '' and 'imdb_lm: stopped: what is written is in r.jsonl, and the same command with --resume continues it\n' in err
    assert 'Traceback' not in err and (tmp_path/'r.jsonl').read_bytes().endswith(b'\n')


def test_ctrl_c_while_training(typed, corpus, monkeypatch):
    def stopped(*args, **kwargs): raise KeyboardInterrupt
    monkeypatch.setattr('imdb_lm.learner.LMLearner.fit_one_cycle', stopped)
    rc, out, err = typed('train', '--data', corpus, *SMALL)
    assert rc == 130 and err.splitlines()[-1] == 'imdb_lm: stopped: nothing was kept; with --checkpoint FOLDER the same command could resume' and 'Traceback' not in err
    assert not Path('model').exists()
    rc, out, err = typed('train', '--data', corpus, '--checkpoint', 'run', *SMALL)
    assert rc == 130 and err.splitlines()[-1] == 'imdb_lm: stopped: what is done is in run, and the same command resumes it'


# ---- evaluate, convert

def test_what_goes_through_a_pipe_is_utf_8(model_folder):
    "On Windows, say, where other things go to a terminal"
    got = subprocess.run([COMMAND, 'generate', 'Café 😀', '--model', model_folder, '--n-words', '1'], capture_output=True, env={**os.environ, 'PYTHONIOENCODING': 'cp1252'})
    assert (got.returncode, got.stderr) == (0, b'') and got.stdout.decode().startswith('Café 😀')


def test_evaluate(typed, trained, corpus):
    model = trained[1]/'my'/'model'
    rc, out, err = typed('evaluate', model, '--data', corpus)
    assert rc == 0
    for line in (r'reviews +3  [\d,]+ tokens of .+', r'perplexity +[\d.]+  each review', r' +[\d.]+  as fastai computes it', r'bits per byte +[\d.]+ ', r'accuracy +[\d.]+%',
                 r'unknown +[\d.]+%'): assert re.search(f'(?m)^{line}', out), (line, out)
    rc, out, err = typed('evaluate', model, '--data', corpus, '--json')
    report = json.loads(out)
    assert err == ''
    shutil.copytree(corpus, 'others')
    rc, out, err = typed('evaluate', model, '--data', 'others')
    assert rc == 0 and re.fullmatch(f'imdb_lm: this model was trained on {corpus.name}, and is evaluated on others; choose other texts with --data\n', err)
    held_out = loader.held_out_texts(corpus)
    assert report['reviews'] == 3 and report['perplexity'] == pytest.approx(load_lm(model).perplexity(held_out))
    assert json.loads(typed('evaluate', model, '--data', corpus, '--valid-pct', 1, '--json')[1])['reviews'] == 30


def test_no_progress_bar_among_the_figures(typed, model_folder, monkeypatch):
    monkeypatch.setattr(loader, 'held_out_texts', lambda *args: print('|---| 0.00%') or ['the movie'])
    rc, out, err = typed('evaluate', model_folder, '--data', '.', '--json')
    assert json.loads(out)['tokens'] == 2 and err == ''
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    rc, out, err = typed('evaluate', model_folder, '--data', '.', '--json')
    assert json.loads(out)['tokens'] == 2 and '0.00%' in err


def test_report(typed, model_folder, corpus, monkeypatch):
    import imdb_lm.report
    monkeypatch.setattr(imdb_lm.report.report, '__defaults__', (3, 6, (), 42))
    monkeypatch.setattr(imdb_lm.report, 'TEMPERATURES', (.5, 1.))
    figures = json.loads(typed('evaluate', model_folder, '--data', corpus, '--json')[1])
    rc, out, err = typed('evaluate', model_folder, '--data', corpus, '--report', 'r', '--seed', 42, '--json')
    assert rc == 0 and json.loads(out) == figures and err == ''
    page, res = Path('r/report.md').read_text(), json.loads(Path('r/report.json').read_text())
    assert f'imdb_lm evaluate {model_folder} --data {corpus} --report r --seed 42 --json' in page
    assert res['figures'] == figures and res['settings']['n'] == 3 and [o['temperature'] for o in res['written']] == [.5, 1] and Path('r/report.png').exists()
    rc, out, err = typed('evaluate', model_folder, '--data', corpus, '--report', 'r')
    assert rc == 0 and 'perplexity' in out and out.splitlines()[-1] == 'The report is in r/report.md.'


def test_report_that_cannot_be(typed, model_folder, corpus):
    Path('file').write_text('mine')
    one_line(typed('evaluate', model_folder, '--data', corpus, '--report', 'file'), 'file is a file: name a folder for the report')
    one_line(typed('evaluate', model_folder, '--data', corpus, '--report', 'r', '--valid-pct', 1), 'valid_pct=1.0 cannot be.*leaves no training text')
    one_line(typed('evaluate', model_folder, '--data', 'nowhere', '--report', 'r'), 'nowhere is not there')
    one_line(typed('evaluate', model_folder, '--data', corpus, '--report', 'r', '--blind'), 'leave --report and --json out')
    assert Path('file').read_text() == 'mine'


BLIND = ['the movie was great and bad and great and bad ' * 9]*40

@pytest.mark.parametrize('answers, n', [('', 0), ('r\n', 1), ('maybe\nr\ng\n', 2), ('real\ngenerated\n'*20, 20)])
def test_blind(typed, model_folder, monkeypatch, answers, n):
    monkeypatch.setattr(loader, 'held_out_texts', lambda *args: BLIND)
    rc, out, err = typed('evaluate', model_folder, '--data', '.', '--blind', stdin=answers)
    assert (rc, err) == (0, '')
    assert out.count('real or generated?') >= n and ('20 of 20' in out) == (n >= 19)
    assert re.search(rf'\d+ of {n} right; guessing does at least as well with a probability of [\d.]+%' if n else 'No guess was made', out)


def test_blind_is_left_by_ctrl_c(typed, model_folder, monkeypatch):
    class Hands(io.StringIO):
        def readline(self, *args):
            if line := super().readline(*args): return line
            raise KeyboardInterrupt
    monkeypatch.setattr(loader, 'held_out_texts', lambda *args: BLIND)
    rc, out, err = typed('evaluate', model_folder, '--data', '.', '--blind', stdin=Hands('r\ng\n'))
    assert (rc, err) == (0, '') and ' of 2 right' in out


def test_blind_needs_long_reviews(typed, model_folder, corpus):
    one_line(typed('evaluate', model_folder, '--data', corpus, '--blind'), 'only 0 of 3 held-out reviews')


def test_evaluate_a_model_that_is_none(typed, model_folder, words, corpus, monkeypatch):
    Path('export.pkl').write_bytes(pickle.dumps(words))
    for args in ['evaluate', 'export.pkl', '--data', corpus], ['generate', 'the', '--model', 'export.pkl']:
        one_line(typed(*args), 'no model folder at export.pkl')
    shutil.copytree(model_folder, 'short')
    Path('short/vocab.json').write_text(json.dumps(words[:-1]))
    one_line(typed('evaluate', 'short', '--data', corpus), r'does not fit its config.json and vocab.json .63 words.')
    import safetensors.torch
    shutil.copytree(model_folder, 'nan')
    weights = safetensors.torch.load_file('nan/model.safetensors')
    weights['0.encoder.weight'][7] = float('nan')
    safetensors.torch.save_file(weights, 'nan/model.safetensors')
    one_line(typed('evaluate', 'nan', '--data', corpus), 'no finite numbers.*train it again')
    one_line(typed('evaluate', 'nan', '--data', corpus, '--report', 'r'), 'no finite numbers')


def test_reviews_that_do_not_copy(typed, model_folder, lm):
    from imdb_lm.cache import Corpus
    from imdb_lm.memorization import CopyIndex
    from imdb_lm.tokens import tokenize
    args = ['generate', 'the movie', '', '--model', model_folder, '--n', 4, '--n-words', 20, '--seed', 5]
    plain = typed(*args)[1]
    Path('texts').mkdir()
    for i,o in enumerate(lm.generate(['the movie', ''], n=2, n_words=20, seed=5)): Path(f'texts/{i}.txt').write_text('\n'.join(o), encoding='utf-8')
    rc, out, err = typed(*args, '--max-copy', 3, '--against', 'texts', '--json')
    found = [json.loads(o) for o in out.splitlines()]
    index = CopyIndex(Corpus.of(tokenize([o.read_text(encoding='utf-8') for o in Path('texts').iterdir()])))
    assert (rc, err, len(found)) == (0, '', 8) and [o['prompt'] for o in found] == ['the movie']*4 + ['']*4
    assert max(o.length for o in index.longest_copies([o['text'].removeprefix(o['prompt']) for o in found])) <= 3
    assert typed(*args, '--max-copy', 3, '--against', 'texts', '--json')[1] == out
    assert typed(*args, '--max-copy', 99, '--against', 'texts')[1] == plain


def test_copies_that_cannot_be_avoided(typed, model_folder, tmp_path, monkeypatch):
    Path('texts').mkdir()
    Path('texts/0.txt').write_text(' '.join(load_lm(model_folder).vocab))
    args = ['generate', '--model', model_folder, '--n', 2, '--against', 'texts', '--max-copy']
    rc, out, err = typed(*args, 0)
    assert rc == 1 and re.fullmatch('imdb_lm: . of 2 reviews are missing: .* more than 0 words.*\n', err)
    one_line(typed(*args, -1), 'max_copy=-1 cannot be')
    with monkeypatch.context() as m: # before the texts are read
        m.setattr('imdb_lm.memorization.corpus_index', None)
        for bad in ('--max-copy', -1), ('--max-copy', 5, '--top-p', 7), ('--max-copy', 5, '--n', 0): one_line(typed('generate', '--model', model_folder, '--against', 'texts', *bad), 'cannot be')
    one_line(typed(*args, 5, '--out', 'r.jsonl'), 'omit --out')
    one_line(typed(*args[:-1]), '--against needs --max-copy')
    one_line(typed('generate', '--model', model_folder, '--max-copy', 5, '--against', 'nowhere'), 'nowhere is not there')
    assert not Path('r.jsonl').exists()


def pair(words, weights, n=None):
    torch.save({'model': {**weights, '1.decoder.weight': weights.get('0.encoder.weight')}, 'opt': None}, 'lm.pth')
    Path('lm.pkl').write_bytes(pickle.dumps(words[:n]))
    return 'lm.pth', 'lm.pkl'


def test_convert(typed, words, weights, lm):
    rc, out, err = typed('convert', *pair(words, weights), '--out', 'm')
    assert (rc, err) == (0, '') and out == 'The model is in m.\n'
    torch.testing.assert_close(load_lm('m').next_word('the movie'), lm.next_word('the movie'))
    one_line(typed('convert', 'lm.pth', 'lm.pkl', '--out', 'lm.pth'), 'lm.pth is a file')


def test_pairs_that_are_none(typed, words, weights, tmp_path):
    class Evil:
        def __reduce__(self): return Path.touch, (tmp_path/'ran',)
    def refused(pth, pkl, match): one_line(typed('convert', pth, pkl), match)
    refused('a.pth', 'b.pkl', 'a.pth is not there')
    refused(*pair(words, weights, -1), 'lm.pth .* 64 .*lm.pkl .*63|63.* 64')
    refused(*pair(words, {'0.encoder.weight': torch.zeros(64,3)}), '')
    refused(pair(words, {})[0], 'lm.pth', 'lm.pth')
    refused('lm.pkl', 'lm.pkl', 'lm.pkl')
    Path('lm.pkl').write_bytes(pickle.dumps(Evil()))
    refused('lm.pth', 'lm.pkl', 'lm.pkl')
    torch.save(Evil(), 'lm.pth')
    Path('lm.pkl').write_bytes(pickle.dumps(words))
    refused('lm.pth', 'lm.pkl', 'lm.pth')
    assert not Path('ran').exists() and not Path('model').exists()
