"The project as a whole: notebooks and package agree, imports go one way, metadata is complete"
import ast, configparser, importlib, inspect, json, os, re, runpy, shutil, subprocess, sys, textwrap
from dataclasses import is_dataclass
from pathlib import Path

import pytest
from fastai.callback.core import event
from fastcore.docments import docments

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
MODULES = ['data', 'mini', 'checks', 'tokens', 'cache', 'labels', 'processes', 'loader', 'distributed', 'network', 'model', 'classifier', 'card', 'hub', 'text', 'generate', 'reviews', 'engine', 'pretrained', 'learner', 'checkpoint', 'memory', 'training', 'scratch', 'classify', 'evaluate', 'memorization', 'picture', 'report', 'blind', 'cli', 'app', 'book']
WITHOUT_FASTAI = ['checks', 'tokens', 'labels', 'processes', 'network', 'model', 'classifier', 'card', 'hub', 'text', 'generate', 'reviews', 'evaluate', 'memorization', 'picture', 'report', 'blind', 'cli', 'app']

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
    content = json.loads(nb.read_text())
    assert 'widgets' not in content['metadata']
    outputs = [o for c in content['cells'] for o in c.get('outputs', [])]
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
    assert mine or module in ('data', 'mini', 'checks', 'processes', 'network', 'engine', 'cli', 'book')
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


@pytest.mark.parametrize('script', sorted(o for o in (ROOT/'benchmarks').glob('*.py') if o.stem != 'machine'), ids=lambda p: p.stem)
def test_benchmark_tells_what_it_does(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [str(script), '--help'])
    monkeypatch.syspath_prepend(script.parent)
    with pytest.raises(SystemExit) as end: runpy.run_path(str(script), run_name='__main__')
    said = capsys.readouterr().out
    assert not end.value.code
    assert f'benchmarks/results/{script.stem}.md' in said or script.stem == 'screenshots' and 'nbs/images' in said


def test_what_is_attached_to_fastai():
    "Only these names, and plain fastai has none of them"
    code = '''
from fastai.text.all import LMLearner
before = set(dir(LMLearner))
import imdb_lm.all
print(sorted(set(dir(LMLearner)) - before), sorted({"fit_gradual", "fit_one_stage", "fit_two_stage", "generate", "plot_two_stage", "stream"} & before))
'''
    done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['fit_gradual', 'fit_one_stage', 'fit_two_stage', 'generate', 'plot_two_stage', 'stream'] []"


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


def test_every_promise_has_a_test_that_exists():
    "Or says that it has none"
    rows = [o.strip('|').split(' | ') for o in '\n'.join(sources(ROOT/'nbs'/'promises.ipynb', 'markdown')).splitlines() if o.startswith('| ')]
    rows = [o for o in rows if o[0].strip() not in ('what comes', 'what happens')]
    assert len(rows) > 60 and all(len(o) == 3 for o in rows)
    there = {f'tests/{f.name}::{o.name}' for f in (ROOT/'tests').glob('test_*.py') for o in ast.parse(f.read_text()).body if isinstance(o, ast.FunctionDef)}
    for *_,shown in rows:
        named = set(re.findall(r'`([^`]*)`', shown))
        assert named <= there, named - there
        assert named or shown.strip() == 'not tested yet', shown


def test_lock_names_all_that_the_demo_needs():
    "In versions that settings.ini and constraints.txt allow, each file with its hash; torch is left out, and no address is in it"
    packaging = pytest.importorskip('packaging.requirements')
    text = (ROOT/'requirements.lock').read_text()
    lines = [re.fullmatch(r'([a-z0-9.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}', o) for o in text.splitlines() if not o.startswith('#')]
    assert all(lines) and '://' not in text
    locked = dict(o.groups() for o in lines)
    assert len(locked) == len(lines) and 'torch' not in locked
    for r in map(packaging.Requirement, ini()['requirements'].split()): assert r.name == 'torch' or locked[r.name] in r.specifier, r
    pins = dict(line.split('==') for line in (ROOT/'constraints.txt').read_text().splitlines() if '==' in line)
    assert {k: locked[k] for k in pins if k in locked} == {k: v for k,v in pins.items() if k in locked}


