"The project as a whole: notebooks and package agree, imports go one way, metadata is complete"
import ast, configparser, json, os, re, shutil, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
MODULES = ['data', 'mini', 'tokens', 'cache', 'labels', 'processes', 'loader', 'distributed', 'network', 'model', 'classifier', 'card', 'hub', 'text', 'generate', 'reviews', 'engine', 'learner', 'checkpoint', 'memory', 'training', 'classify', 'evaluate', 'memorization', 'picture', 'report', 'blind', 'cli', 'app', 'book']
WITHOUT_FASTAI = ['tokens', 'labels', 'processes', 'network', 'model', 'classifier', 'card', 'hub', 'text', 'generate', 'reviews', 'evaluate', 'memorization', 'picture', 'report', 'blind', 'cli', 'app']

needs_nbdev = pytest.mark.skipif(not (BIN/'nbdev_export').exists(), reason='nbdev is not installed here')


def ini():
    parser = configparser.ConfigParser(delimiters=['='], interpolation=None)
    parser.read(ROOT/'settings.ini', encoding='utf-8')
    return parser['DEFAULT']


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "The project's sources, in a repository of their own, exported and cleaned there"
    to = tmp_path_factory.mktemp('copy')
    for name in ('nbs', 'imdb_lm'): shutil.copytree(ROOT/name, to/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'README.md'): shutil.copy(ROOT/name, to)
    for f in (to/'imdb_lm').glob('*.py'):
        if f.name not in ('__init__.py', 'all.py'): f.unlink()
    subprocess.run(['git', 'init', '-q', '.'], cwd=to, check=True)
    for command in ('nbdev_export', 'nbdev_clean'): subprocess.run([BIN/command], cwd=to, check=True, capture_output=True)
    return to


@needs_nbdev
def test_package_is_what_the_notebooks_export(copy):
    mine, exported = ({f.name: f.read_text() for f in (d/'imdb_lm').glob('*.py')} for d in (ROOT, copy))
    assert mine.keys() == exported.keys()
    assert [name for name in mine if mine[name] != exported[name]] == []


@needs_nbdev
@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_clean(nb, copy):
    assert nb.read_text() == (copy/nb.relative_to(ROOT)).read_text()


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_stored_outputs(nb):
    "No error, no path of a machine, no widget is stored"
    outputs = [o for c in json.loads(nb.read_text())['cells'] for o in c.get('outputs', [])]
    assert [o for o in outputs if o['output_type'] == 'error'] == []
    assert re.findall(r'/(?:home|root|tmp|Users|work)/\S*', json.dumps(outputs)) == []
    assert 'application/vnd.jupyter.widget-view+json' not in json.dumps(outputs)


