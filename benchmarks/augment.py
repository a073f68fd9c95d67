"""Do generated reviews help a classifier that has few labels? 100 and 1,000 labels, with 0, 1,000 and 10,000 generated reviews added.

    python benchmarks/augment.py WORK --model FOLDER [--imdb FOLDER] [--labels 100 1000] [--added 0 1000 10000] [--seeds 5] [--ways tfidf]

FOLDER is the model folder of a language model trained with ratings; it has read ratings of real reviews that the classifiers have
not. The same command goes on where it was stopped. Writes benchmarks/results/augment.md, anew after each classifier.
"""
import argparse
from pathlib import Path

from classify import WAYS, Log, accuracy, labelled, spread, unread, what_it_knew
from imdb_lm.data import untar_imdb
from imdb_lm.model import load_lm, model_hash
from machine import machine
from steering import written

RESULT = Path(__file__).parent/'results'/'augment.md'


def generated(a, lm, model):
    "Reviews that the model wrote for each opinion, as many as are wanted of it"
    n = max(a.added)//2
    return {o: [t for _,t,_ in written(lm, a.work/f'generated-{o}.jsonl', [''], model, n, sentiment=o) if t.strip()] for o in ('neg', 'pos')} if n else {}


def with_more(texts, labels, more, added):
    "Texts and labels, and `added` generated ones, half of them of each opinion"
    for o,some in more.items(): texts, labels = texts + some[:added//2], labels + [o]*len(some[:added//2])
    return texts, labels


def report(rows, a, test):
    lm, unread_too = load_lm(a.model), ' --unread'*a.unread
    out = [f'# Generated reviews as labels\n\n{machine()} Made by `python benchmarks/augment.py WORK --model FOLDER --test {test} --seeds {a.seeds}{unread_too}`. Model: {lm}. {what_it_knew(lm, a.unread)}\n',
           f"Accuracy in percent on {test:,} reviews of IMDb's test set{', drawn at random from its 25,000'*(test < 25000)}, mean and standard deviation over {a.seeds} seeds, each of which draws other labelled reviews. "
           'Half of the generated reviews were asked to be negative, half positive (from nothing, at most 200 tokens, temperature 0.75), and are labelled as they were asked for.\n',
           '| classifier | labels | ' + ' | '.join(f'+ {o:,} generated' for o in a.added) + ' |', '|---|---|' + '---|'*len(a.added)]
    for way in a.ways:
        for n in a.labels:
            found = [[o['accuracy'] for o in rows if (o['way'], o['labels'], o['added']) == (way, n, added)] for added in a.added]
            out.append(f'| {WAYS[way]} | {n:,} | ' + ' | '.join(map(spread, found)) + ' |')
    RESULT.write_text('\n'.join(out) + '\n', encoding='utf-8')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('work', type=Path)
    p.add_argument('--model', type=Path, required=True, help='the model folder of a language model trained with ratings')
    p.add_argument('--imdb', type=Path, help="IMDb's folder; default: untar_imdb()")
    p.add_argument('--labels', type=int, nargs='+', default=[100, 1000])
    p.add_argument('--added', type=int, nargs='+', default=[0, 1000, 10000])
    p.add_argument('--test', type=int, default=25000, help='reviews of the test set')
    p.add_argument('--unread', action='store_true', help='only test reviews that lm_dls held out (a tenth), for a language model that was trained on the others')
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--ways', nargs='+', choices=WAYS, default=['tfidf'])
    a = p.parse_args()
    a.imdb = a.imdb or untar_imdb()
    a.work.mkdir(parents=True, exist_ok=True)
    log, test, model = Log(a.work/'augment.jsonl'), labelled(a.imdb, 'test', a.test, 0, unread(a.imdb) if a.unread else None), model_hash(a.model)
    how = dict(test=len(test[0]), unread=a.unread, model=model)
    more = generated(a, load_lm(a.model), model)
    for way in a.ways:
        for n in a.labels:
            for seed in range(1, a.seeds + 1):
                for added in a.added:
                    data, folder = with_more(*labelled(a.imdb, 'train', n, seed), more, added), a.work/'checkpoints'/f'{way}-{n}-{added}-{seed}'
                    log.measure(lambda: dict(accuracy=accuracy(way, *data, test, a.model, seed, folder)), way=way, labels=n, added=added, seed=seed, **how)
                    report([o for o in log.rows if how.items() <= o.items() and o['seed'] <= a.seeds], a, len(test[0]))
    print(RESULT.read_text())


if __name__ == '__main__': main()
