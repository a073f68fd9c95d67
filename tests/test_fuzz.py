"""Odd, broken and random input for each parser and decoder: it is read, or refused in a sentence, and it never breaks out.

A few hundred cases of each here, the same ones every time; `make fuzz` makes a million new ones, led by coverage (see fuzz.py).
"""
import io, json, os, shutil, struct, sys, tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from imdb_lm import cli, loader
from imdb_lm.cache import cached_tokens
from imdb_lm.card import read_report
from imdb_lm.checkpoint import FORMAT, read_checkpoint, write_checkpoint
from imdb_lm.data import read_reviews, review_files, untar_safely
from imdb_lm.labels import as_label
from imdb_lm.model import AWDLSTM, FILES, fastai_name, load_lm, write_model
from imdb_lm.reviews import write_reviews
from imdb_lm.text import ReviewText, detokenize
from imdb_lm.tokens import SPECIAL_TOKENS, tokenize

fuzz = settings(max_examples=int(os.environ.get('FUZZ_CASES', 200)), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)

WORDS = [*SPECIAL_TOKENS, *"the a movie is not good bad i do n't 's . , ! ( ) \" ' 3 $".split(), '\n\n', '<br />', 'A', 'HA', 'é', '😀', '\x00', '\u2028', '999999999']
odd_text = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=5)), max_size=30).map(' '.join) | st.text(max_size=200)
odd_json = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda o: st.lists(o, max_size=3) | st.dictionaries(st.text(max_size=5), o, max_size=3), max_leaves=6)
odd_number = st.none() | st.booleans() | st.integers(-3, 4) | st.floats() | st.sampled_from([10**400, '', 'x', 1e-320])


@contextmanager
def a_folder():
    with tempfile.TemporaryDirectory() as d: yield Path(d)


@lru_cache
def model():
    "A small model folder and what it loads as"
    words = [*dict.fromkeys([*SPECIAL_TOKENS, *WORDS])]
    config = dict(emb_sz=4, n_hid=6, n_layers=2, pad_token=1, tie_weights=True, out_bias=True, label=dict(name='stars', values=['1', '10']))
    torch.manual_seed(1)
    weights = {fastai_name(n): p.detach() for n,p in AWDLSTM(len(words), **{k: v for k,v in config.items() if k != 'label'}).named_parameters()}
    folder = write_model(Path(tempfile.mkdtemp())/'model', weights, words, config)
    return folder, load_lm(folder, 'fp32')


def refused(f, *args, kinds=(ValueError, OSError), **kwargs):
    "What `f` gives; None where it refuses in one sentence"
    try: return f(*args, **kwargs)
    except kinds as e: assert str(e).strip(), repr(e)


@st.composite
def damaged(draw, whole):
    "`whole` with some bytes changed, put in, cut out, or cut off"
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        i = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(['change', 'put in', 'cut out', 'cut off']))
        if how == 'change' and i < len(data): data[i] = draw(st.integers(0, 255))
        if how == 'put in': data[i:i] = draw(st.binary(max_size=8))
        if how == 'cut out': del data[i:i + draw(st.integers(1, 50))]
        if how == 'cut off': del data[i:]
    return bytes(data)


# ---- texts and tokens

@fuzz
@given(odd_text)
def test_tokenizer(text):
    tokens, = tokenize([text])
    assert tokens[:1] == (['xxbos'] if tokens else []) and all(isinstance(o, str) for o in tokens)
    assert sum(map(len, tokens)) <= 3*len(text) + 60


@fuzz
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=5)), max_size=30), st.integers(0, 30))
def test_detokenizer(tokens, cut):
    text = ReviewText('', tokens[:cut])
    pieces = ''.join(map(text.push, tokens[cut:])) + text.finish()
    assert isinstance(pieces, str) and len(detokenize(tokens)) <= 100*(sum(map(len, tokens)) + len(tokens) + 1)


@fuzz
@given(odd_json)
def test_labels(value):
    label = as_label(value)
    assert label is None or isinstance(label, str) and label.strip()


# ---- tables and files

TABLES = {'.csv': 'text,label\n"a ""good"" movie",1\nbad,2\n', '.tsv': 'text\tlabel\na movie\t1\nbad\t2\n', '.jsonl': '{"text": "a movie", "label": 1}\n{"text": "bad", "label": 2}\n'}

