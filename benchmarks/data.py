"""The data engine beside stock fastai: tokens, the start of `lm_dls`, batches, memory.

    python benchmarks/data.py [--imdb FOLDER] [--work FOLDER] [--rounds 3] [--sample 10000]

Every measurement runs in a process of its own. WORK holds copies of the corpus (2.5 GB), the caches of both, and what was
measured: that is not measured again.
Writes benchmarks/results/data.md and data.png.
"""
import argparse, json, os, platform, random, resource, shutil, subprocess, sys, tempfile, time
from functools import partial
from pathlib import Path
from statistics import median

from machine import cpu

RESULT = Path(__file__).parent/'results'/'data.md'
POST = ['train', 'test', 'unsup']


# ---- what is measured, each called as `python data.py --task NAME ARGUMENTS...`

def timed(f):
    start = time.perf_counter()
    return f(), time.perf_counter() - start


def tokens(imdb, n, rounds, workers):
    "Tokens a second from memory, stock and ours by turns; ours cold first"
    from fastai.text.core import tokenize_texts
    from imdb_lm.data import read_reviews, review_files
    from imdb_lm.tokens import tokenize
    files = random.Random(0).sample(list(review_files(imdb)), n)
    texts = read_reviews(files)
    stock = partial(tokenize_texts, texts, n_workers=workers if workers > 1 else 0)
    ours = partial(tokenize, texts, n_workers=workers)
    made, cold = timed(ours)
    tokenize(texts, n_workers=1) # what this process knows, those that it starts know, too
    times = [(timed(stock)[1], timed(ours)[1]) for _ in range(rounds)]
    size = sum(map(len, made))
    return dict(tokens=size, cold=size/cold, stock=size/median(a for a,_ in times), ours=size/median(b for _,b in times), ratio=median(a/b for a,b in times))


def stock_start(folder, n_workers):
    "The post's DataBlock"
    from fastai.text.all import DataBlock, RandomSplitter, TextBlock, get_text_files
    block = DataBlock(blocks=TextBlock.from_folder(folder, is_lm=True, n_workers=n_workers), get_items=partial(get_text_files, folders=POST), splitter=RandomSplitter(0.1, seed=42))
    return block.dataloaders(folder, path=folder, bs=128, seq_len=72)


def our_start(folder, n_workers):
    from imdb_lm.loader import lm_dls
    return lm_dls(folder, n_workers=n_workers)


def start(kind, folder, n_workers):
    "Seconds until the DataLoaders are there, and the process's peak memory"
    import fastai.text.all, imdb_lm.loader  # noqa: F401
    dls, seconds = timed(lambda: {'stock': stock_start, 'ours': our_start}[kind](Path(folder), n_workers))
    size = dls.train_ds.tokenizer.counter.total()
    return dict(seconds=seconds, tokens=size, **peaks())


def batches(kind, folder, most):
    "Tokens a second of an epoch, or of its first batches"
    dls = {'stock': stock_start, 'ours': our_start}[kind](Path(folder), 1)
    next(iter(dls.train))
    n, begin = 0, time.perf_counter()
    for i,(x,_) in enumerate(dls.train):
        n += x.numel()
        if i + 1 == most: break
    return dict(rate=n/(time.perf_counter() - begin), **peaks())


