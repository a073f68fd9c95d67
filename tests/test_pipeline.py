"From texts to reviews through the command line: a base, fine-tuned in two stages, and the same without the base"
import json, re, shutil

import pandas as pd
import pytest

import command
from imdb_lm.data import review_files


def imdb_lm(*args, cwd):
    done = command.run(*args, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope='module', params=['bundled', pytest.param('imdb', marks=pytest.mark.slow)])
def run(request, tmp_path_factory):
    "Three trainings: `base` on unlabelled reviews, `tuned` from it on labelled ones, `scratch` on those from nothing"
    corpus, work = request.getfixturevalue({'bundled': 'mini_corpus', 'imdb': 'imdb_sample'}[request.param]), tmp_path_factory.mktemp('run')
    for name,folders,n in (('unlabelled', ['unsup'], 120), ('labelled', ['train', 'test'], 80)):
        files = [f for f in review_files(corpus) if f.relative_to(corpus).parts[0] in folders]
        for f in files[::len(files)//n][:n]:
            to = work/name/f.relative_to(corpus)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(f, to)
    size = ['--bs', 8, '--seq-len', 32]
    said = {'base': imdb_lm('train', '--data', 'unlabelled', '--out', 'base', '--frozen-epochs', 0, '--epochs', 2, '--lr', 5e-3, *size, cwd=work)}
    for name,start in (('tuned', 'base'), ('scratch', 'none')):
        said[name] = imdb_lm('train', '--data', 'labelled', '--out', name, '--pretrained', start, '--frozen-epochs', 1, '--frozen-lr', 3e-3,
                             '--epochs', 1, '--lr', 2e-3, *size, cwd=work)
    return work, said


def perplexity(work, name): return pd.read_csv(work/name/'history.csv').set_index('stage').perplexity


def test_fine_tuning_helps(run):
    work, said = run
    before = float(re.search(r'before training: perplexity ([\d.]+)', said['tuned'])[1])
    tuned = perplexity(work, 'tuned')
    assert tuned[2] < before and tuned[2] < tuned[1]


def test_pretraining_helps(run):
    work, _ = run
    assert perplexity(work, 'tuned')[2] < .9*perplexity(work, 'scratch')[2]


def test_run_says_what_it_is(run):
    _, said = run
    assert re.search(r'data: labelled, 80 reviews \(8 held out\), [\d,]+ tokens, vocabulary [\d,]+, [\d.]+% unknown', said['tuned'])
    assert 'size: laptop, AWD-LSTM 2 x 384' in said['tuned'] and 'pretrained: base' in said['tuned'] and 'pretrained: no' in said['scratch']
    for prompt in ('I like this movie because', 'This movie is terrible', 'This movie has great action'): assert f'\n{prompt}' in said['tuned']


def test_model_goes_on_to_write_and_to_be_judged(run):
    work, _ = run
    lines = imdb_lm('generate', 'This movie', '--model', 'tuned', '--n', 3, '--seed', 1, '--json', cwd=work).splitlines()
    assert [json.loads(o)['prompt'] for o in lines] == ['This movie']*3
    report = json.loads(imdb_lm('evaluate', 'tuned', '--data', 'labelled', '--json', cwd=work))
    assert report['reviews'] == 8
    assert .5 < report['perplexity']/perplexity(work, 'tuned')[2] < 2
