"""Does a steerable model write what it is asked for? Reviews of a chosen opinion, judged by a classifier trained apart.

    python benchmarks/steering.py WORK --model FOLDER [--imdb FOLDER] [--judge FOLDER] [--plain FOLDER] [--n 1000] [--scales 1 3 5 10 20]

FOLDER is a model folder of a language model trained with ratings, by default the starter. The judge is tf-idf with logistic regression, for stars with ridge
regression, on IMDb's labelled train set; a classifier's folder given as --judge judges beside it. --plain names a model that was
trained without ratings. The same command goes on where it was stopped. Writes benchmarks/results/steering.md.
"""
import argparse, json
from pathlib import Path

import numpy as np
from fastai.data.transforms import RandomSplitter
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from classify import labelled, tfidf
from imdb_lm.classifier import load_clas
from imdb_lm.data import read_reviews, review_files, untar_imdb
from imdb_lm.generate import GUIDANCE
from imdb_lm.labels import file_stars, mark
from imdb_lm.model import load_lm, model_hash
from imdb_lm.report import distinct
from machine import machine
from imdb_lm.reviews import write_reviews

RESULT = Path(__file__).parent/'results'/'steering.md'
NEUTRAL = ['', 'This movie', 'I watched it on a Sunday', 'The story is about', 'The director']
CONTRARY = {'pos': ['This movie is terrible', 'I was bored', 'The worst thing about it is', 'I hated', 'What a waste of'],
            'neg': ['This movie is wonderful', 'I loved', 'The best thing about it is', 'I enjoyed', 'What a beautiful']}


def written(lm, file, prompts, model, n, **how):
    "`n` reviews, an equal number for each prompt: of each its prompt, its text, and its surprisal a word in nats"
    write_reviews(lm, file, prompts, model, resume=True, seed=1, n=-(-n//len(prompts)), n_words=200, temperature=0.75, **how)
    lines = map(json.loads, file.read_text(encoding='utf-8').splitlines())
    return [(o['prompt'], o['text'], o['surprisal'] or 0) for o in lines]


def without_prompt(prompt, text): return text[len(prompt):].strip() if text.startswith(prompt) else text


def agreement(judges, texts, asked):
    "For each judge the share of texts that it thinks are of the class that was asked for"
    texts = [o for o in texts if o.strip()]
    return [np.mean([o == asked for o in judge(texts)]) for judge in judges.values()]


def star_judge(imdb):
    "Real reviews and their ratings -> a rating for any text"
    files = [f for c in ('neg', 'pos') for f in sorted((imdb/'train'/c).glob('*.txt'))]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=500_000), Ridge(alpha=1.))
    return model.fit(read_reviews(files), [int(file_stars(f)) for f in files]).predict


