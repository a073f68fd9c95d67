"""The notebooks' examples and tests against the package, as somebody has it who imports it: nbdev_test runs the exported cells instead, which says nothing of what was exported."""
import re
from importlib import import_module
from pathlib import Path

import pytest
from execnb.nbio import read_nb
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory

from imdb_lm import loader

NBS = Path(__file__).parents[1]/'nbs'
EXPORTED = re.compile(r'#\|\s*export\b')
NOT_RUN = re.compile(r'#\|\s*(eval: *false|slow|cuda|network|notest)|nbdev_export\(')


def cells_of(path):
    nb = read_nb(path)
    module = next(m[1] for o in nb.cells if (m := re.search(r'#\|\s*default_exp (\w+)', o.source)))
    nb.cells = [o for o in nb.cells if o.cell_type == 'code' and not EXPORTED.match(o.source) and not NOT_RUN.search(o.source)]
    return import_module(f'imdb_lm.{module}'), nb


@pytest.mark.slow
@pytest.mark.notebooks
@pytest.mark.parametrize('path', sorted(NBS.glob('[0-9]*.ipynb')), ids=lambda o: o.stem)
def test_examples_of_the_package(path, fastai_home, tokens_folder, monkeypatch):
    "In a home of its own, as in a process of its own"
    monkeypatch.setattr(loader, 'tokens_folder', tokens_folder)
    module, nb = cells_of(path)
    assert nb.cells
    shell = CaptureShell(path)
    shell.user_ns.update({k: v for k,v in vars(module).items() if not k.startswith('__') or k == '__version__'})
    try:
        with working_directory(path.parent): shell.run_all(nb, exc_stop=True)
    except Exception: pytest.fail(shell.prettytb(fname=path))
