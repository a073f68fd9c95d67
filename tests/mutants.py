"""Spoil the code that all else rests on, one place at a time, and see whether a test notices: `make mutants`, or

    python tests/mutants.py WORK [--modules tokens ...] [--each 60] [--seed 42]

A mutant is a module with one change: another comparison, operator, constant or condition, a statement less, a keyword less. Of all
mutants of a module some are drawn by chance. Each runs the module's tests, in a copy of the project and a process of its own, until one
fails. What is done is kept in WORK: the same command goes on where it was stopped. Writes benchmarks/results/mutants.md. (Linux, macOS)
"""
import argparse, ast, json, multiprocessing, os, platform, random, shutil, signal, sys, tempfile, time
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULT = ROOT/'benchmarks'/'results'/'mutants.md'
TESTS = {'tokens': ['test_tokens'], 'cache': ['test_cache'], 'loader': ['test_loader', 'test_labels'], 'text': ['test_text'],
         'generate': ['test_generate'], 'checkpoint': ['test_checkpoint']}
SWAPS = [(ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn), (ast.Is, ast.IsNot), (ast.Add, ast.Sub), (ast.Mult, ast.FloorDiv),
         (ast.BitAnd, ast.BitOr), (ast.And, ast.Or)]
OTHER = {**dict(SWAPS), **{b: a for a,b in SWAPS}, ast.Div: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult}
EXPLAINED = { # (module, the mutant's lines) -> why no test can notice it
    ('tokens', "table = json.loads((files('imdb_lm') / 'pieces.json').read_text())"): 'UTF-8 is the default here; on Windows it is not',
    ('tokens', 'def __init__(self, limit=6000001, known=()):'): 'a bound of memory, not of what comes out',
    ('tokens', "_odd_spaces = [chr(i) for i in range(12289) if chr(i).isspace() or chr(i) != ' ']"): 'the way for odd spaces gives the same for all others, slower',
    ('tokens', 'joined = {max(_texts(t(o)), key=len) for o, parts in cases.items() if len(parts) >= 1 and parts != _texts(t(o))}'): 'more tokens are looked at, with the same result',
    ('tokens', 'if n_workers < 3:'): 'one process gives what two give',
    ('text', 'n = min(int(count[:10]), MAX_REP) if count.isascii() and count.isdigit() else 1'): 'nine digits are beyond MAX_REP as it is',
    ('checkpoint', "_PART = '.part-~'"): 'a name for a moment',
    ('checkpoint', 'FORMAT = 5'): 'only whether it is the same matters',
    ('generate', 'BLOCK = 257'): 'how many numbers are drawn ahead does not change which they are',
    ('cache', '_versions = f"1 imdb_lm {__version__} spacy {version(\'spacy\')} python ~{sys.version_info[:2]}"'): 'only whether it is the same matters',
    ('cache', "part = Path(tempfile.mkdtemp(prefix='part-~', dir=folder.parent))"): 'a name for a moment',
    ('cache', 'def _forget(home, days=31):'): 'a day more or less',
}


# the mutants

def _set(node, field, value): return lambda: setattr(node, field, value)

def changes(node):
    "What can be changed in a node of the syntax tree: list of functions"
    kind, res = type(node), []
    if kind is ast.Compare: res += [lambda i=i, o=o: node.ops.__setitem__(i, OTHER[type(o)]()) for i,o in enumerate(node.ops)]
    if kind in (ast.BinOp, ast.BoolOp, ast.AugAssign) and type(node.op) in OTHER: res.append(_set(node, 'op', OTHER[type(node.op)]()))
    if kind in (ast.If, ast.IfExp, ast.While): res.append(_set(node, 'test', ast.UnaryOp(ast.Not(), node.test)))
    if kind is ast.UnaryOp and isinstance(node.op, ast.USub): res.append(_set(node, 'op', ast.UAdd()))
    if kind is ast.UnaryOp and isinstance(node.op, ast.Not): res.append(_set(node, 'operand', ast.UnaryOp(ast.Not(), node.operand)))
    if kind is ast.Constant and isinstance(node.value, bool): res.append(_set(node, 'value', not node.value))
    elif kind is ast.Constant and isinstance(node.value, (int, float)): res.append(_set(node, 'value', node.value + 1))
    elif kind is ast.Constant and isinstance(node.value, str): res.append(_set(node, 'value', node.value + '~'))
    if kind is ast.Return and node.value is not None: res.append(_set(node, 'value', None))
    if kind is ast.Expr: res.append(_set(node, 'value', ast.Constant(None)))
    if kind is ast.Call: res += [lambda k=k: node.keywords.remove(k) for k in node.keywords if k.arg]
    if kind is ast.comprehension: res += [lambda o=o: node.ifs.remove(o) for o in node.ifs]
    return res


def unmeant(tree):
    "Nodes that say something rather than do something: docstrings, annotations, messages of errors, `__all__`"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and ast.get_docstring(node) is not None: yield node.body[0]
        if isinstance(node, ast.Raise): yield node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__all__': yield node
        if isinstance(node, (ast.FunctionDef, ast.arg, ast.AnnAssign)): yield getattr(node, 'returns', None) or getattr(node, 'annotation', None)


def places(source):
    "Where mutants of a source can be made: pairs of a node's number and a change's"
    tree = ast.parse(source)
    skip = {id(o) for root in unmeant(tree) if root for o in ast.walk(root)}
    return [(i, k) for i,node in enumerate(ast.walk(tree)) if id(node) not in skip for k in range(len(changes(node)))]