def test_a_wheel_writes_reviews(tmp_path):
    "All that a review needs is in the wheel, the model too"
    pytest.importorskip('setuptools')
    src = tmp_path/'src'
    shutil.copytree(ROOT/'imdb_lm', src/'imdb_lm', ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'): shutil.copy(ROOT/name, src)
    subprocess.run([sys.executable, '-c', f'from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})'], cwd=src, check=True, capture_output=True)
    wheel, = tmp_path.glob('*.whl')
    assert wheel.stat().st_size < 12e6
    shutil.unpack_archive(wheel, tmp_path/'installed', 'zip')
    got = subprocess.run([sys.executable, '-c', 'from imdb_lm.cli import main; main()', 'generate', 'I like this movie because'], cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(tmp_path/'installed'), 'HTTPS_PROXY': 'http://127.0.0.1:9'}, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert got.returncode == 0 and got.stdout.startswith('I like this movie because ')


@needs_nbdev
def test_readme_is_the_index(tmp_path):
    subprocess.run([BIN/'jupyter', 'nbconvert', '--log-level', 'WARN', '--to', 'markdown', '--output-dir', tmp_path, '--output', 'README',
                    ROOT/'nbs'/'index.ipynb'], check=True)
    assert (tmp_path/'README.md').read_text() == (ROOT/'README.md').read_text()


def test_walkthrough_is_stored_with_its_outputs():
    cells = json.loads((ROOT/'nbs'/'tutorials'/'ai_generated_movie_reviews.ipynb').read_text())['cells']
    text = json.dumps([c['outputs'] for c in cells if c['cell_type'] == 'code'])
    for sign in ('perplexity', 'xxbos', 'This movie is terrible', 'image/png'): assert sign in text


def imports(module):
    "The modules that `imdb_lm.module` imports at its top"
    for node in ast.parse((ROOT/'imdb_lm'/f'{module}.py').read_text()).body:
        if isinstance(node, ast.Import): yield from (a.name for a in node.names)
        if isinstance(node, ast.ImportFrom): yield f"{'imdb_lm.'*node.level}{node.module or ''}"


@pytest.mark.parametrize('module', MODULES)
def test_imports_go_one_way(module):
    "In the order in which the data walks; and whoever does without fastai imports nobody who needs it"
    mine = [m.split('.')[1] for m in imports(module) if m.startswith('imdb_lm.') and m != 'imdb_lm.']
    assert mine or module in ('data', 'mini', 'tokens', 'processes', 'network', 'engine', 'cli', 'book')
    assert all(MODULES.index(m) < MODULES.index(module) for m in mine)
    if module in WITHOUT_FASTAI:
        assert set(mine) <= set(WITHOUT_FASTAI)
        assert not any(m.split('.')[0] in ('fastai', 'pandas', 'spacy') for m in imports(module))


def test_every_module_is_in_the_order():
    assert sorted(MODULES) == sorted(f.stem for f in (ROOT/'imdb_lm').glob('*.py') if not f.stem.startswith('_') and f.stem != 'all')


def test_each_module_imports_alone():
    "None needs another to have been imported before it"
    code = f'''
import importlib, sys
for module in {MODULES}:
    for m in [m for m in sys.modules if m.split(".")[0] == "imdb_lm"]: del sys.modules[m]
    importlib.import_module(f"imdb_lm.{{module}}")
'''
    subprocess.run([sys.executable, '-W', 'error::SyntaxWarning', '-c', code], check=True)


def test_undefined_names():
    if not (BIN/'ruff').exists(): pytest.skip('ruff is not installed here')
    done = subprocess.run([BIN/'ruff', 'check', '--no-cache', 'imdb_lm', 'tests', 'benchmarks', 'setup.py'],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('script', sorted((ROOT/'benchmarks').glob('*.py')), ids=lambda p: p.stem)
def test_benchmark_tells_what_it_does(script):
    done = subprocess.run([sys.executable, script, '--help'], capture_output=True, text=True)
    assert done.returncode == 0
    assert f'benchmarks/results/{script.stem}.md' in done.stdout or script.stem == 'screenshots' and 'nbs/images' in done.stdout


def test_what_is_attached_to_fastai():
    "Only these names, and plain fastai has none of them"
    code = '''
from fastai.text.all import LMLearner
before = set(dir(LMLearner))
import imdb_lm.all
print(sorted(set(dir(LMLearner)) - before), sorted({"fit_gradual", "fit_two_stage", "generate", "plot_two_stage", "stream"} & before))
'''
    done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['fit_gradual', 'fit_two_stage', 'generate', 'plot_two_stage', 'stream'] []"


def test_public_names():
    code = '''
from imdb_lm.all import *
names = """untar_imdb mini_reviews lm_dblock lm_dls tokenize lm_learner save_lm load_lm detokenize evaluate_lm LanguageModel AWD_LSTM untar_data URLs
           DataBlock TextBlock language_model_learner Perplexity""".split()
print([n for n in names if n not in globals()])
'''
    assert subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout.strip() == '[]'


def test_versions_agree():
    import imdb_lm
    assert imdb_lm.__version__ == ini()['version']
    assert f"\n## {ini()['version']}\n" in (ROOT/'CHANGELOG.md').read_text()


def test_nothing_is_left_from_a_template():
    text = (ROOT/'settings.ini').read_text()
    assert not re.search(r'your|placeholder|TODO|github_username|some tags|%\(', text, re.I)
    assert all(v.strip() for v in ini().values())


def test_constraints_satisfy_settings():
    packaging = pytest.importorskip('packaging.requirements')
    pins = dict(line.split('==') for line in (ROOT/'constraints.txt').read_text().splitlines() if '==' in line)
    for r in map(packaging.Requirement, (ini()['requirements'] + ' ' + ini()['dev_requirements']).split()):
        if r.name in pins: assert pins[r.name] in r.specifier, r


def test_ci_calls_the_readmes_test_command():
    assert 'make test' in (ROOT/'.ci'/'run').read_text()
    assert 'make demo' in (ROOT/'README.md').read_text() and 'make test' in (ROOT/'README.md').read_text()