@fuzz
@given(st.data())
def test_tables(data):
    ext = data.draw(st.sampled_from(list(TABLES)))
    content = data.draw(st.one_of(damaged(TABLES[ext].encode()), st.binary(max_size=200), odd_text.map(lambda o: o.encode('utf-8', 'surrogatepass'))))
    with a_folder() as d:
        (d/f'table{ext}').write_bytes(content)
        table = refused(loader.as_source, d/f'table{ext}')
        texts = table is not None and refused(loader.table_texts, table, 'text')
        if texts: assert all(isinstance(o, str) for o in texts)
        if table is not None: refused(loader.corpus_labels, table, 'label')


@fuzz
@given(st.binary(max_size=200), st.sampled_from(['strict', 'replace', 'ignore']))
def test_text_files(content, errors):
    with a_folder() as d:
        (d/'a.txt').write_bytes(content)
        refused(read_reviews, review_files(d), errors)


@lru_cache
def archive():
    import tarfile
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as tar:
        for name in ('set/a.txt', 'set/b.txt'):
            member = tarfile.TarInfo(name)
            member.size = 5
            tar.addfile(member, io.BytesIO(b'movie'))
    return file.getvalue()

@fuzz
@given(st.data())
def test_archives(data):
    "Whatever is in it, nothing is written outside, and what is refused leaves nothing"
    import gzip
    inner = data.draw(damaged(archive()))
    content = data.draw(st.sampled_from([gzip.compress(inner, mtime=0), inner])) if data.draw(st.booleans()) else data.draw(damaged(gzip.compress(archive(), mtime=0)))
    with a_folder() as d:
        home = d/'home'
        (home/'archive').mkdir(parents=True)
        (home/'archive'/'set.tgz').write_bytes(content)
        with patch.dict(os.environ, FASTAI_HOME=str(home)), patch('imdb_lm.data._fetch'), redirect_stdout(io.StringIO()):
            loader.fastai_cfg.cache_clear()
            got = refused(untar_safely, 'http://127.0.0.1/set.tgz')
        loader.fastai_cfg.cache_clear()
        assert list(d.iterdir()) == [home]
        if got is None: assert not [o for o in home.rglob('*.txt')]


# ---- model folders, checkpoints, caches, files that are gone on with

@fuzz
@given(st.data())
def test_model_folders(data):
    name = data.draw(st.sampled_from(FILES))
    whole = (model()[0]/name).read_bytes()
    if name == 'config.json' and data.draw(st.booleans()):
        content = json.dumps(json.loads(whole) | {data.draw(st.sampled_from(list(json.loads(whole)))): data.draw(odd_json)}).encode()
    elif name == 'model.safetensors' and data.draw(st.booleans()): # a header that is JSON, and wrong
        size, = struct.unpack('<Q', whole[:8])
        header = data.draw(damaged(whole[8:8+size]))
        content = struct.pack('<Q', len(header)) + header + whole[8+size:]
    else: content = data.draw(st.one_of(damaged(whole), st.binary(max_size=100), odd_json.map(lambda o: json.dumps(o).encode())))
    with a_folder() as d:
        shutil.copytree(model()[0], d/'model')
        (d/'model'/name).write_bytes(content)
        lm = refused(load_lm, d/'model', 'fp32')
        if lm: refused(lm.generate, 'the', n_words=2, seed=1)


@lru_cache
def checkpoint():
    folder = Path(tempfile.mkdtemp())
    return write_checkpoint(folder, dict(a=torch.arange(6.), b=torch.ones(2, 3)), dict(step=3, run=dict(bs=4)))

@fuzz
@given(st.data())
def test_checkpoints(data):
    name = data.draw(st.sampled_from(['about.json', 'tensors.safetensors']))
    content = data.draw(st.one_of(damaged((checkpoint()/name).read_bytes()), odd_json.map(lambda o: json.dumps(o).encode())))
    with a_folder() as d:
        shutil.copytree(checkpoint(), d/'c')
        (d/'c'/name).write_bytes(content)
        got = refused(read_checkpoint, d/'c')
        if got: assert got[1]['format'] == FORMAT


@fuzz
@given(st.data())
def test_token_caches(data):
    "A damaged cache is noticed, but for a number changed within a file that is whole otherwise"
    texts = ['A good movie.', 'Not so good!']
    with a_folder() as d:
        cached_tokens(texts, d)
        folder, = d.iterdir()
        file = data.draw(st.sampled_from(sorted(folder.iterdir())))
        file.write_bytes(data.draw(damaged(file.read_bytes())))
        got = cached_tokens(texts, d)
        assert len(got) == 2
        assert len(got.ids) == got.counts.sum() == got.ends[-1] and len(got.words) == len(got.counts)


