"""The figures of a model on texts, by hand."""
import math
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from imdb_lm.evaluate import Speller, evaluate_lm, stream_perplexity
from imdb_lm.model import AWDLSTM, LanguageModel
from imdb_lm.tokens import UNK, tokenize

TEXTS = ['The movie is good.', 'an AWFUL zyzzyva of a film!!!', '', 'a', 'great story with funny actors , because it has never been boring']


def test_by_hand(lm):
    rows = tokenize(TEXTS)
    ids = [torch.tensor([lm.vocab.index(t if t in lm.vocab else UNK) for t in row]) for row in rows]
    logits = [lm.net.decoder(lm.net(o[None, :-1])[0][0]) if len(o) > 1 else torch.zeros(0, len(lm.vocab)) for o in ids]
    nll = torch.cat([-o.softmax(1)[range(len(o)), i[1:]].log() for o,i in zip(logits, ids)]).double()
    hit = torch.cat([o.argmax(1) == i[1:] for o,i in zip(logits, ids)]).double()
    tokens = [t for row in rows for t in row[1:]]
    report = evaluate_lm(lm, TEXTS)
    bits = nll.sum()/math.log(2) + sum(map(Speller(lm.vocab), (t for t in tokens if t not in lm.o2i)))
    assert report == dict(reviews=5, tokens=len(tokens), perplexity=pytest.approx(math.exp(nll.mean())),
                          stream_perplexity=pytest.approx(stream_perplexity(lm, TEXTS)), bits_per_byte=pytest.approx(bits.item()/len(''.join(TEXTS))), accuracy=pytest.approx(hit.mean().item()),
                          unknown=pytest.approx(sum(t not in lm.o2i or t == UNK for t in tokens)/len(tokens)))
    assert report['perplexity'] == pytest.approx(lm.perplexity(TEXTS))
    assert report['unknown'] > 0


def test_neither_order_nor_company_matters(lm):
    texts = TEXTS*20
    shuffled = random.Random(1).sample(texts, len(texts))
    a, b, once = evaluate_lm(lm, texts), evaluate_lm(lm, shuffled), evaluate_lm(lm, TEXTS)
    for o in a, b, once: o.pop('stream_perplexity') # which goes on from one to the next
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


@pytest.fixture
def fresh_learner(mini_corpus):
    "A learner on the bundled corpus, with a state that it has to get rid of"
    from fastai.torch_core import set_seed
    from imdb_lm.learner import lm_learner
    from imdb_lm.loader import lm_dls
    def learner(bs, seq_len):
        set_seed(1)
        dls = lm_dls(mini_corpus, bs=bs, seq_len=seq_len, max_vocab=500)
        learn = lm_learner(dls, pretrained=False, config=dict(emb_sz=16, n_hid=24, n_layers=2))
        for p in learn.model.parameters(): p.data.mul_(8)
        return learn
    return learner


@pytest.mark.parametrize('bs, seq_len', [(4, 30), (16, 48), (7, 72)])
def test_stream_perplexity_is_that_of_validate(fresh_learner, mini_corpus, bs, seq_len):
    from imdb_lm.learner import language_model
    from imdb_lm.loader import held_out_texts
    learn, texts = fresh_learner(bs, seq_len), held_out_texts(mini_corpus)
    with learn.no_bar(): want = learn.validate()[-1]
    lm = language_model(learn)
    assert stream_perplexity(lm, texts, bs, seq_len) == pytest.approx(want, rel=1e-5)
    report = evaluate_lm(lm, texts, bs, seq_len)
    assert report['stream_perplexity'] == pytest.approx(want, rel=1e-5)
    assert report['perplexity'] != pytest.approx(want, rel=1e-3)


def test_pieces_change_nothing(lm, monkeypatch):
    whole = stream_perplexity(lm, TEXTS, bs=3, seq_len=4)
    monkeypatch.setattr('imdb_lm.evaluate.PIECE', 200)
    assert stream_perplexity(lm, TEXTS, bs=3, seq_len=4) == pytest.approx(whole)


def test_bytes_of_the_text_as_typed(lm):
    "White space, capitals and letters of several bytes count in the text, not in the tokens"
    a, b = evaluate_lm(lm, 'the movie'), evaluate_lm(lm, 'the    movie')
    assert a['bits_per_byte']*9 == pytest.approx(b['bits_per_byte']*12)
    spell = Speller(lm.vocab)
    a, b = (evaluate_lm(lm, o)['bits_per_byte']*n for o,n in [('zyzzyva', 7), ('caf\N{LATIN SMALL LETTER E WITH ACUTE}', 5)])
    assert b - a == pytest.approx(spell('caf\N{LATIN SMALL LETTER E WITH ACUTE}') - spell('zyzzyva'))


