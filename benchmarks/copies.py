"""Longest copies: the index of the training text against a search through all of it.

    python benchmarks/copies.py [--imdb FOLDER] [--n 1000] [--searched 5]

The reviews that seed 42 holds out are compared with all others. The search keeps the places where a word stands, then those where the next
one follows, for every word of a review; what it finds has to be as long. Writes benchmarks/results/copies.md.
"""
import argparse, resource, time
from pathlib import Path
from statistics import median

import numpy as np

from imdb_lm.data import untar_imdb
from imdb_lm.loader import held_out_texts
from imdb_lm.memorization import _is_word, corpus_index
from imdb_lm.tokens import tokenize
from machine import machine

RESULT = Path(__file__).parent/'results'/'copies.md'


def timed(f, *args):
    start = time.perf_counter()
    return f(*args), time.perf_counter() - start


def longest(numbers, query):
    "How many words in a row of `query` stand in `numbers`, at most"
    best = 0
    for i in range(len(query)):
        places, k = np.flatnonzero(numbers == query[i]), 1
        while len(places) and i + k < len(query):
            best = max(best, k)
            places = places[numbers[np.minimum(places + k, len(numbers) - 1)] == query[i+k]]
            k += 1
        if len(places): best = max(best, k)
    return best


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--imdb', type=Path, help="IMDb's folder; default: untar_imdb()")
    p.add_argument('--n', type=int, default=1000, help='reviews to look up')
    p.add_argument('--searched', type=int, default=5, help='of them, reviews to search for')
    a = p.parse_args()
    imdb = a.imdb or untar_imdb()
    rows = tokenize(held_out_texts(imdb)[:a.n])
    corpus_index(imdb, valid_pct=0.1) # tokens from the cache, from now on
    index, made = timed(lambda: corpus_index(imdb, valid_pct=0.1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**20
    found = [timed(index.copies, rows) for _ in range(3)]
    copies, took = found[0][0], median(t for _,t in found)
    queries = [[index.number.get(o, -1) for o in row if _is_word(o)] for row in rows[:a.searched]]
    searched = [timed(longest, index.numbers, q) for q in queries]
    if [n for n,_ in searched] != [o.length for o in copies[:a.searched]]: raise SystemExit('index and search differ')
    each, slow = took/len(rows), median(t for _,t in searched)
    RESULT.write_text(f'# Longest copies\n\n{machine()} Made by `python benchmarks/copies.py --n {len(rows)} --searched {a.searched}`.\n\n'
        f'{index!r}: made in {made:.1f} s, the process had {peak:.1f} GB at most.\n\n'
        f'| {len(rows):,} reviews, {sum(map(len, rows)):,} tokens | |\n|---|---|\n| index, ms a review | {each*1e3:.1f} |\n| search, ms a review (median of {a.searched}) | {slow*1e3:,.0f} |\n'
        f'| search / index | {slow/each:,.0f} |\n| longest copy, words (median) | {median(o.length for o in copies):g} |\n', encoding='utf-8')
    print(RESULT.read_text(encoding='utf-8'))


if __name__ == '__main__': main()