@fuzz
@given(st.data())
def test_files_of_reviews(data):
    "Gone on with, or left as it is"
    lm = model()[1]
    with a_folder() as d:
        write_reviews(lm, d/'r.jsonl', ['the'], 'm', n=2, n_words=3, seed=1)
        content = data.draw(damaged((d/'r.jsonl').read_bytes()))
        (d/'r.jsonl').write_bytes(content)
        if refused(write_reviews, lm, d/'r.jsonl', ['the'], 'm', n=2, n_words=3, seed=1, resume=True): assert len((d/'r.jsonl').read_bytes().splitlines()) == 2


@fuzz
@given(st.one_of(damaged(b'{"command": "imdb_lm evaluate m", "figures": {"reviews": 3}}'), odd_json.map(lambda o: json.dumps(o).encode())))
def test_reports(content):
    with a_folder() as d:
        (d/'report.json').write_bytes(content)
        refused(read_report, d)


# ---- prompts and settings

counts = odd_number.filter(lambda o: not isinstance(o, int) or o < 10) # as many as are asked for are written: 10**400 are not to be
controls = st.fixed_dictionaries({}, optional={k: odd_number for k in ('temperature', 'top_k', 'top_p', 'min_p', 'repetition_penalty', 'seed', 'stars', 'guidance_scale')}
                                              | {k: counts for k in ('n_words', 'n', 'min_words')})

@fuzz
@given(odd_text, controls)
def test_prompts_and_settings(prompt, given):
    given = {'n_words': 2, **given}
    got = refused(model()[1].generate, prompt, kinds=(ValueError, TypeError), **given)
    if got is not None: assert all(isinstance(o, str) for o in got)


def number_typed(o):
    "Not so large that the answer would take all day"
    try: return abs(int(o)) < 5
    except ValueError: return True

OPTIONS = ['--temperature', '--top-k', '--top-p', '--min-p', '--repetition-penalty', '--stars', '--sentiment', '--label', '--banned', '--seed', '--nonsense', '--json', '--raw', '--no-stop']
COUNTS = ['--n', '--n-words', '--min-words']
typed = st.sampled_from(['1', '0', '-1', 'nan', '1e400', '', 'pos', '7', ' ', '"', '--']) | st.text(max_size=6)

@fuzz
@given(odd_text, st.lists(st.tuples(st.sampled_from(OPTIONS), typed) | st.tuples(st.sampled_from(COUNTS), typed.filter(number_typed)), max_size=3))
def test_command_line(prompt, options):
    args = ['imdb_lm', 'generate', '--model', str(model()[0]), '--n-words', '2', *[o for pair in options for o in pair], '--', prompt]
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, 'argv', args), redirect_stdout(out), redirect_stderr(err):
        with pytest.raises(SystemExit) as e: cli.main()
    assert e.value.code in (0, 1, 2) and 'Traceback' not in err.getvalue()
    if e.value.code: assert err.getvalue().startswith('imdb_lm: ') and not out.getvalue()


@fuzz
@given(odd_text | st.none(), counts, controls)
def test_page(prompt, n, given):
    given.pop('n', None)
    app = pytest.importorskip('imdb_lm.app', reason='the page needs Gradio')
    def read(): return list(app.write(model()[0], prompt, n, **{'n_words': 2, **given}))
    with patch.object(app, 'get_lm', lambda folder: model()[1]): got = refused(read, kinds=(ValueError, TypeError))
    if got: assert '<script' not in app.show_reviews(got[-1][0]) and got[-1][1]


# ---- what was found, each once more

@pytest.mark.parametrize('about', ['null', '[]', '['*100_000])
def test_found_in_a_checkpoint(tmp_path, about):
    shutil.copytree(checkpoint(), tmp_path/'c')
    (tmp_path/'c'/'about.json').write_text(about)
    with pytest.raises(ValueError, match='is damaged'): read_checkpoint(tmp_path/'c')


@pytest.mark.parametrize('old, new', [(b',), }', b',\x00, }'), (b"'descr'", b"'descr"), (b'(9', b'(\xff')])
def test_found_in_a_token_cache(tmp_path, old, new):
    texts = ['A good movie.', 'Not so good!']
    words = cached_tokens(texts, tmp_path).words
    file = next(tmp_path.iterdir())/'counts.npy'
    file.write_bytes(file.read_bytes().replace(old, new))
    assert cached_tokens(texts, tmp_path).words == words


@pytest.mark.parametrize('name', ['temperature', 'min_p', 'repetition_penalty', 'n_words', 'seed', 'guidance_scale'])
def test_found_among_settings(name):
    with pytest.raises(ValueError, match=f'{name}=.* cannot be'): model()[1].generate('the', **{name: 10**400})