def peaks():
    "Megabytes: the most that this process and the largest of its children ever held; what of it now is pages of files"
    own, child = (resource.getrusage(o).ru_maxrss//1024 for o in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    pages = int(next(o for o in open('/proc/self/status') if o.startswith('RssFile')).split()[1])//1024
    return dict(peak=own, child=child, pages=pages)


# ---- the run

def measure(work, name, task, *args):
    "Run a task, unless its result is there"
    kept = work/'measured'/f'{name}.json'
    if not kept.exists():
        env = {**os.environ, 'FASTAI_HOME': str(work/'home'), 'OMP_NUM_THREADS': '1'}
        done = subprocess.run([sys.executable, __file__, '--task', task, *map(str, args)], env=env, stdout=subprocess.PIPE, text=True, check=True)
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(done.stdout.splitlines()[-1])
        print(name, kept.read_text(), file=sys.stderr, flush=True)
    return json.loads(kept.read_text())


def share_of(imdb, share, to):
    "A copy of a share of IMDb; above 1 every review holds its text several times"
    if to.exists(): return to
    tmp = to.with_suffix('.part')
    shutil.rmtree(tmp, ignore_errors=True)
    for f in sorted(o for d in POST for o in (imdb/d).rglob('*.txt'))[::max(1, round(1/share))]:
        new = tmp/f.relative_to(imdb)
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(b'\n'.join([f.read_bytes()]*max(1, round(share))))
    tmp.rename(to)
    return to


def cold(kind, folder, work):
    "Remove what either keeps of a corpus"
    shutil.rmtree(folder.with_name(folder.name + '_tok') if kind == 'stock' else work/'home'/'tokens', ignore_errors=True)


def run(imdb, work, rounds, n):
    workers = sorted({1, min(2, len(os.sched_getaffinity(0)))})
    (work/'home').mkdir(parents=True, exist_ok=True)
    res = {f'tokens {w}': measure(work, f'tokens {w}', 'tokens', imdb, n, rounds, w) for w in workers}
    for share,kind in ((s, k) for s in (0.01, 0.1, 1, 8, 10) for k in ('stock', 'ours') if k == 'ours' or s <= 1):
        folder = share_of(imdb, share, work/f'imdb_{share}')
        for w in workers if share == 1 else workers[-1:]:
            cold_name, warm_name = (f'{kind} {share} {o} {w}' for o in ('cold', 'warm'))
            if not (work/'measured'/f'{cold_name}.json').exists(): cold(kind, folder, work)
            for name in (cold_name, warm_name): res[name] = measure(work, name, 'start', kind, folder, w)
        if share in (1, 8): res[f'{kind} {share} batches'] = measure(work, f'{kind} {share} batches', 'batches', kind, folder, 200 if kind == 'stock' else 0)
    return res


def report(res, n):
    workers = max(int(o.split()[1]) for o in res if o.startswith('tokens'))
    row = lambda *cells: '| ' + ' | '.join(map(str, cells)) + ' |'
    rate = lambda o: o['tokens']/o['seconds']
    out = [f'# The data engine\n\nMachine: {cpu()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}. Made by `python benchmarks/data.py`.',
           f'\n## Tokens from memory\n\n{n:,} reviews; each figure is a median, stock and ours by turns.\n',
           row('processes', 'stock, tokens/s', 'ours cold', 'ours warm', 'warm / stock (goal 15)'), row(*['---']*5)]
    for o in (o for o in res if o.startswith('tokens')):
        r = res[o]
        out.append(row(o.split()[1], f'{r["stock"]:,.0f}', f'{r["cold"]:,.0f}', f'{r["ours"]:,.0f}', f'{r["ratio"]:.1f}'))
    out.append('\nProcesses hand back numbers, and one process makes lists of str of them: more than one process cannot speed that part up. `lm_dls` keeps the numbers.')
    out += ['\n## From the files of all of IMDb to DataLoaders\n', row('processes', 'stock cold, s', 'ours cold, s', 'stock / ours (goal 8)', 'stock warm, s', 'ours warm, s (goal 2)', 'peak MB stock', 'peak MB ours'), row(*['---']*8)]
    for w in sorted({1, workers}):
        a,b,c,d = (res[f'{k} 1 {s} {w}'] for s in ('cold', 'warm') for k in ('stock', 'ours'))
        out.append(row(w, f'{a["seconds"]:.0f}', f'{b["seconds"]:.1f}', f'{a["seconds"]/b["seconds"]:.1f}', f'{c["seconds"]:.1f}', f'{d["seconds"]:.2f}', a['peak'], b['peak']))
    a,b = res['stock 1 batches'], res['ours 1 batches']
    out += ['\n## Batches of 128 x 72, all of IMDb\n', row('', 'stock', 'ours', 'ours / stock (goal 100)'), row(*['---']*4),
            row('tokens/s', f'{a["rate"]:,.0f}', f'{b["rate"]:,.0f} (goal 10,000,000)', f'{b["rate"]/a["rate"]:.0f}'), row('peak MB', a['peak'], b['peak'], '')]
    out += [f'\n## Cost against size, {workers} processes\n', row('share of IMDb', 'tokens', 'stock cold, s', 'ours cold, s', 'ours, us a token', 'ours warm, s', 'peak MB ours'), row(*['---']*7)]
    for share in (0.01, 0.1, 1, 10):
        s,o,w = (res.get(f'{k} {share} {state} {workers}') for k,state in (('stock', 'cold'), ('ours', 'cold'), ('ours', 'warm')))
        out.append(row(f'{share:.0%}', f'{o["tokens"]:,}', f'{s["seconds"]:.1f}' if s else 'not run', f'{o["seconds"]:.1f}', f'{1e6/rate(o):.2f}', f'{w["seconds"]:.2f}', o['peak']))
    big, made = res['ours 8 batches'], res[f'ours 8 cold {workers}']
    out += [f'\n## A gigabyte of text\n\n800% of IMDb is {made["tokens"]:,} tokens in 1.05 GB of text. While it was tokenized this process held {made["peak"]} MB at most, each of the others {made["child"]} MB. '
            f'An epoch of its batches ran at {big["rate"]:,.0f} tokens/s and held {big["peak"]} MB at most, of which {big["pages"]} MB are pages of mapped files, which the system takes back when it needs them (goal: 1,500 MB).', '\n![cost against size](data.png)']
    RESULT.write_text('\n'.join(out) + '\n')
    plot(res, workers)


def plot(res, workers):
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots(figsize=(5, 3.5))
    for kind,state in (('stock', 'cold'), ('stock', 'warm'), ('ours', 'cold'), ('ours', 'warm')):
        points = [(o['tokens'], o['seconds']) for s in (0.01, 0.1, 1, 10) if (o := res.get(f'{kind} {s} {state} {workers}'))]
        ax.loglog(*zip(*points), marker='o', ls='-' if state == 'cold' else '--', color='tab:red' if kind == 'stock' else 'tab:blue', label=f'{kind}, {state}')
    ax.set(xlabel='tokens', ylabel='seconds to DataLoaders')
    ax.grid(alpha=.3)
    ax.legend()
    fig.savefig(RESULT.with_suffix('.png'), dpi=90, bbox_inches='tight')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--imdb', type=Path, help="IMDb's folder; default: untar_imdb()")
    p.add_argument('--work', type=Path, help='where copies and caches go; default: a temporary folder')
    p.add_argument('--rounds', type=int, default=3, help='of each timing from memory')
    p.add_argument('--sample', type=int, default=10_000, help='reviews for the timings from memory')
    p.add_argument('--task', nargs='+', help='one measurement, printed as JSON')
    a = p.parse_args()
    if a.task:
        name,*args = a.task
        return print('\n' + json.dumps({'tokens': tokens, 'start': start, 'batches': batches}[name](*(int(o) if o.isdigit() else o for o in args))))
    if not a.imdb:
        from imdb_lm.data import untar_imdb
        a.imdb = untar_imdb()
    with tempfile.TemporaryDirectory() as tmp: res = run(a.imdb, a.work or Path(tmp), a.rounds, a.sample)
    RESULT.parent.mkdir(exist_ok=True)
    report(res, a.sample)
    print(RESULT.read_text())


if __name__ == '__main__': main()
