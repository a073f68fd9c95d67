"""Words a second: stock `learn.predict`, this library in each precision, and GPT-2 small by Hugging Face's `generate`.

    python benchmarks/generate.py [--n-words 70] [--rounds 3] [--model FOLDER --texts FOLDER]

The network is the post's (44 M parameters, vocabulary 60,008) with random weights; everybody writes by turns, and medians are shown.
transformers is optional: without it the rows of GPT-2 are left out. With a trained model and texts (.txt files that it has not seen)
each precision's perplexity is measured too.
Writes benchmarks/results/generate.md.
"""
import argparse, copy, time
from pathlib import Path
from statistics import median

import torch
from machine import cpu

RESULT = Path(__file__).parent/'results'/'generate.md'
PROMPT = 'I like this movie because'
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def seconds(f):
    "How long `f()` takes"
    if DEVICE == 'cuda': torch.cuda.synchronize()
    start = time.perf_counter()
    f()
    if DEVICE == 'cuda': torch.cuda.synchronize()
    return time.perf_counter() - start


def post_learner():
    "fastai's learner with the post's network and as many words"
    from imdb_lm.learner import lm_learner
    from imdb_lm.loader import lm_dls
    from imdb_lm.mini import mini_reviews
    words = lm_dls(mini_reviews(), bs=16).vocab
    return lm_learner(lm_dls(mini_reviews(), bs=16, vocab=words + [f'word{i}' for i in range(60_008 - len(words))]), pretrained=False)


def in_precisions(lm):
    "The model in each precision that there is, the default one first"
    from imdb_lm.model import PRECISIONS, LanguageModel, _best_precision
    from imdb_lm.network import Int8LSTM, has_int8
    best = _best_precision(lm.net.n_params)
    for name in sorted(PRECISIONS, key=lambda o: o != best):
        if name == 'int8' and not has_int8(): continue
        net = Int8LSTM(lm.net.cpu().float()) if name == 'int8' else copy.deepcopy(lm.net).to(DEVICE, PRECISIONS[name])
        yield name, LanguageModel(net, lm.vocab, lm.config)


def gpt2():
    "GPT-2 small, or None"
    from imdb_lm.book import prepare_torchvision
    prepare_torchvision()
    try: from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError: return None
    return GPT2LMHeadModel(GPT2Config()).eval().to(DEVICE)


def continuing(model, rows, n_words):
    ids = torch.randint(1000, 40_000, (rows, 6), device=DEVICE)
    return lambda: model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_words, min_new_tokens=n_words, do_sample=True, temperature=.75,
                                  top_k=0, pad_token_id=50256)


def writers(n_words):
    "Name, rows, words of each row, and what writes them"
    learn = post_learner()
    from imdb_lm.learner import language_model
    lm = language_model(learn)
    for k,(name,o) in enumerate(in_precisions(lm)):
        for rows in (1, 64):
            n = n_words if name != 'bf16' or rows == 1 or DEVICE == 'cuda' else 8
            yield f'{name}{" (the default here)"*(k == 0)}', rows, n, lambda o=o, rows=rows, n=n: o.generate(PROMPT, n_words=n, n=rows, stop=False, seed=1)
    yield 'learn.predict', 1, n_words, lambda: learn.predict(PROMPT, n_words=n_words, temperature=.75, no_bar=True)
    if model := gpt2():
        for rows in (1, 32): yield 'GPT-2 small, fp32', rows, n_words, continuing(model, rows, n_words)


def best(f, n=7): return min(seconds(f) for _ in range(n+1))


def limits():
    "Bytes a second that memory gives; floating point operations a second in fp32, and the same number of them in int8"
    big, a = torch.randn(128_000_000, device=DEVICE), torch.rand(2048, 2048, device=DEVICE)
    res = dict(memory=big.nbytes/best(lambda: big.sum()), fp32=2*2048**3/best(lambda: a@a))
    from imdb_lm.network import Int8Linear, has_int8
    if has_int8() and DEVICE == 'cpu': res['int8'] = 2*2048**3/best(lambda layer=Int8Linear(a): layer(a))
    if DEVICE == 'cuda': res['bf16'] = 2*8192**3/best(lambda b=torch.rand(8192, 8192, device=DEVICE).bfloat16(): b@b)
    return res


def speeds(n_words, rounds):
    "Rows of the table: everybody's words a second, and the share of the limits"
    everybody, top = list(writers(n_words)), limits()
    with torch.no_grad():
        times = [[seconds(f) for *_,f in everybody] for _ in range(rounds)]
    rate = [rows*n/median(t) for (_,rows,n,_),t in zip(everybody, zip(*times))]
    stock = rate[[o[0] for o in everybody].index('learn.predict')]
    for (name,rows,_,_),r in zip(everybody, rate):
        kind = name.split()[0]
        weights = 44.2e6 if kind in ('fp32', 'bf16', 'int8') else None
        memory = f'{r/rows*weights*dict(fp32=4, bf16=2, int8=1)[kind]/top["memory"]:.0%}' if weights else ''
        arithmetic = f'{r*2*weights/top[kind]:.0%}' if weights and kind in top else ''
        yield f'| {name} | {rows} | {r:,.1f} | {r/stock:,.1f} | {memory} | {arithmetic} |'
    yield ''
    yield (f'Limits measured in the same run: memory gives {top["memory"]/1e9:.1f} GB/s (the sum of 512 MB), multiplying matrices of 2048 '
           + ', '.join(f'{v/1e9:,.0f} G operations/s in {k}' for k,v in top.items() if k != 'memory') + '.')
    if not any('GPT-2' in o[0] for o in everybody): yield 'GPT-2 is left out: transformers is not installed.'


def perplexities(folder, texts):
    "Rows of the table: what each precision does to a trained model"
    from imdb_lm.model import load_lm
    files = sorted(Path(texts).rglob('*.txt'))
    texts = [f.read_text(encoding='utf-8') for f in files[::max(1, len(files)//12)]]
    exact = None
    for name in ('fp32', 'int8', 'bf16'):
        p = load_lm(folder, name).perplexity(texts)
        exact = exact or p
        yield f'| {name} | {p:.3f} | {p/exact - 1:+.2%} |'
    yield f'\n{len(texts)} texts, {load_lm(folder)}'


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--n-words', type=int, default=70, help='words of each review')
    p.add_argument('--rounds', type=int, default=3, help='turns of everybody')
    p.add_argument('--model', type=Path, help='a trained model folder')
    p.add_argument('--texts', type=Path, help='a folder of .txt files that it has not seen')
    a = p.parse_args()
    where = torch.cuda.get_device_name() if DEVICE == 'cuda' else f'{cpu()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}'
    lines = ['# Words a second', '', f'Machine: {where}; torch {torch.__version__}. Made by `python benchmarks/generate.py`; random weights of the post\'s network '
             f'(44.2 M parameters, vocabulary 60,008), reviews of {a.n_words} words after "{PROMPT}", medians of {a.rounds} turns. The share of the memory limit '
             'is that of reading every weight once a step; the share of the arithmetic limit that of two operations for each weight and word.', '',
             '| | rows | words/s | times `predict` | memory limit | arithmetic limit |', '|---|---|---|---|---|---|', *speeds(a.n_words, a.rounds)]
    if a.model: lines += ['', '## Perplexity of a trained model', '', '| | perplexity | change |', '|---|---|---|', *perplexities(a.model, a.texts)]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text('\n'.join(lines) + '\n')
    print(RESULT.read_text())


if __name__ == '__main__': main()
