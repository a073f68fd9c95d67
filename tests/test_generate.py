"""Reviews: words come with the probability that the network gives them, the controls do what they say, prompts come back, text is readable."""
import copy
import json
import resource
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings, strategies as st
from scipy.stats import chisquare

import imdb_lm.generate as gen
from imdb_lm.generate import Row, draw, noise, stream, word_probs, write_rows
from imdb_lm.model import STARTER, LanguageModel, load_lm
from imdb_lm.network import has_int8
from imdb_lm.text import join_review
from imdb_lm.tokens import BOS, PAD, SPECIAL_TOKENS, UNK, tokenize

FREE = dict(temperature=1., no_unk=False, stop=False) # no control at all
PROMPTS = ['', 'the', 'The movie', 'A GREAT story!!!', 'the movie is good , and', 'a zyzzyva', "I don't like it", 'funny '*2 + 'actors', '( 3 )', 'because',
           'this', 'the end .\n\nthe', 'xxbos', 'never never never', 'it is', '"', 'of the story', 'a : b', '…', 'but ' + 'the story is very good and '*200,
           'the film is good '*256] # 1,025 tokens: one more than are read at a time


def biased(lm, by=None, **words):
    "`lm` with more (or less) of some words, whatever comes before"
    net = copy.deepcopy(lm.net)
    net.decoder.bias = torch.nn.Parameter(net.decoder.bias.clone(), requires_grad=False)
    for w,b in {**(by or {}), **words}.items(): net.decoder.bias[lm.o2i[w]] += b
    return LanguageModel(net, lm.vocab, lm.config)


@torch.no_grad()
def after(lm, ids):
    "The probabilities after `ids`, all of them read again"
    return lm.net.decoder(lm.net(torch.tensor([ids]))[0][0,-1]).double().softmax(-1).numpy()


def start(lm, prompt):
    "All that is read before the first word is written: where there is no prompt, a review's likeliest words come first"
    ids = lm.encode(prompt).tolist()
    if len(ids) > 1: return ids
    before = list(ids)
    while len(before) < gen.WORDS_BEFORE: before.append(int(after(lm, before).argmax()))
    return before + ids


def words_of(review, prompt):
    "The tokens that a raw review adds to `prompt`"
    old = [t for t in tokenize([prompt])[0] if t not in (BOS, PAD)]
    new = review.split(' ')
    assert new[:len(old)] == old
    return new[len(old):]


def written(lm, prompts, numbers, **controls):
    "What is added to each of `prompts`, ids by ids: the word for each of its numbers"
    rows = [Row(i, ids, iter(u.tolist())) for i,(ids,u) in enumerate(zip(prompts, numbers))]
    for _ in write_rows(lm, rows, n_words=len(numbers[0]), **controls): pass
    return [r.new for r in rows]


# ---- the same distribution

def agree(counts, p):
    "Are `counts` what probabilities in proportion to `p` give? The rare ones are taken together"
    p = p/p.sum()*counts.sum()
    often = p >= 5
    pooled = [np.append(o[often], o[~often].sum()) for o in (counts, p)]
    return often.sum() > 20 and chisquare(*(o[pooled[1] > 0] for o in pooled)).pvalue > 1e-3


@pytest.mark.parametrize('temperature', [1., .75, 2.])
def test_words_are_drawn_with_their_probability(lm, temperature):
    lm = biased(lm, {BOS: -50, PAD: -50}) # raw reviews do not show them
    draws = [tuple(d.split(' ')[2:]) for d in lm.generate('the movie', n_words=2, n=6000, raw=True, seed=4, **{**FREE, 'temperature': temperature})]
    start, known = lm.encode('the movie').tolist(), list(lm.o2i.values())
    assert after(lm, start) == pytest.approx(lm.next_word('the movie').numpy(), abs=1e-6)
    def hot(ids): return after(lm, ids)**(1/temperature)/(after(lm, ids)**(1/temperature)).sum()
    first = hot(start)
    count = Counter(a for a,_ in draws)
    assert agree(np.array([count[lm.vocab[i]] for i in known]), first[known])
    count = Counter(draws)
    both = np.stack([first[i]*hot([*start, i])[known] for i in known])
    assert agree(np.array([[count[lm.vocab[i], lm.vocab[j]] for j in known] for i in known]).ravel(), both.ravel())


