"Which mutants are made; `make mutants` runs the tests against hundreds (see mutants.py)."
from mutants import mutant, places

SOURCE = '''def f(a: int = 1, *, b=None):
    "A docstring"
    if a < 1 or not b: raise ValueError(f'a={a} cannot be')
    g(a, key=True)
    return [x + '.' for x in b if x]
'''


def test_each_change_is_made_once():
    new = [mutant(SOURCE, o)[1][1] for o in places(SOURCE)]
    assert sorted(new) == sorted([
        'def f(a: int=2, *, b=None):',
        'if not (a < 1 or not b):', 'if a < 1 and (not b):', 'if a <= 1 or not b:', 'if a < 2 or not b:', 'if a < 1 or not not b:',
        'None', 'g(a)', 'g(a, key=False)',
        'return', "return [x - '.' for x in b if x]", "return [x + '.~' for x in b if x]", "return [x + '.' for x in b]"])


def test_what_says_something_is_left_alone():
    for place in places(SOURCE):
        code = mutant(SOURCE, place)[0]
        compile(code, 'mutant', 'exec')
        assert 'A docstring' in code and 'a: int' in code and " cannot be')" in code
