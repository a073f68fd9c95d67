"""The figures of a model on texts, by hand."""
import math
import random

import pytest
import torch

from imdb_lm.evaluate import evaluate_lm
from imdb_lm.model import AWDLSTM, LanguageModel
from imdb_lm.tokens import UNK, tokenize

TEXTS = ['The movie is good.', 'an AWFUL zyzzyva of a film!!!', '', 'a', 'great story with funny actors , because it has never been boring']


def test_by_hand(lm):
    scores = [(nll, hit) for nll,hit in lm.token_scores(TEXTS)]
    nll, hit = (torch.cat(o).double() for o in zip(*scores))
    tokens = [t for text in TEXTS for t in tokenize([text])[0][1:]]
    report = evaluate_lm(lm, TEXTS)
    assert report == dict(reviews=5, tokens=len(tokens), perplexity=pytest.approx(math.exp(nll.mean())), accuracy=pytest.approx(hit.mean().item()),
                          unknown=pytest.approx(sum(t not in lm.o2i or t == UNK for t in tokens)/len(tokens)))
    assert report['perplexity'] == pytest.approx(lm.perplexity(TEXTS))
    assert report['unknown'] > 0


def test_neither_order_nor_company_matters(lm):
    texts = TEXTS*20
    shuffled = random.Random(1).sample(texts, len(texts))
    a, b, once = evaluate_lm(lm, texts), evaluate_lm(lm, shuffled), evaluate_lm(lm, TEXTS)
    assert a == pytest.approx(b) and a == pytest.approx({**once, 'reviews': 100, 'tokens': 20*once['tokens']})


def test_one_text_and_any_iterable(lm):
    assert evaluate_lm(lm, TEXTS[0]) == evaluate_lm(lm, [TEXTS[0]]) == evaluate_lm(lm, iter([TEXTS[0]])) == evaluate_lm(lm, (TEXTS[0],))
    assert evaluate_lm(lm, TEXTS[0])['reviews'] == 1


def test_a_model_that_knows_nothing_and_one_that_knows_all(words, config):
    net = AWDLSTM(len(words), **config).eval()
    for p in net.parameters(): p.data.zero_()
    lm = LanguageModel(net, words, config)
    assert evaluate_lm(lm, TEXTS)['perplexity'] == pytest.approx(len(words))
    net.decoder.bias.data[lm.o2i['a']] = 50.
    sure = evaluate_lm(lm, ['a a', 'a'])
    assert sure['perplexity'] == pytest.approx(1) and sure['accuracy'] == 1 and sure['unknown'] == 0
    assert evaluate_lm(lm, ['the the', 'zyzzyva'])['accuracy'] == 0
    assert evaluate_lm(lm, ['zyzzyva'])['unknown'] == 1


@pytest.mark.parametrize('texts', [[], [''], ['', ' '], ''])
def test_no_words_to_judge(lm, texts):
    with pytest.raises(ValueError, match='no words to judge') as e: evaluate_lm(lm, texts)
    assert '\n' not in str(e.value)


def test_a_text_that_is_none(lm):
    with pytest.raises(TypeError): evaluate_lm(lm, ['the movie', None])
    with pytest.raises(TypeError): evaluate_lm(lm, [b'the movie'])