def test_going_on_equals_reading_again(lm):
    for prompt in PROMPTS:
        ids = start(lm, prompt)
        h, state = gen._read_prompts(lm, [lm.encode(prompt)], {})
        for i in range(5):
            np.testing.assert_allclose(lm.net.decoder(h)[0].softmax(-1).numpy(), after(lm, ids), atol=1e-5)
            ids.append(10+i)
            h, state = lm.net.step(torch.tensor([10+i]), state)


def slow_tokens(lm, prompt, i, n_words, seed, banned, **controls):
    "What `generate` writes, with everything read again for every word"
    ids, new = start(lm, prompt), []
    for u in noise(seed, i, 0, n_words):
        logits = torch.from_numpy(np.log(after(lm, ids+new)))[None].float()
        logits[:, banned] = -torch.inf
        new.append(draw(word_probs(logits, **controls), torch.tensor([u])).item())
    return new


@pytest.mark.parametrize('controls', [dict(temperature=0), dict(temperature=1.), dict(temperature=.75), dict(temperature=.9, top_k=5),
    dict(temperature=1., top_p=.6),
                                      dict(temperature=1., min_p=.2), dict(temperature=.8, top_k=9, top_p=.9, min_p=.05)])
def test_the_same_reviews_as_the_slow_way(lm, controls):
    together = lm.generate(PROMPTS, n_words=6, seed=5, stop=False, raw=True, **controls)
    for i,(prompt,(review,)) in enumerate(zip(PROMPTS, together)):
        want = [lm.vocab[o] for o in slow_tokens(lm, prompt, i, 6, 5, [lm.o2i[UNK]], **controls)]
        assert review == ' '.join(t for t in tokenize([prompt])[0] + want if t not in (BOS, PAD))


def test_greedy_takes_the_likeliest(lm):
    for prompt in PROMPTS:
        greedy = lm.generate(prompt, n_words=8, temperature=0, stop=False, raw=True)
        ids, new = start(lm, prompt), []
        for _ in range(8):
            p = after(lm, ids + new)
            p[lm.o2i[UNK]] = 0
            new.append(int(p.argmax()))
        assert greedy == [' '.join(t for t in tokenize([prompt])[0] + [lm.vocab[i] for i in new] if t not in (BOS, PAD))]
        assert greedy == lm.generate(prompt, n_words=8, top_k=1, temperature=2., seed=1, stop=False, raw=True)
        assert greedy == lm.generate(prompt, n_words=8, top_p=1e-9, seed=2, stop=False, raw=True)
        assert greedy == lm.generate(prompt, n_words=8, min_p=1., seed=3, stop=False, raw=True)
        assert greedy == lm.generate(prompt, n_words=8, temperature=1e-5, seed=4, stop=False, raw=True)


def test_reviews_begin_as_reviews_do():
    "With a capital, as behind another review, and not in the middle of a sentence"
    begun = load_lm(STARTER).generate('', n=200, n_words=3, seed=1)
    assert sum(o[:1].islower() for o in begun) < 10


def test_bf16_and_fp32_agree_on_what_is_likely(model_folder, lm):
    half = load_lm(model_folder, precision='bf16')
    assert half.generate('the movie', n_words=5, n=70, top_k=1, seed=1) == half.generate('the movie', n_words=5, n=70, temperature=0)


# ---- seeds

def test_seed(lm):
    ten = lm.generate('the movie', n_words=20, n=10, seed=42)
    assert ten == lm.generate('the movie', n_words=20, n=10, seed=42)
    assert ten[:5] == lm.generate('the movie', n_words=20, n=5, seed=42)
    assert [ten] == lm.generate(['the movie'], n_words=20, n=10, seed=42)
    assert ten != lm.generate('the movie', n_words=20, n=10, seed=43)
    assert all(len(set(o)) > 1 for o in [ten, sum(lm.generate(['the movie']*5, n_words=20, seed=42), [])])


def test_no_two_reviews_share_their_noise(lm):
    both = lm.generate(['the movie']*2, n_words=40, n=8, seed=0, temperature=50., stop=False)
    assert len(set(sum(both, []))) == 16
    assert len({tuple(noise(s, i, j, 4)) for s in range(5) for i in range(5) for j in range(5)}) == 125


