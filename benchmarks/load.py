"""The page and `lm.generate` under many clients at once: is a request lost or mixed up with another's, and does memory grow?

    python benchmarks/load.py [--clients 50] [--minutes 10] [--model starter]

Each client asks for a review, waits for it, compares it with the one that its prompt and seed give where nothing else runs, and
asks again. First the page, in a process of its own; then threads that share one model. Writes benchmarks/results/load.md and .png.
"""
import argparse, json, os, platform, random, re, socket, subprocess, sys, threading, time, urllib.request
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

import numpy as np
import torch

from imdb_lm.model import load_lm
from machine import cpu

RESULT = Path(__file__).parent/'results'/'load.md'
N_WORDS = 70
CASES = [(f'{start} {i}', i) for i,start in enumerate(['This movie', 'I like it because', 'The plot of part', 'Never again']*25)] # prompt, seed


def resident(pid):
    "Megabytes that a process holds"
    return int(next(o for o in open(f'/proc/{pid}/status') if o.startswith('VmRSS')).split()[1])/1024


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as s: return s.getsockname()[1]


def serve(model):
    "A page in a process of its own, when it answers"
    port = free_port()
    code = 'import sys; from imdb_lm.app import launch; launch([sys.argv[1]], port=int(sys.argv[2]), rate=10**9)' # every client has the same address
    server = subprocess.Popen([sys.executable, '-c', code, model, str(port)], stdout=subprocess.DEVNULL)
    url = f'http://127.0.0.1:{port}/'
    while server.poll() is None:
        try: urllib.request.urlopen(url).close()
        except OSError: time.sleep(.2)
        else: return server, url
    sys.exit('the page did not start')


def ask_page(url, name):
    "A function that asks the page for one review"
    call = f'{url}gradio_api/call/write'
    def ask(prompt, seed):
        values = [prompt, 1, N_WORDS, .75, 'any', name, 0, 1, 0, 1, seed]
        request = urllib.request.Request(call, json.dumps(dict(data=values)).encode(), {'Content-Type': 'application/json'})
        with urllib.request.urlopen(request, timeout=300) as answer: event = json.load(answer)['event_id']
        with urllib.request.urlopen(f'{call}/{event}', timeout=300) as answer: last = answer.read().decode().strip().split('\n\n')[-1]
        kind, data = re.fullmatch(r'event: (\w+)\ndata: (.*)', last, re.S).groups()
        if kind != 'complete': raise OSError(data)
        return unescape(re.sub('<.*?>', '', re.search('<p>(.*?)</p>', json.loads(data)[0], re.S)[1]))
    return ask


def load(ask, expected, clients, seconds, pid):
    "Latencies in seconds, how many answers were lost and how many wrong, and memory by time"
    start, memory, done = time.monotonic(), [], threading.Event()
    def client(number):
        rng, res = random.Random(number), []
        while time.monotonic() - start < seconds:
            case, asked = rng.choice(CASES), time.monotonic()
            try: found = ask(*case)
            except OSError: found = None
            res.append((time.monotonic() - asked, found is None, found not in (None, expected[case])))
        return res
    def watch():
        while not done.wait(1): memory.append((time.monotonic() - start, resident(pid)))
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(clients) as pool: answers = [o for res in pool.map(client, range(clients)) for o in res]
    finally:
        done.set()
        watcher.join()
    latency, lost, wrong = map(np.array, zip(*answers))
    return latency, int(lost.sum()), int(wrong.sum()), np.array(memory)


def row(name, latency, lost, wrong, memory, seconds):
    "After the first fifth everything is loaded: from there on memory should be flat"
    t, mb = memory.T
    later = t > seconds/5
    return (f'| {name} | {len(latency):,} | {lost} | {wrong} | {np.median(latency):.2f} s | {np.quantile(latency, .99):.2f} s | {len(latency)/seconds:.1f} | '
            f'{mb[later][0]:,.0f} MB | {mb[-1]:,.0f} MB | {np.polyfit(t[later], mb[later], 1)[0]*60:+.2f} MB |')


def draw(results):
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.5), layout='constrained')
    for name,(latency, _, _, memory) in results.items():
        axes[0].plot(memory[:,0]/60, memory[:,1], label=name)
        axes[1].hist(latency, bins=40, histtype='step', label=name)
    axes[0].set(xlabel='minutes', ylabel='memory, MB', ylim=(0, None))
    axes[1].set(xlabel='seconds from asking to the whole review', ylabel='requests')
    for ax in axes: ax.legend()
    fig.savefig(RESULT.with_suffix('.png'), dpi=110)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--clients', type=int, default=50)
    p.add_argument('--minutes', type=float, default=10)
    p.add_argument('--model', default='starter')
    a = p.parse_args()
    lm, seconds, results = load_lm(a.model), a.minutes*60, {}
    expected = {(prompt, seed): lm.generate(prompt, n_words=N_WORDS, seed=seed)[0] for prompt,seed in CASES}
    server, url = serve(a.model)
    try: results['the page'] = load(ask_page(url, Path(a.model).name), expected, a.clients, seconds, server.pid)
    finally:
        server.terminate()
        server.wait()
    ask = lambda prompt, seed: lm.generate(prompt, n_words=N_WORDS, seed=seed)[0]
    results['lm.generate'] = load(ask, expected, a.clients, seconds, os.getpid())
    RESULT.write_text(f'# {a.clients} clients at once, for {a.minutes:g} minutes each\n\nMachine: {cpu()}, {len(os.sched_getaffinity(0))} of its {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}. '
        f'{lm!r}. Made by `python benchmarks/load.py --clients {a.clients} --minutes {a.minutes:g}`; the clients run on the same machine.\n\n'
        'Each asks for a review of 70 words and compares it, letter by letter, with what the same prompt and seed give alone. Lost: no answer, or an error. Mixed up: another text.\n\n'
        '| | requests | lost | mixed up | median | 99th percentile | requests/s | memory after a fifth of the time | at the end | a minute |\n|---|---|---|---|---|---|---|---|---|---|\n'
        + '\n'.join(row(k, *v, seconds) for k,v in results.items()) + '\n\n![Memory and latencies](load.png)\n')
    draw(results)
    print(RESULT.read_text())


if __name__ == '__main__': main()