def with_and_without(lm, files):
    "The perplexity of rated reviews, without and with the field that says their rating: of the same tokens"
    texts = read_reviews(files)
    plain, marked = ([nll for nll,_ in lm.token_scores(o)] for o in (texts, [mark(t, file_stars(f)) for t,f in zip(texts, files)]))
    n = sum(map(len, plain))
    return [float(np.exp(sum(o[len(o) - len(p):].double().sum().item() for o,p in zip(some, plain))/n)) for some in (plain, marked)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('work', type=Path)
    p.add_argument('--model', default='starter', help='the model folder of a language model trained with ratings')
    p.add_argument('--imdb', type=Path, help="IMDb's folder; default: untar_imdb()")
    p.add_argument('--judge', type=Path, help="a classifier's folder")
    p.add_argument('--plain', type=Path, help='a model folder, trained alike but without ratings, for the perplexity')
    p.add_argument('--n', type=int, default=1000, help='reviews of each kind')
    p.add_argument('--scales', type=float, nargs='+', default=[1, 3, 5, 10, 20], help='values of guidance_scale')
    p.add_argument('--held-out', type=int, default=1000, help='held-out reviews for the perplexity')
    a = p.parse_args()
    imdb, lm, model = a.imdb or untar_imdb(), load_lm(a.model), model_hash(a.model)
    a.work.mkdir(parents=True, exist_ok=True)
    train, test = (labelled(imdb, part, n, 0) for part,n in (('train', 25000), ('test', 2000)))
    judges = {'tf-idf': tfidf().fit(*train).predict}
    if a.judge: judges['classifier'] = lambda texts: load_clas(a.judge).predict(texts)[0]
    sure = [np.mean(np.array(judge(test[0])) == test[1]) for judge in judges.values()]
    out = [f'# Steering\n\n{machine()} Made by `python benchmarks/steering.py WORK --model FOLDER`. Model: {lm}.\n',
           f'{a.n:,} reviews of each kind, at most 200 tokens, temperature 0.75. The share that a judge takes for what was asked for, in percent; '
           'the judge reads only what the model wrote, and then the prompt, too. Goal: 90. Judges on 2,000 real test reviews: ' +
           ', '.join(f'{name} {o:.1%}' for name,o in zip(judges, sure)) + '.\n',
           f'Different pairs of words, in percent of all: the more, the less the reviews repeat each other. Surprisal: in nats a word, of the model as it was trained; where it rises the reviews become odd. Each is held against its opposite; the default scale is {GUIDANCE:g}.\n',
           '| guidance_scale | asked | prompts | ' + ' | '.join(f'{o}, without prompt | {o}, with it' for o in judges) + ' | different pairs | surprisal |', '|---|---|---|---|---|' + '---|---|'*len(judges)]
    for scale in a.scales:
        for asked in 'neg', 'pos':
            for kind,prompts in dict(neutral=NEUTRAL, contrary=CONTRARY[asked]).items():
                prompts, texts, surprisal = zip(*written(lm, a.work/f'{asked}-{kind}-{scale:g}.jsonl', prompts, model, a.n, sentiment=asked, guidance_scale=scale))
                new = list(map(without_prompt, prompts, texts))
                both = zip(agreement(judges, new, asked), agreement(judges, texts, asked))
                out.append(f'| {scale:g} | {asked} | {kind} | ' + ' | '.join(f'{x*100:.1f} | {y*100:.1f}' for x,y in both) + f' | {distinct([o.split() for o in new], 2)*100:.1f} | {np.mean(surprisal):.2f} |')
                print(out[-1], flush=True)
    stars, judge = [o for o in lm.config['label']['values'] if o.isdigit()], star_judge(imdb)
    judged = {o: judge([t for _,t,_ in written(lm, a.work/f'stars-{o}.jsonl', NEUTRAL, model, a.n//len(stars), stars=int(o)) if t.strip()]) for o in stars}
    pairs = np.array([(int(o), j) for o,found in judged.items() for j in found])
    out += [f'\n## Stars\n\nCorrelation of asked and judged stars: {np.corrcoef(pairs.T)[0, 1]:.3f} ({len(pairs):,} reviews, neutral prompts, guidance_scale {GUIDANCE:g}).\n',
            '| asked | judged, mean | standard deviation |', '|---|---|---|', *(f'| {o} | {found.mean():.2f} | {found.std():.2f} |' for o,found in judged.items())]
    files = review_files(imdb)
    files = [files[i] for i in RandomSplitter(0.1, seed=42)(files)[1] if file_stars(files[i])][:a.held_out]
    plain, marked = with_and_without(lm, files)
    out.append(f'\n## Perplexity\n\n{len(files):,} held-out rated reviews: {plain:.2f} without the field, {marked:.2f} with their rating as a field, of the same tokens.')
    if a.plain:
        other = load_lm(a.plain).perplexity(read_reviews(files))
        out.append(f'A model trained alike without ratings: {other:.2f}; with ratings, read without: {plain/other - 1:+.2%} (goal: at most +1%).')
    RESULT.write_text('\n'.join(out) + '\n', encoding='utf-8')
    print(RESULT.read_text())


if __name__ == '__main__': main()