def test_ci_calls_the_readmes_test_command():
    assert 'make test' in (ROOT/'.ci'/'run').read_text()
    assert 'make demo' in (ROOT/'README.md').read_text() and 'make test' in (ROOT/'README.md').read_text()


TUTORIALS = [nb for nb in NOTEBOOKS if nb.parent.name == 'tutorials']
WORKFLOWS = ROOT/'.github'/'workflows'


def sources(nb, kind): return [''.join(c['source']) for c in json.loads(nb.read_text())['cells'] if c['cell_type'] == kind]


def test_sidebar_is_in_reading_order():
    "Every notebook once: the index, the tutorials, the rooms as they are numbered, the promises; each under a title of its own"
    yaml = pytest.importorskip('yaml')
    entries, todo = [], yaml.safe_load((ROOT/'nbs'/'sidebar.yml').read_text())['website']['sidebar']['contents']
    while todo:
        o, *todo = todo
        if 'section' in o: todo = o['contents'] + todo
        else: entries.append(o)
    found = [o['href'] for o in entries]
    assert sorted(found) == sorted(nb.relative_to(ROOT/'nbs').as_posix() for nb in NOTEBOOKS)
    tutorials = [o for o in found if o.startswith('tutorials/')]
    assert found[:2] == ['index.ipynb', 'tutorials/ai_generated_movie_reviews.ipynb']
    assert found == ['index.ipynb', *tutorials, *sorted(o for o in found if o[0].isdigit()), 'promises.ipynb']
    assert len({o['text'] for o in entries}) == len(found)
    assert ini()['custom_sidebar'] == 'True' # else nbdev writes another one