def test_longer_reviews_begin_like_shorter_ones(lm):
    for a,b in zip(lm.generate('the', n_words=5, n=6, seed=9, raw=True), lm.generate('the', n_words=30, n=6, seed=9, raw=True)): assert b.startswith(a)


@pytest.mark.parametrize('block', [1, 7, 1000])
def test_noise_in_blocks_changes_nothing(lm, monkeypatch, block):
    want = lm.generate(['the movie', 'a'], n_words=40, n=3, seed=9, stop=False)
    monkeypatch.setattr(gen, 'BLOCK', block)
    assert want == lm.generate(['the movie', 'a'], n_words=40, n=3, seed=9, stop=False)
    assert list(islice(gen._numbers(1, 2, 1), 40)) == noise(1, 2, 1, 40).tolist()


def test_as_many_words_as_it_takes(lm):
    lm = biased(lm, xxbos=3.)
    reviews = lm.generate('the movie', n_words=1000, n=9, seed=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reviews == lm.generate('the movie', n_words=10**15, n=9, seed=2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000 # KB


def test_without_a_seed_torch_decides(lm):
    torch.manual_seed(1)
    a, b = (lm.generate('the movie', n_words=30, n=3) for _ in range(2))
    torch.manual_seed(1)
    assert a == lm.generate('the movie', n_words=30, n=3)
    assert a != b


def test_a_seed_leaves_torch_and_numpy_alone(lm):
    torch.manual_seed(1); np.random.seed(1)
    lm.generate('the movie', n_words=3, seed=5)
    a = torch.rand(1).item(), np.random.rand()
    torch.manual_seed(1); np.random.seed(1)
    assert a == (torch.rand(1).item(), np.random.rand())


@pytest.mark.parametrize('rows', [1, 3, 7, 1000])
def test_many_reviews_keep_their_order(lm, monkeypatch, rows):
    prompts = [f'{a} {b}' for a in ('the', 'a', 'this', 'very') for b in ('movie', 'story', 'film', 'actors', 'good')]
    many = lm.generate(prompts, n_words=6, n=10, seed=6)
    assert [len(o) for o in many] == [10]*20
    assert all(r.startswith(p) for p,o in zip(prompts, many) for r in o)
    monkeypatch.setattr(gen, 'ROWS', rows)
    assert many == lm.generate(prompts, n_words=6, n=10, seed=6)


# ---- the controls

def probs(*p): return torch.tensor([p]).log()


@pytest.mark.parametrize('controls, want', [
    (dict(top_k=1), [1, 0, 0, 0]), (dict(top_k=2), [.5/.8, .3/.8, 0, 0]), (dict(top_k=4), [.5, .3, .15, .05]), (dict(top_k=99), [.5, .3, .15, .05]),
    (dict(top_p=.49), [1, 0, 0, 0]), (dict(top_p=.51), [.5/.8, .3/.8, 0, 0]), (dict(top_p=.79), [.5/.8, .3/.8, 0, 0]),
    (dict(top_p=.81), [.5/.95, .3/.95, .15/.95, 0]),
    (dict(top_p=1), [.5, .3, .15, .05]), (dict(top_p=1e-300), [1, 0, 0, 0]), (dict(min_p=0), [.5, .3, .15, .05]),
    (dict(min_p=.25), [.5/.95, .3/.95, .15/.95, 0]),
    (dict(min_p=.59), [.5/.8, .3/.8, 0, 0]), (dict(min_p=.61), [1, 0, 0, 0]), (dict(min_p=1), [1, 0, 0, 0]), (dict(temperature=0), [1, 0, 0, 0]),
    (dict(temperature=1e-30), [1, 0, 0, 0]), (dict(temperature=1e-300), [1, 0, 0, 0]), (dict(temperature=1e300), [.25]*4),
    (dict(temperature=.5), [.25/.365, .09/.365, .0225/.365, .0025/.365]), (dict(temperature=.5, top_k=2), [.25/.34, .09/.34, 0, 0]),
    (dict(temperature=.5, top_p=.7), [.25/.34, .09/.34, 0, 0]), (dict(top_k=2, top_p=.6), [1, 0, 0, 0])])
def test_word_probs(controls, want):
    for order in ([0,1,2,3], [3,1,0,2]):
        got = word_probs(probs(.5, .3, .15, .05)[:,order], **controls)
        assert got[0].tolist() == pytest.approx([want[i] for i in order], abs=1e-6)


def test_controls_look_at_each_row_alone():
    a, b = probs(.5, .3, .15, .05), probs(.05, .05, .05, .85)
    for c in [dict(top_k=2), dict(top_p=.6), dict(min_p=.5), dict(temperature=0), dict(temperature=.5)]:
        assert torch.equal(word_probs(torch.cat([a, b]), **c), torch.cat([word_probs(a, **c), word_probs(b, **c)]))


def test_top_k_is_k_among_equals():
    for k in (1, 2, 3): assert word_probs(torch.zeros(2,4), top_k=k).count_nonzero(1).tolist() == [k, k]


def test_all_of_a_large_vocabulary_is_all():
    logits = torch.randn(2, 60_008, generator=torch.Generator().manual_seed(1))*3
    torch.testing.assert_close(word_probs(logits, top_p=1., min_p=0., top_k=60_008), word_probs(logits), atol=1e-7, rtol=1e-5)
    assert word_probs(logits, top_p=1.).count_nonzero() == word_probs(logits).count_nonzero()


def test_banned_words_stay_banned():
    logits = probs(.5, .3, .15, .05)
    logits[:,0] = -torch.inf
    for c in [{}, dict(temperature=0), dict(temperature=1e300), dict(temperature=1e-300), dict(top_k=3), dict(top_k=4), dict(top_p=.999),
        dict(top_p=1), dict(min_p=0)]:
        p = word_probs(logits, **c)
        assert p[0,0] == 0 and p.sum().item() == pytest.approx(1)


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
@pytest.mark.parametrize('temperature', [0, 1.])
def test_a_network_that_diverged(lm, bad, temperature):
    lm = biased(lm, the=bad)
    with pytest.raises(ValueError, match='no finite numbers') as e: lm.generate('a', temperature=temperature)
    assert '\n' not in str(e.value)


def test_draw_over_blocks():
    weights = torch.randn(40, 60_008, generator=torch.Generator().manual_seed(1)).mul(3).exp()
    weights[:, 5000:6000] = 0
    weights[3, :60_000] = 0
    u = torch.rand(40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for u in (u, u*0, u*0 + 1 - 2**-53, u*1e-9):
        ids, cdf = draw(weights, u), weights.double().cumsum(1)
        assert (weights.gather(1, ids[:,None]) > 0).all()
        point, ends = (u*cdf[:,-1])[:,None], cdf.gather(1, ids[:,None])
        assert (point < ends*(1+1e-6)).all() and (point >= (ends - weights.gather(1, ids[:,None]))*(1-1e-6)).all()


def test_draw_over_blocks_has_the_right_shares():
    p = torch.rand(1, 700, generator=torch.Generator().manual_seed(1))**4
    ids = draw(p.expand(200_000, -1), torch.rand(200_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    assert agree(ids.bincount(minlength=700).numpy(), p[0].double().numpy())


def test_draw_never_takes_what_cannot_be():
    p = torch.tensor([[0., .5, 0., .5, 0.]]).expand(4, -1)
    assert draw(p, torch.tensor([0., .4999, .5, 1-2**-53], dtype=torch.float64)).tolist() == [1, 1, 3, 3]
    big = word_probs(torch.randn(1, 60_008, generator=torch.Generator().manual_seed(1)))
    assert draw(big, torch.tensor([1-2**-53], dtype=torch.float64)).item() < 60_008


@pytest.mark.parametrize('controls, at_most', [(dict(top_k=3), 3), (dict(top_p=.5), None), (dict(min_p=.3), None)])
def test_controls_reach_the_reviews(lm, controls, at_most):
    allowed = word_probs(torch.from_numpy(after(lm, lm.encode('the movie').tolist())).log()[None].float(), **controls)[0]
    allowed = {lm.vocab[i] for i in allowed.nonzero()[:,0]}
    first = {w for d in lm.generate('the movie', n_words=1, n=400, raw=True, seed=1, **{**FREE, **controls}) for w in words_of(d, 'the movie')}
    assert first == allowed - {BOS, PAD}
    assert at_most is None or len(allowed) == at_most


def test_repetition_penalty(lm):
    def used(**c): return [len(set(words_of(r, 'the'))) for r in lm.generate('the', n_words=30, n=20, stop=False, raw=True, seed=2, **c)]
    assert used() == used(repetition_penalty=1.)
    assert sum(used(repetition_penalty=3.)) > 1.2*sum(used())
    assert sum(used(repetition_penalty=.3)) < .8*sum(used())


@pytest.mark.parametrize('shift', [0., -20., 20.], ids=['mixed', 'below 0', 'above 0'])
@pytest.mark.parametrize('penalty', [1.5, .5])
def test_repetition_penalty_by_hand(lm, penalty, shift):
    lm = biased(lm)
    lm.net.decoder.bias += shift
    ids, new, u = lm.encode('the movie is').tolist(), [], noise(1, 0, 0, 40)
    for o in u:
        with torch.no_grad(): logits = lm.net.decoder(lm.net(torch.tensor([ids+new]))[0][0,-1])
        for i in set(ids+new): logits[i] = logits[i]/penalty if logits[i] > 0 else logits[i]*penalty
        logits[0] = -torch.inf
        new.append(draw(logits.softmax(0)[None], torch.tensor([o])).item())
    assert written(lm, [torch.tensor(ids)], [u], banned=[0], repetition_penalty=penalty, stop=False) == [new]


@pytest.mark.parametrize('penalty', [1., 2.])
def test_the_reviews_that_end_change_nothing_for_the_others(lm, monkeypatch, penalty):
    lm = biased(lm, xxbos=2.)
    def write(): return lm.generate(['the movie', 'a', 'very good'], n_words=30, n=10, seed=2, repetition_penalty=penalty)
    together = write()
    assert len({len(r) for o in together for r in o}) > 10
    monkeypatch.setattr(gen, 'ROWS', 1)
    assert together == write()


def test_no_unk(lm):
    lm = biased(lm, xxunk=5.)
    assert UNK in ' '.join(lm.generate('the', n_words=20, n=10, seed=1, no_unk=False, raw=True))
    for c in [{}, dict(temperature=0), dict(temperature=100.), dict(top_k=1), dict(top_k=64), dict(repetition_penalty=2.), dict(repetition_penalty=.2)]:
        assert UNK not in ' '.join(lm.generate('the', n_words=40, n=10, seed=1, raw=True, **c))


def test_stop(lm):
    lm = biased(lm, xxbos=4.)
    prompts, u = [lm.encode('the movie')]*40, [noise(1, 0, j, 30) for j in range(40)]
    on, stopped = (written(lm, prompts, u, stop=stop) for stop in (False, True))
    bos = lm.o2i[BOS]
    assert [len(o) for o in on] == [30]*40
    assert stopped == [o[:o.index(bos)] if bos in o else o for o in on]
    assert {len(o) for o in stopped} > {0, 1, 2}
    for r in lm.generate('the movie', n_words=30, n=40, seed=1) + lm.generate('', n_words=30, n=40, seed=1, raw=True): assert BOS not in r
    assert lm.generate('the movie', n=3, temperature=0) == ['the movie']*3
    assert lm.generate('', n=3, temperature=0) == ['']*3


@pytest.mark.parametrize('n_words', [1, 2, 25])
def test_n_words_counts_tokens(lm, n_words):
    lm = biased(lm, {BOS: -50, PAD: -50, 'xxmaj': 2., "n't": 2., '.': 2., '\n\n': -50})
    for prompt in ('', 'The movie', 'A GREAT story!!!'):
        for r in lm.generate(prompt, n_words=n_words, n=5, raw=True, seed=1):
            assert len(r.split()) == n_words + len([t for t in tokenize([prompt])[0] if t != BOS])


def test_raw_and_readable_are_the_same_review(lm):
    for prompt in PROMPTS[1:12]:
        for raw,text in zip(lm.generate(prompt, n=3, seed=8, raw=True), lm.generate(prompt, n=3, seed=8)):
            tokens = tokenize([prompt])[0]
            assert text == join_review(prompt, tokens, words_of(raw, prompt))


# ---- words that may not be, reviews that may not end

def test_banned(lm):
    allowed = lm.generate('the', n_words=30, n=10, seed=1, raw=True)
    assert any('good' in words_of(r, 'the') for r in allowed)
    for banned in (['good'], ['GOOD', 'Good'], ['good', 'movie', 'zyzzyva']):
        for c in [{}, dict(temperature=0), dict(top_k=1), dict(repetition_penalty=.2), dict(stop=False)]:
            assert not any('good' in words_of(r, 'the') for r in lm.generate('the', n_words=30, n=10, seed=1, raw=True, banned=banned, **c))
    assert lm.generate('the', n_words=30, n=10, seed=1, raw=True, banned=[]) == allowed


@pytest.mark.parametrize('banned, match', [('good', "banned='good' cannot be: it must be a list"), (3, 'banned=3 '), (None, 'banned=None '), ([3], r'banned=\[3\] '),
    (["don't"], r"banned=\"don't\" cannot be: it is 2 tokens \(do n't\)"), ([''], 'it is 0 tokens'), (['very good'], 'it is 2 tokens')])
def test_banned_that_cannot_be(lm, banned, match):
    with pytest.raises(ValueError, match=match) as e: lm.generate('the', banned=banned)
    assert '\n' not in str(e.value)


def test_no_word_is_left(lm, words):
    only = [w for w in words if w not in (UNK, BOS)]
    for c in [dict(banned=words), dict(banned=[w for w in words if w != UNK]), dict(banned=only, min_words=1)]:
        with pytest.raises(ValueError, match='no word is left to choose.*ban fewer') as e: lm.generate('the', **c)
        assert '\n' not in str(e.value)
    assert lm.generate('the', banned=only) == ['the']
    assert lm.generate('the', banned=words[1:], no_unk=False, n_words=2, raw=True) == ['the xxunk xxunk']


def test_min_words(lm):
    lm = biased(lm, xxbos=6.)
    def lengths(**c): return [len(words_of(r, 'the')) for r in lm.generate('the', n_words=20, n=30, seed=1, raw=True, banned=[PAD], **c)]
    assert min(lengths()) == 0
    assert min(lengths(min_words=7)) == 7 and lengths(min_words=20) == [20]*30
    assert set(lengths(min_words=4, temperature=0)) == {4}


# ---- a full batch

@pytest.mark.parametrize('rows', [1, 3, 8])
def test_the_batch_stays_full(lm, monkeypatch, rows):
    lm = biased(lm, xxbos=3.)
    monkeypatch.setattr(gen, 'ROWS', rows)
    writing = gen.Writing(lm, ['the movie', 'a'], n=20, n_words=40, seed=3)
    steps, ended = [], 0
    for touched in writing.steps():
        steps.append(len(touched))
        assert len(touched) == min(rows, 40 - ended)
        ended += sum(r.ended for r in touched)
    assert ended == 40 and len(steps) < 1.2*sum(len(r.new)+1 for r in writing.in_order())/rows + 40


def test_memory_does_not_grow_with_the_reviews(lm, monkeypatch):
    monkeypatch.setattr(gen, 'ROWS', 8)
    alive = weakref.WeakSet()
    class Counted(Row):
        def __init__(self, *args):
            super().__init__(*args)
            alive.add(self)
    monkeypatch.setattr(gen, 'Row', Counted)
    writing = gen.Writing(biased(lm, xxbos=3.), ['the movie'], n=400, n_words=20, seed=3)
    most = max(len(alive) for _ in writing.in_order())
    assert most <= 20*8


@pytest.mark.skipif(not has_int8(), reason='needs an x86 processor')
def test_int8_writes_the_same_in_any_company(model_folder, monkeypatch):
    lm = load_lm(model_folder, precision='int8')
    many = lm.generate(['the movie', 'a'], n=8, n_words=12, seed=2)
    for rows in (1, 5):
        monkeypatch.setattr(gen, 'ROWS', rows)
        assert lm.generate(['the movie', 'a'], n=8, n_words=12, seed=2) == many


def test_surprisal_of_what_is_written(lm):
    for c in [{}, dict(temperature=.3, top_k=5), dict(repetition_penalty=2.)]:
        writing = gen.Writing(lm, ['the movie'], n=5, n_words=12, seed=1, **c)
        for row in writing.in_order(scored=True):
            ids = row.ids.tolist()
            want = [-np.log(after(lm, ids + row.new[:k])[i]) for k,i in enumerate(row.new)]
            assert row.surprisal == pytest.approx(want, abs=1e-4)


# ---- piece by piece

@pytest.mark.parametrize('controls', [{}, dict(n=5), dict(raw=True), dict(n=3, raw=True), dict(temperature=0), dict(min_words=5, banned=['good'])])
def test_pieces_add_up_to_the_reviews(lm, controls):
    lm = biased(lm, xxmaj=2., xxrep=1., xxbos=1.)
    for prompt in PROMPTS[:16]:
        reviews, texts = lm.generate(prompt, n_words=20, seed=3, **controls), {}
        for o in lm.stream(prompt, n_words=20, seed=3, **controls):
            i, piece = o if controls.get('n') else (0, o)
            texts[i] = texts.get(i, '') + piece
        assert [texts[i] for i in range(len(reviews))] == reviews


def test_streams_of_several_prompts(lm):
    pieces, texts = list(lm.stream(PROMPTS, n_words=9, n=2, seed=3)), ['']*2*len(PROMPTS)
    for i,piece in pieces: texts[i] += piece
    assert texts == sum(lm.generate(PROMPTS, n_words=9, n=2, seed=3), [])
    assert [i for i,_ in pieces] != sorted(i for i,_ in pieces)
    assert list(lm.stream([])) == []
    assert ''.join(stream(lm, seed=1)) == ''.join(lm.stream(seed=1)) == lm.generate(seed=1)[0]
    assert ''.join(o for _,o in lm.stream(['the'], seed=1)) == lm.generate('the', seed=1)[0]


def test_a_stream_comes_as_it_is_made(lm, monkeypatch):
    steps = []
    def step(*args): return steps.append(1) or type(lm.net).step(lm.net, *args)
    monkeypatch.setattr(lm.net, 'step', step, raising=False)
    pieces = lm.stream('the movie', n_words=30, stop=False, seed=1, banned=['xxmaj', 'xxup', 'xxrep', 'xxwrep', BOS, PAD, 'xxfake'])
    assert next(pieces) == 'the movie' and len(steps) <= 1
    next(pieces), next(pieces)
    assert len(steps) <= 4


def test_what_cannot_be_streamed(lm):
    with pytest.raises(ValueError, match='n_words=0'): lm.stream('the', n_words=0)
    with pytest.raises(TypeError, match='is no prompt'): lm.stream(None)


# ---- prompts

def test_what_comes_back(lm):
    assert len(lm.generate('the', n=3)) == 3
    assert [len(o) for o in lm.generate(['the', 'a'], n=3)] == [3, 3]
    assert lm.generate([]) == []
    assert len(lm.generate(('the', 'a'))) == len(lm.generate(iter(['the', 'a']))) == 2
    assert lm.generate(np.array(['the', 'a']), seed=1) == lm.generate(['the', 'a'], seed=1)


odd = st.lists(st.sampled_from([*SPECIAL_TOKENS, 'the', 'I', "don't", 'MOVIE', 'xxfake', '"', '(', '3', '!!!', '\n', '\n\n', ' ', '  ', '\t', '\r\n',
    '<br />', '&amp;',
                                '▁', '\u2028', '\x00', '\x1f', 'é', '你好', '🎬', 'ﬁ', 'İ', 'ß']) | st.text(max_size=8), max_size=12).map(''.join)
often = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


@often
@given(odd, st.sampled_from(['', ' ', '\n', '\t ']))
@example('Why? ', '').via('a space at the end')
@example('xxmaj xxrep 30000000', ' ').via('a repeat that is not over')
def test_prompts_come_back_as_they_were_typed(lm, prompt, end):
    for r in lm.generate(prompt + end, n_words=4, n=2, seed=1): assert r.startswith(prompt + end)
    if prompt: assert not lm.generate(prompt + ' ', n_words=3, temperature=0)[0][len(prompt)+1:].startswith(' ')


def test_a_space_between_prompt_and_review(lm):
    want = {'movie': 'the movie', '.': 'the.', "n't": "then't", ')': 'the)', '(': 'the ('}
    for word,text in want.items(): assert biased(lm, {word: 50.}).generate('the', n_words=1) == [text]
    assert biased(lm, movie=50.).generate('the ', n_words=1) == ['the movie']
    assert biased(lm, movie=50.).generate('the\n', n_words=1) == ['the\nmovie']
    assert biased(lm, movie=50.).generate('', n_words=1) == ['movie']
    assert biased(lm, {'movie': 50.}).generate('(', n_words=1) == ['(movie']
    assert biased(lm, {'"': 50.}).generate('a "good', n_words=1) == ['a "good"']


@pytest.mark.parametrize('prompt', ['the movie is good '*25_000, 'xxbos xxrep '*50_000, '('*100_000, 'the\n'*50_000, 'a'*100_000],
                         ids=['phrase', 'tokens', 'brackets', 'lines', 'letters'])
def test_long_prompts(lm, prompt):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    review, = lm.generate(prompt, n_words=5, seed=1)
    assert review.startswith(prompt)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000 # KB


# ---- settings that cannot be

@pytest.mark.parametrize('name, values', [
    ('n', [0, -1, 1.5, True, None, '2']), ('n_words', [0, -1, 1.5, None, '2', True, 10**400]), ('temperature', [-1, float('nan'), float('inf'), None, '1', 1j]),
    ('top_p', [2, 0, -1, float('nan'), '1', True]), ('top_k', [0, -1, 1.5, '3', True]), ('min_p', [2, -1, float('nan'), '0']),
    ('repetition_penalty', [0, -1, float('nan'), float('inf'), 10**400, None, '1']), ('seed', [-1, 1.5, '1', True]), ('min_words', [-1, 71, 1.5, None]),
    ('guidance_scale', [-1, 0, 101, None, float('nan')])])
def test_settings_that_cannot_be(lm, name, values):
    for v in values:
        with pytest.raises(ValueError, match=f'^{name}=.* cannot be: it must be ') as e: lm.generate('the', **{name: v})
        assert '\n' not in str(e.value)


def test_the_sentence_says_what_can_be(lm):
    with pytest.raises(ValueError, match='^top_p=2 cannot be: it must be None or a number above 0 and at most 1$'): lm.generate('the', top_p=2)


@pytest.mark.parametrize('prompts', [None, 5, b'the', [b'the'], ['the', None], [1], [['the']], {1: 'a'}])
def test_prompts_that_are_none(lm, prompts):
    with pytest.raises(TypeError, match='is no prompt: prompts is a str or a list of str') as e: lm.generate(prompts)
    assert '\n' not in str(e.value)


def test_half_a_character_is_no_prompt(lm):
    with pytest.raises(ValueError, match='surrogate'): lm.generate('\ud83c')


@pytest.mark.filterwarnings('error')
def test_numbers_of_other_kinds(lm):
    a = lm.generate('the', n=np.int64(2), n_words=np.int32(5), temperature=np.float16(.75), top_k=np.uint8(40), top_p=np.float64(.9), min_p=Fraction(1, 100),
                    repetition_penalty=Fraction(3, 2), seed=np.int64(3), min_words=np.int8(2))
    assert a == lm.generate('the', n=2, n_words=5, top_k=40, top_p=.9, min_p=.01, repetition_penalty=1.5, seed=3, min_words=2)


def test_small_numbers_of_numpy_do_not_overflow(lm):
    "30 prompts of 20 reviews are 600, more than 8 bits hold"
    assert [len(o) for o in lm.generate(['the']*30, n=np.uint8(20), n_words=1, seed=1)] == [20]*30


def test_settings_are_what_json_can_hold(lm):
    writing = gen.Writing(lm, 'the', temperature=np.float32(.5), top_k=np.int64(9), n_words=np.int64(5), min_p=Fraction(1, 4), stop=np.bool_(False),
                          banned=(w for w in ['good']))
    assert json.loads(json.dumps(writing.settings)) == dict(n_words=5, min_words=0, temperature=.5, top_k=9, top_p=None, min_p=.25, repetition_penalty=1.,
        guidance_scale=1., stop=False, no_unk=True, banned=['good'], raw=False, label=None)
    assert writing.prompts == ['the'] and 'good' not in ' '.join(map(writing.text, writing.in_order()))


@pytest.mark.parametrize('controls', [dict(temperature=-1), dict(temperature=float('nan')), dict(top_k=0), dict(top_p=0), dict(top_p=2), dict(min_p=-1), dict(min_p=2)])
def test_probabilities_that_cannot_be_asked_for(controls):
    with pytest.raises(ValueError, match=f'{next(iter(controls))}=.* cannot be'): word_probs(probs(.5, .3, .2), **controls)


def test_threads(lm):
    "Several at a time write what each writes alone"
    def write(seed): return lm.generate(['the movie', 'a'], n=3, n_words=12, seed=seed)
    with ThreadPoolExecutor(4) as pool: assert list(pool.map(write, range(8))) == [write(o) for o in range(8)]
