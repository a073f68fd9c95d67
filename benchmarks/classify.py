"""Accuracy of classifiers on IMDb's test set with few labels and many: with a language model's encoder, without, and tf-idf.

    python benchmarks/classify.py WORK --model FOLDER [--imdb FOLDER] [--labels 100 1000 25000] [--test 25000] [--seeds 3] [--ways tfidf]

FOLDER is the model folder of a language model that was trained on IMDb. WORK is a folder for checkpoints and for what is measured:
the same command goes on where it was stopped, and other labels, seeds or ways are added to the table. Writes
benchmarks/results/classify.md, anew after each classifier.
"""
import argparse, json, random, shutil, sys, time
from pathlib import Path

import pandas as pd
from fastai.text.all import RandomSplitter, set_seed
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from imdb_lm.classify import clas_dls, clas_learner, classifier
from imdb_lm.data import read_reviews, review_files, untar_imdb
from imdb_lm.model import load_lm, model_hash
from machine import machine

RESULT = Path(__file__).parent/'results'/'classify.md'
WAYS = {'tfidf': 'tf-idf and logistic regression', 'encoder': "the language model's encoder", 'scratch': 'the same network without it'}


def _some(files, n, seed): return random.Random(seed).sample(files, min(n, len(files)))

def unread(imdb):
    "The tenth of all files that `lm_dls` holds out"
    files = review_files(imdb)
    return {files[i] for i in RandomSplitter(0.1, seed=42)(files)[1]}


def labelled(imdb, part, n, seed, among=None):
    "`n` reviews of `train` or `test`, as many of each class: texts and labels; only files `among` those, where they are given"
    files = [f for c in ('neg', 'pos') for f in _some([o for o in sorted((imdb/part/c).glob('*.txt')) if among is None or o in among], n//2, seed)]
    return read_reviews(files), [f.parent.name for f in files]


def tfidf():
    "The baseline: single words and pairs of them"
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=1, max_features=500_000), LogisticRegression(C=10, max_iter=1000))


