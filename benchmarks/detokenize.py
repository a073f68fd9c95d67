"""How many of 10,000 reviews are the same when they are tokenized and made readable again.

    python benchmarks/detokenize.py --data FOLDER [--n 10000]

FOLDER holds .txt files, such as the real IMDb's. A review is compared as the tokenizer's own rules leave it before they change any letter:
HTML replaced, three dots as one sign, one space for several, none before the end of a line.
Writes benchmarks/results/detokenize.md, which holds counts of differences and no text.
"""
import argparse, re
from collections import Counter
from pathlib import Path

from imdb_lm.text import detokenize
from imdb_lm.tokens import fix_html, rm_useless_spaces, tokenize

RESULT = Path(__file__).parent/'results'/'detokenize.md'


def as_compared(text): return re.sub(r' +(?=[^\S ])', '', rm_useless_spaces(fix_html(text))).strip().replace(' …', '…')


def squashed(text): return re.sub(r'\s', '', text)


def without_lost(text, back):
    "Both without their white space, and small in the words of `text` that the tokenizer lowers without a mark"
    res, k = ['', ''], 0
    for piece in text.split():
        pair = piece, back[k:k+len(piece)]
        held = len(piece) > 1 and re.fullmatch(r'[A-Z][^a-z]*|[a-z][^A-Z]*|[A-Z][^A-Z]*', piece)
        res = [o + (new if held else new.lower()) for o,new in zip(res, pair)]
        k += len(piece)
    return res[0], res[1] + back[k:]


def kind(c): return 'word' if c.isalpha() else 'number' if c.isdigit() else 'line end' if c.isspace() else c


def letters(text): return [(m[1] > '', m[2]) for m in re.finditer(r'(\s*)(\S)', text)]


def differences(a, b):
    "For two texts of the same letters where one has white space or a capital and the other has not: what it is about, what is there in `a`"
    before = ' '
    for (space,c),(space2,c2) in zip(letters(a), letters(b)):
        if space != space2: yield 'white space', f'`{kind(before)}` {"space" if space else "no space"} `{kind(c)}`'
        if c != c2: yield 'capitals', f'{"capital" if c.isupper() else "small letter"} after {"a space" if space else f"`{kind(before)}`"}'
        before = c


def count(texts):
    n, differ = Counter(), {'white space': Counter(), 'capitals': Counter()}
    for text,tokens in zip(texts, tokenize(texts)):
        a, b = as_compared(text), detokenize(tokens)
        x, y = without_lost(a, squashed(b))
        n.update({'alike': squashed(a).lower() == squashed(b).lower(), 'alike spaces': a.lower() == b.lower(), 'held': x == y,
                  'held spaces': x == y and a.lower() == b.lower(), 'all': squashed(a) == squashed(b), 'all spaces': a == b})
        if squashed(a).lower() == squashed(b).lower():
            for about,what in differences(a, b): differ[about][what] += 1
    return n, differ


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', type=Path, required=True, help='a folder of .txt files')
    p.add_argument('--n', type=int, default=10_000, help='reviews, spread over the folder')
    a = p.parse_args()
    files = sorted(a.data.rglob('*.txt'))
    files = files[::max(1, len(files)//a.n)][:a.n]
    n, differ = count([f.read_text(encoding='utf-8') for f in files])
    def row(name, k): return f'| {name} | {n[k]/len(files):.1%} | {n[f"{k} spaces"]/len(files):.1%} |'
    lines = ['# Tokenized and made readable again', '', f'{len(files):,} reviews. Made by `python benchmarks/detokenize.py`. A review is compared as the '
             "tokenizer's rules leave it before they change a letter: HTML replaced, `...` as one sign without the space that they put before it, one space for "
             'several, none before the end of a line.', '', '| the same in | but for white space | with white space |', '|---|---|---|',
             row('letters, small and capital alike', 'alike'), row('letters, and capitals that the tokens hold', 'held'), row('letters and all capitals', 'all'), '',
             'The tokens hold a capital that begins a word which goes on small, and all capitals of a word that has no other letters; the second row counts these words, and those that begin small. Lowered without a mark are words behind a quote or a bracket, with a capital inside, names joined by a hyphen, and '
             'words of one letter; `detokenize` gives some of them back by their neighbours. Nor do the tokens hold spaces around hyphens, dashes and quotes, or '
             'that there was none after a comma.']
    for about,counter in differ.items():
        lines += ['', f'| commonest differences in {about}: the review has | times |', '|---|---|', *(f'| {k} | {v:,} |' for k,v in counter.most_common(15))]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    print(RESULT.read_text(encoding='utf-8'))


if __name__ == '__main__': main()