def mutant(source, place):
    "The source of a mutant, and how it differs: the old lines and the new"
    tree = ast.parse(source)
    before = ast.unparse(tree)
    changes(list(ast.walk(tree))[place[0]])[place[1]]()
    after = ast.unparse(ast.fix_missing_locations(tree))
    differ = [(a, b) for a,b in zip(before.splitlines(), after.splitlines()) if a != b]
    return after, tuple(' '.join(o.strip() for o in lines) for lines in zip(*differ))


# their tests

def copied(to):
    "A copy of the project without what is ignored"
    shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns('.git', '.venv', '__pycache__', 'runs', '.pytest_cache', '*.egg-info'))
    return to


def run_tests(copy, module):
    "In a process of its own: the module's tests, then its notebook's examples, until one fails"
    os.setsid()
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    os.environ['PYTHONPATH'] = str(copy)
    for stream in 1, 2: os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    import pytest
    args = ['-x', '-q', '-p', 'no:cacheprovider', '-p', 'no:randomly']
    notebook = next((copy/'nbs').glob(f'[0-9]*_{module}.ipynb')).stem
    sys.exit(pytest.main([*args, *(f'tests/{o}.py' for o in TESTS[module])]) or pytest.main([*args, '-m', 'notebooks', 'tests/test_notebooks.py', '-k', notebook]))


def tried(copy, module, seconds):
    "What the tests of a module in the copy say: 'survived', 'killed', or 'too slow', and how long it took"
    start = time.monotonic()
    child = multiprocessing.get_context('fork').Process(target=run_tests, args=(copy, module))
    child.start()
    child.join(seconds)
    if (slow := child.is_alive()): os.killpg(child.pid, signal.SIGKILL)
    child.join()
    return 'too slow' if slow else 'killed' if child.exitcode else 'survived', time.monotonic() - start


# the report

def report(done):
    "`done`: a dict for each mutant"
    rows, lives = [], []
    for module in TESTS:
        of = [o for o in done if o['module'] == module]
        if not of: continue
        live = [o for o in of if o['outcome'] == 'survived']
        explained = [o for o in live if (module, o['new']) in EXPLAINED]
        rows.append(f"| {module} | {of[0]['of']:,} | {len(of)} | {len(of) - len(live)} | {len(explained)} | {len(live) - len(explained)} | {(len(of) - len(live))/len(of):.0%} |")
        lives += [f"| {module} | `{o['old']}` | `{o['new']}` | {EXPLAINED.get((module, o['new']), 'not yet explained')} |".replace('||', '\\|\\|') for o in live]
    RESULT.write_text('# Mutants\n\n'
        f'Made by `python tests/mutants.py WORK`, Python {platform.python_version()}. A mutant is a module with one change; killed is one that a test notices, or that takes too long. Some mutants of each module were drawn by chance.\n\n'
        '| module | mutants | drawn | killed | explained | survived | killed of those drawn |\n|---|---|---|---|---|---|---|\n' + '\n'.join(rows) +
        '\n\nThose that live:\n\n| module | as it is | mutant | why no test notices |\n|---|---|---|---|\n' + '\n'.join(lives) + '\n', encoding='utf-8')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('work', type=Path, help='a folder for what is done')
    p.add_argument('--modules', nargs='+', choices=list(TESTS), default=list(TESTS))
    p.add_argument('--each', type=int, default=60, help='mutants of a module')
    p.add_argument('--seed', type=int, default=42)
    a = p.parse_args()
    for name in 'fastai.text.all', 'hypothesis', 'execnb.shell', 'pytest', 'spacy': import_module(name) # once for all mutants
    sys.dont_write_bytecode = True
    os.environ['PYTHONDONTWRITEBYTECODE'] = '1'
    a.work.mkdir(parents=True, exist_ok=True)
    file = a.work/'mutants.jsonl'
    done = list({(o['module'], o['old'], o['new']): o for o in map(json.loads, file.read_text().splitlines())}.values()) if file.exists() else []
    with tempfile.TemporaryDirectory() as tmp:
        copy = copied(Path(tmp)/'copy')
        for module in a.modules:
            path = copy/'imdb_lm'/f'{module}.py'
            source = path.read_text(encoding='utf-8')
            code = {lines: text for text,lines in (mutant(source, o) for o in places(source))}
            known = {(o['old'], o['new']): o['outcome'] for o in done if o['module'] == module}
            drawn = random.Random(a.seed).sample(list(code), min(a.each, len(code)))
            left = [o for o in {**dict.fromkeys(drawn), **known} if o in code and known.get(o) in (None, 'survived')] # new tests may kill it
            done = [o for o in done if o['module'] != module or (o['old'], o['new']) in code.keys() - set(left)]
            seconds = None
            for old,new in left:
                if seconds is None:
                    outcome, seconds = tried(copy, module, None)
                    if outcome != 'survived': sys.exit(f'{module}: its tests fail as it is')
                path.write_text(code[old, new], encoding='utf-8')
                outcome, took = tried(copy, module, 60 + 5*seconds)
                done.append(dict(module=module, of=len(code), old=old, new=new, outcome=outcome))
                with file.open('a') as f: print(json.dumps(done[-1]), file=f)
                print(f'{module} {outcome} {took:.0f} s: {old} -> {new}', flush=True)
                report(done)
            path.write_text(source, encoding='utf-8')
    report(done)
    print(RESULT.read_text(encoding='utf-8'))


if __name__ == '__main__': main()
