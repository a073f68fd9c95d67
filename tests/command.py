"""The command in a process that is forked from one that has imported the package, so that it need not wait for torch and fastai"""
import multiprocessing, os, sys, tempfile
from pathlib import Path
from types import SimpleNamespace

_processes = multiprocessing.get_context('forkserver' if 'forkserver' in multiprocessing.get_all_start_methods() else 'spawn')
_processes.set_forkserver_preload(['imdb_lm.all', 'imdb_lm.cli'])


def _run(args, cwd, env, streams):
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for i,(name,mode) in enumerate((('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'))):
        with open(streams/name, mode) as f: os.dup2(f.fileno(), i)
        setattr(sys, name, open(i, mode, encoding='utf-8', buffering=1, closefd=False))
    sys.argv = ['imdb_lm', *args]
    import torch
    from imdb_lm.cli import main
    torch.set_num_threads(1)
    main()


def run(*args, cwd='.', env=os.environ):
    "`imdb_lm *args`, without a terminal: its `returncode`, and what it wrote to `stdout` and `stderr`"
    with tempfile.TemporaryDirectory() as tmp:
        (streams := Path(tmp)).joinpath('stdin').touch()
        p = _processes.Process(target=_run, args=([*map(str, args)], str(cwd), dict(env), streams))
        p.start()
        p.join(300)
        assert p.exitcode is not None, f'imdb_lm {args} does not end'
        out, err = ((streams/o).read_text(encoding='utf-8') for o in ('stdout', 'stderr'))
    return SimpleNamespace(returncode=p.exitcode, stdout=out, stderr=err)