def test_the_vocabulary_does_not_flatter(words, config):
    "A model that knows one word more pays the same or less, whatever it thinks; with the mean alone it would look worse"
    nets = [AWDLSTM(len(words), **config).eval() for _ in range(2)]
    for net in nets:
        for p in net.parameters(): p.data.zero_()
    knows = LanguageModel(nets[0], ['zyzzyva' if w == 'xxfake' and i == words.index('xxfake') else w for i,w in enumerate(words)], config)
    not_ = LanguageModel(nets[1], words, config)
    a, b = (evaluate_lm(o, 'a zyzzyva') for o in (knows, not_))
    assert a['perplexity'] == pytest.approx(b['perplexity']) and a['bits_per_byte'] < b['bits_per_byte']


def test_any_word_can_be_spelled(lm):
    spell = Speller(lm.vocab)
    for word in 'the', 'q', 'xxunk', '\N{SNOWMAN}'*50, '\n\n', '\0', 'a'*1000: assert 0 < spell(word) < math.inf
    assert spell('the') + spell('a') < spell('hte') + spell('q')


def test_spelling_by_hand():
    "Counts of pairs in ab and ac, the ends of words included, and one more for each of 257 that could follow"
    spell = Speller(['ab', 'ac', 'ab', 'xxunk', 'xxfake'])
    def bits(k, n): return -math.log2((k + 1)/(n + 257))
    assert spell('ab') == pytest.approx(bits(2, 2) + bits(1, 2) + bits(1, 1)) == spell('ac')
    assert spell('a') == pytest.approx(bits(2, 2) + bits(0, 2)) and spell('') == pytest.approx(bits(0, 2))


def test_weights_that_are_no_numbers(words, config, tmp_path):
    from imdb_lm.model import fastai_name, load_lm, write_model
    net = AWDLSTM(len(words), **config)
    folder = write_model(tmp_path/'nan', {fastai_name(n): p for n,p in net.named_parameters()}, words, config)
    weights = load_file(folder/'model.safetensors')
    weights['0.rnns.0.weight_hh_l0_raw'][0, 0] = math.nan
    save_file(weights, folder/'model.safetensors')
    for precision in 'fp32', 'auto':
        with pytest.raises(ValueError, match='no finite numbers.*train it again') as e: evaluate_lm(load_lm(folder, precision), TEXTS)
        assert '\n' not in str(e.value)


@pytest.mark.parametrize('name', ['bs', 'seq_len'])
@pytest.mark.parametrize('value', [0, -1, 1.5, None, '2', True])
def test_batches_that_cannot_be(lm, name, value, monkeypatch):
    "Told before minutes of reading"
    monkeypatch.setattr(LanguageModel, 'token_scores', None)
    for f in evaluate_lm, stream_perplexity:
        with pytest.raises(ValueError, match=f'{name}={value!r} cannot be: it must be a whole number of at least 1') as e: f(lm, TEXTS, **{name: value})
        assert '\n' not in str(e.value)


def test_batches_by_numpy(lm):
    assert evaluate_lm(lm, TEXTS, bs=np.int64(3), seq_len=np.int8(4)) == evaluate_lm(lm, TEXTS, bs=3, seq_len=4)


@pytest.mark.parametrize('text', ['a', '.', 'Z', '!!!', 'xxbos', 'xxunk', '\N{SNOWMAN}'])
def test_less_than_a_word(lm, text):
    report = evaluate_lm(lm, text)
    assert report['tokens'] > 0 and all(math.isfinite(o) for o in report.values()) and report['bits_per_byte'] > 0


@pytest.mark.parametrize('texts', [[], [''], ['', ' '], ''])
def test_no_words_to_judge(lm, texts):
    for f in evaluate_lm, stream_perplexity:
        with pytest.raises(ValueError, match='no words to judge') as e: f(lm, texts)
        assert '\n' not in str(e.value)


def test_a_text_that_is_none(lm):
    with pytest.raises(TypeError, match=r'texts\[1\] is None'): evaluate_lm(lm, ['the movie', None])
    for texts in b'the movie', None, 5:
        with pytest.raises(TypeError, match='give a list of texts, found one'): evaluate_lm(lm, texts)
        with pytest.raises(TypeError, match='give a list of texts, found one'): lm.perplexity(texts)
    with pytest.raises(ValueError, match='half a surrogate pair'): evaluate_lm(lm, 'the \ud83c')