def recipe(way, n):
    "Of a network with `n` labels: the book's for many; with few labels there are few steps, so that there are more epochs and the last stages keep their rate"
    if way == 'tfidf': return {}
    few, times = n < 5000, max(1, min(8, 2000//n))
    lrs = [5e-3, 5e-3, 5e-3, 1e-3] if way == 'scratch' else [2e-2, 1e-2, 1e-2, 1e-2] if few else [2e-2, 1e-2, 5e-3, 1e-3]
    return dict(epochs=[times, times, times, 2*times], lrs=lrs)


def network(way, texts, labels, shown, model, seed, folder):
    "A `Classifier` of our own, trained on `texts`; `shown`, texts and labels, only show how it goes"
    table = pd.DataFrame(dict(text=[*texts, *shown[0]], label=[*labels, *shown[1]], valid=[False]*len(texts) + [True]*len(shown[0])))
    lm = load_lm(model, precision='fp32')
    set_seed(seed)
    dls = clas_dls(table, lm.vocab, bs=16 if len(texts) < 5000 else 32, valid='valid')
    learn = clas_learner(dls, model) if way == 'encoder' else clas_learner(dls, config={k: lm.config[k] for k in ('emb_sz', 'n_hid', 'n_layers')})
    with learn.no_bar(), learn.no_logging(): learn.fit_gradual(**recipe(way, len(texts)), checkpoint=folder)
    return classifier(learn)


def judged(way, texts, labels, test, model, seed, folder):
    "What a classifier that was trained on `texts` says of the test reviews"
    if way == 'tfidf': return tfidf().fit(texts, labels).predict(test[0])
    return network(way, texts, labels, [o[:8] + o[-8:] for o in test], model, seed, folder).predict(test[0])[0]


def accuracy(way, texts, labels, test, model, seed, folder):
    "Of the test reviews the share that is judged rightly; checkpoints are in `folder` until it is known"
    res = sum(x == y for x,y in zip(judged(way, texts, labels, test, model, seed, folder), test[1]))/len(test[0])
    shutil.rmtree(folder, ignore_errors=True)
    return res


class Log:
    "What is measured, a line of JSON each; what is there is not measured again"
    def __init__(self, file): self.file, self.rows = file, [json.loads(o) for o in file.read_text().splitlines()] if file.exists() else []

    def measure(self, f, **key):
        if any(all(o.get(k) == v for k,v in key.items()) for o in self.rows): return
        start = time.monotonic()
        row = {**key, **f(), 'minutes': round((time.monotonic() - start)/60, 2)}
        print(row, file=sys.stderr)
        self.rows.append(row)
        with open(self.file, 'a', encoding='utf-8') as o: o.write(json.dumps(row) + '\n')


def spread(values):
    "Mean and standard deviation in percent; nothing where there are no values"
    if not values: return ''
    s = pd.Series(values)*100
    return f'{s.mean():.2f}' + (f' ± {s.std():.2f}' if len(s) > 1 else '')


def what_it_knew(lm, only_unread):
    "A word on what the language model had read before"
    read = 'It has read none of these test reviews' if only_unread else 'It has read nine tenths of all reviews, these among them'
    return read + (', but its training texts carried their ratings, so its encoder has seen more labels than the table says.' if 'label' in lm.config else ', without their labels.')


def report(rows, test, model, only_unread):
    lm = load_lm(model, precision='fp32')
    out = [f"# Classifiers\n\n{machine()} Made by `python benchmarks/classify.py WORK --model FOLDER --test {test}{' --unread'*only_unread}`.\n",
           f"Accuracy in percent on {test:,} reviews of IMDb's test set" + (f', drawn at random from its 25,000{" (of those that lm_dls holds out)"*only_unread}' if test < 25000 else '') +
           f', mean and standard deviation over the seeds. A seed draws the labelled reviews and all else. Encoder: {lm}. {what_it_knew(lm, only_unread)} Nothing is chosen by the test set.\n',
           '| labels | ' + ' | '.join(WAYS.values()) + ' | seeds | epochs | peak rates with the encoder | minutes for one network |', '|---|' + '---|'*(len(WAYS) + 4)]
    for n in sorted({o['labels'] for o in rows}):
        of = {w: [o for o in rows if (o['way'], o['labels']) == (w, n)] for w in WAYS}
        slow = [o['minutes'] for w in ('encoder', 'scratch') for o in of[w]]
        out.append(f'| {n:,} | ' + ' | '.join(spread([o['accuracy'] for o in of[w]]) for w in WAYS) + ' | ' +
                   ', '.join(str(len(of[w])) for w in WAYS) + ' | ' + ' | '.join(', '.join(f'{v:g}' for v in o) for o in recipe('encoder', n).values()) + f' | {max(slow, default=0):.0f} |')
    out.append('\nAnchors, on all 25,000 labels and the whole test set, of the full-size network from WT103: fastbook chapter 10 94.3, ULMFiT 95.4 (both directions).\n')
    RESULT.write_text('\n'.join(out), encoding='utf-8')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('work', type=Path)
    p.add_argument('--model', type=Path, required=True, help='the model folder of a language model')
    p.add_argument('--imdb', type=Path, help="IMDb's folder; default: untar_imdb()")
    p.add_argument('--labels', type=int, nargs='+', default=[100, 1000, 25000])
    p.add_argument('--test', type=int, default=25000, help='reviews of the test set, half of them of each class')
    p.add_argument('--unread', action='store_true', help='only test reviews that lm_dls held out (a tenth), for a language model that was trained on the others')
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    a = p.parse_args()
    a.imdb = a.imdb or untar_imdb()
    a.work.mkdir(parents=True, exist_ok=True)
    log, test, of = Log(a.work/'classify.jsonl'), labelled(a.imdb, 'test', a.test, 0, unread(a.imdb) if a.unread else None), model_hash(a.model)
    how = dict(test=len(test[0]), unread=a.unread, model=of)
    for n in a.labels:
        for seed in range(1, 1 + (a.seeds if n < 25000 else 1)):
            for way in a.ways:
                log.measure(lambda: dict(accuracy=accuracy(way, *labelled(a.imdb, 'train', n, seed), test, a.model, seed, a.work/'checkpoints'/f'{way}-{n}-{seed}')),
                            way=way, labels=n, seed=seed, **recipe(way, n), **how)
                report([o for o in log.rows if {**how, **recipe(o['way'], o['labels'])}.items() <= o.items()], len(test[0]), a.model, a.unread)
    print(RESULT.read_text())


if __name__ == '__main__': main()
