"""The picture of a text: probabilities that are right, HTML that is whole."""
import math
from html.parser import HTMLParser

import numpy as np
import pytest

from imdb_lm.model import AWDLSTM, LanguageModel
from imdb_lm.picture import bets, show_surprisal
from imdb_lm.tokens import tokenize

TEXT = 'The movie, "Zyzzyva" <i>was</i> great & bad.\n\nI do not like this terrible movie'


def test_bets_are_the_models(lm):
    found = bets(lm, TEXT)
    assert [t for t,_,_ in found] == tokenize([TEXT])[0][1:]
    assert [-math.log(p) for _,p,_ in found] == pytest.approx([o for _,o in lm.surprisal(TEXT)], rel=1e-4, abs=1e-5)
    probs = lm.next_word('The movie')
    best = bets(lm, 'The movie was')[-1][2]
    assert [w for w,_ in best] == [lm.vocab[i] for i in probs.topk(5).indices]
    assert [p for _,p in best] == pytest.approx(probs.topk(5).values.tolist(), rel=1e-4)


def test_a_long_text_in_pieces(lm):
    text = 'the movie was great and bad ' * 60
    assert [-math.log(p) for _,p,_ in bets(lm, text)] == pytest.approx([o for _,o in lm.surprisal(text)], rel=1e-3, abs=1e-4)


class Reader(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.tips, self.text = [], [], [], ''
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, sorted(k for k,_ in attrs)))
        self.tips += [v for k,v in attrs if k == 'title']
        if tag != 'br': self.open.append(tag)

    def handle_endtag(self, tag): assert self.open.pop() == tag

    def handle_data(self, data): self.text += data


@pytest.mark.parametrize('text', [TEXT, '<script>alert(1)</script>', '" onmouseover="x', "' & &amp; &lt;", 'a\n\n\n\nb', '</div></span>', 'xxunk xxbos'])
def test_html_is_whole(lm, text):
    html = Reader(show_surprisal(lm, text))
    assert {tag for tag,_ in html.seen} <= {'div', 'span', 'br'} and all(attrs in ([], ['style'], ['style', 'title']) for _,attrs in html.seen)
    assert html.open == []
    assert html.text.replace('↵', '').split() == [t for t in tokenize([text])[0][1:] if t.strip()]
    assert len(html.tips) == len(tokenize([text])[0]) - 1
    assert all(len(o.split('\n')) == 7 for o in html.tips)


def test_tags_in_a_token(lm, monkeypatch):
    monkeypatch.setattr('imdb_lm.picture.tokenize', lambda texts: [['xxbos', '<img src=x onerror=alert(1)>', '</span>', '"']])
    html = Reader(show_surprisal(lm, 'these'))
    assert {tag for tag,_ in html.seen} == {'div', 'span'} and html.open == [] and html.text == '<img src=x onerror=alert(1)> </span> "'


def test_surprise_has_a_colour(words, config):
    net = AWDLSTM(len(words), **config).eval()
    for p in net.parameters(): p.data.zero_()
    lm = LanguageModel(net, words, config)
    assert f', {.6*math.log(64, 1000):.2f})' in show_surprisal(lm, 'a') # one of 64 words that are equally likely
    net.decoder.bias.data[lm.o2i['a']] = 50.
    html = show_surprisal(lm, 'a the zyzzyva')
    assert [o.split(')')[0] for o in html.split('rgba(')[1:]] == ['232, 93, 48, 0.00', '232, 93, 48, 0.60', '232, 93, 48, 0.60']
    assert html.count('underline') == 1 and 'zyzzyva: 0.00%, as xxunk' in html
    assert 'color:' not in html.replace('background:', '')
    assert html._repr_html_() == html


def test_how_many_bets(lm):
    for k,n in ((1, 1), (np.int64(3), 3), (10**30, len(lm.vocab))): assert [len(best) for _,_,best in bets(lm, 'the movie', k)] == [n, n]
    for k in (0, -1, 1.5, None, True):
        with pytest.raises(ValueError, match=f'k={k} cannot be'): bets(lm, 'the movie', k)


@pytest.mark.parametrize('text', ['', ' ', '\n'])
def test_nothing_to_show(lm, text):
    with pytest.raises(ValueError, match='no words to show'): show_surprisal(lm, text)


def test_weights_that_are_no_numbers(words, config):
    net = AWDLSTM(len(words), **config).eval()
    net.decoder.bias.data[3] = math.nan
    with pytest.raises(ValueError, match='no finite numbers'): show_surprisal(LanguageModel(net, words, config), 'the')