def test_docs_are_built_and_published(tmp_path):
    "The workflow runs nbdev, and the index's links lead somewhere when the docs start from nbs"
    yaml = pytest.importorskip('yaml')
    steps = yaml.safe_load((WORKFLOWS/'docs.yml').read_text())['jobs']['docs']['steps']
    assert any('nbdev_docs' in o.get('run', '') for o in steps) and any('deploy-pages' in o.get('uses', '') for o in steps)
    shutil.copytree(ROOT/'nbs', tmp_path/'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    links = next(o['run'] for o in steps if o.get('name') == 'links')
    subprocess.run(['bash', '-c', links], cwd=tmp_path, env={**os.environ, 'GITHUB_REPOSITORY': 'some/body'}, check=True)
    targets = re.findall(r'\]\((?!https?:|#)([^)]+)\)', '\n'.join(sources(tmp_path/'nbs'/'index.ipynb', 'markdown')))
    assert targets and all((tmp_path/'nbs'/o).exists() for o in targets), targets
    there = re.findall(r'\]\(https://github.com/some/body/blob/main/([^)]+)\)', (tmp_path/'nbs'/'index.ipynb').read_text())
    assert there and all((ROOT/o).exists() for o in there)
    assert yaml.safe_load((ROOT/'nbs'/'_quarto.yml').read_text())['metadata-files'] == ['nbdev.yml', 'sidebar.yml']


@pytest.mark.parametrize('nb', [o for o in NOTEBOOKS if o.parent.name == 'nbs' and o.stem != '10_book'], ids=lambda p: p.stem)
def test_imports_have_cells_of_their_own(nb):
    "When nbdev builds the docs it runs the cells with imports, and what else is in them, but no others"
    for source in sources(nb, 'code'):
        if re.match(r'#\| *(export|eval: *false)|!', source) or 'nbdev_export()' in source: continue
        tree = ast.parse(re.sub(r'^(\s*)[!%].*', r'\1pass', source, flags=re.M))
        imported = any(isinstance(o, (ast.Import, ast.ImportFrom)) for o in ast.walk(tree))
        assert not imported or all(isinstance(o, (ast.Import, ast.ImportFrom)) for o in tree.body), source


@pytest.mark.parametrize('nb', TUTORIALS, ids=lambda p: p.stem)
def test_tutorial_opens_on_colab(nb):
    "A badge at the top, and one cell that installs, and does so only where there is nothing"
    repo = f'{ini()["user"]}/{ini()["repo"]}'
    badge = f'(https://colab.research.google.com/github/{repo}/blob/{ini()["branch"]}/{nb.relative_to(ROOT).as_posix()})'
    assert badge in sources(nb, 'markdown')[0]
    install, = [o for o in sources(nb, 'code') if '%pip' in o]
    assert install == sources(nb, 'code')[0] and f'git+https://github.com/{repo}' in install
    asked = []
    exec(re.sub(r'%pip (.*)', r'asked.append(r"""\1""")', install), dict(asked=asked))
    assert asked == []
    exec(re.sub(r'%pip (.*)', r'asked.append(r"""\1""")', install.replace("find_spec('imdb_lm')", "find_spec('imdb_lm_nowhere')")), dict(asked=asked))
    assert len(asked) == 1


def public(name, obj):
    "`obj`, and of a class the methods that are not words of fastai or torch: pairs of a name and what has it"
    yield name, obj
    if not inspect.isclass(obj): return
    known = {*dir(event), 'encodes', 'decodes', 'setups', *(k for base in obj.__mro__[1:] for k in vars(base))}
    for k,v in vars(obj).items():
        v = inspect.unwrap(getattr(v, '__func__', v))
        if (inspect.isfunction(v) or isinstance(v, property)) and (k == '__init__' and not is_dataclass(obj) or k[0] != '_' and k not in known): yield f'{name}.{k}', v


def returns(f):
    "Whether a call of `f` gives anything"
    todo = list(ast.parse(textwrap.dedent(inspect.getsource(f))).body[0].body)
    for o in todo:
        value = getattr(o, 'value', None)
        if isinstance(o, ast.YieldFrom): return True
        if isinstance(o, (ast.Return, ast.Yield)) and value and not (isinstance(value, (ast.Constant, ast.Yield)) and value.value is None): return True
        if not isinstance(o, (ast.FunctionDef, ast.Lambda, ast.ClassDef)): todo += ast.iter_child_nodes(o)
    return False


def undocumented(name, obj):
    "What nothing is said of: `obj` itself, a parameter, or what is returned"
    if not obj.__doc__ and not name.endswith('__init__'): yield f'{name}: a docstring'
    if not inspect.isfunction(obj): return
    code, docs = obj.__code__, docments(obj)
    yield from (f'{name}: {p}' for p in code.co_varnames[:code.co_argcount + code.co_kwonlyargcount] if p not in ('self', 'cls') and not docs.get(p))
    if returns(obj) and not docs.get('return'): yield f'{name}: what it returns'


@pytest.mark.parametrize('module', [m for m in MODULES if m != 'cli']) # whose commands are documented by their --help: see test_cli.py
def test_all_that_is_public_is_documented(module):
    "A docstring for each, a docment for each parameter and what is returned"
    try: m = importlib.import_module(f'imdb_lm.{module}')
    except ImportError as e: pytest.skip(str(e))
    mine = {k: inspect.unwrap(obj) for k in m.__all__ if getattr(obj := getattr(m, k), '__module__', None) == m.__name__}
    assert [o for k,obj in mine.items() for name,part in public(k, obj) for o in undocumented(name, part)] == []


def test_what_is_attached_to_fastai_is_documented():
    from imdb_lm.all import LMLearner
    assert [o for k in ('fit_gradual', 'fit_one_stage', 'fit_two_stage', 'generate', 'plot_two_stage', 'stream') for o in undocumented(k, inspect.unwrap(getattr(LMLearner, k)))] == []
