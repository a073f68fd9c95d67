"""The tests of test_fuzz.py under atheris, which looks for inputs that reach new code: `make fuzz`, or

    python tests/fuzz.py [--cases 1000000] [NAME ...]

NAME is a test without its `test_`; without any, all of them share the cases. Needs `pip install atheris` (Linux, macOS).
Writes benchmarks/results/fuzz.md. A case that fails is printed by hypothesis, and the run ends with it.
"""
import argparse, os, platform, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).parent
RESULT = HERE.parent/'benchmarks'/'results'/'fuzz.md'


def one(name, cases):
    "Never returns: atheris ends the process"
    os.environ['FUZZ_CASES'] = str(cases)
    import atheris
    with atheris.instrument_imports(include=['imdb_lm']): import test_fuzz
    test = getattr(test_fuzz, f'test_{name}').hypothesis.fuzz_one_input
    atheris.Setup([sys.argv[0], f'-runs={cases}', '-max_len=4096', '-rss_limit_mb=4096', '-timeout=60', '-print_final_stats=0', '-verbosity=0'], test)
    atheris.Fuzz()


def names(): return [line[len('def test_'):line.index('(')] for line in (HERE/'test_fuzz.py').read_text(encoding='utf-8').splitlines() if line.startswith('def test_') and 'found' not in line]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', metavar='NAME')
    p.add_argument('--cases', type=int, default=1_000_000)
    p.add_argument('--one', action='store_true', help='run one of them in this process')
    a = p.parse_args()
    if a.one: return one(a.names[0], a.cases)
    chosen, rows = a.names or names(), []
    for name in chosen:
        start, cases = time.monotonic(), a.cases//len(chosen)
        done = subprocess.run([sys.executable, __file__, name, '--one', '--cases', str(cases)], cwd=HERE)
        rows.append(f'| {name} | {cases:,} | {time.monotonic() - start:.0f} | {"none" if not done.returncode else "**yes**"} |')
        print(rows[-1], flush=True)
        if done.returncode: sys.exit(f'a case of {name} failed: see above, mend it, and make a test of it')
        write(rows, a.cases) # a run that is stopped leaves what it has


def write(rows, cases):
    RESULT.write_text(f'# Fuzzing\n\nPython {platform.python_version()}. Made by `python tests/fuzz.py --cases {cases}`: hypothesis makes the inputs, atheris chooses those that reach new code.\n\n'
                      '| what | cases | seconds | failures |\n|---|---|---|---|\n' + '\n'.join(rows) + '\n')


if __name__ == '__main__': main()
