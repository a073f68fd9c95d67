"""Readable text: tokens become the text that they stand for, at once or piece by piece; prompts come back."""
import re

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from imdb_lm.mini import mini_texts
from imdb_lm.text import MAX_REP, Detokenizer, ReviewText, detokenize, join_review, unmark
from imdb_lm.tokens import SPECIAL_TOKENS, fix_html, tokenize

odd = st.lists(st.sampled_from([*SPECIAL_TOKENS, 'the', 'I', "don't", 'MOVIE', 'xxfake', '"', '(', '3', '!!!', '\n', '\n\n', ' ', '  ', '\t', '\r\n',
    '<br />', '&amp;',
                                '▁', '\u2028', '\x00', '\x1f', 'é', '你好', '🎬', 'ﬁ', 'İ', 'ß']) | st.text(max_size=8), max_size=12).map(''.join)
often = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tokens(s): return s.split(' ')


@pytest.mark.parametrize('marked, text', [
    ('xxrep 3 ! hello there', '!!! hello there'), ('xxrep 3 ! xxmaj hello xxrep 2 ? you', '!!! Hello?? you'), ('xxrep 3 !', '!!!'), ('xxrep 3', ''),
    ('xxrep', ''),
    ('xxwrep 3 no way out', 'no no no way out'), ('xxwrep 3 xxmaj no way', 'No No No way'), ('xxmaj xxwrep 3 no way', 'No No No way'),
    ('xxwrep 3', ''), ('xxwrep', ''),
    ('xxwrep 2 ha xxwrep 2 ho he', 'ha ha ho ho he'), ('xxrep 4 xxup b he', 'BBBB he'), ('xxup xxrep 4 b he', 'BBBB he'),
    ('xxmaj hello there', 'Hello there'), ('xxup hello there', 'HELLO there'), ('xxmaj xxmaj hello there', 'Hello there'), ('xxmaj', ''),
    ('xxup xxbos hello', 'HELLO'),
    ('xxbos xxmaj hello xxbos there xxpad xxfake it', 'Hello there it'), ('xxrep many a b', 'A B'), ('xxrep -3 a b', 'A B'), ('xxrep 0 a b', 'B'),
    ('xxrep ² a b', 'A B'),
    ('you xxmaj i i', 'you I I'), ("do n't stop", "don't stop"), ("it 's a film", "it's a film"), ("the actors ' work", "the actors' work"),
    ('he ca n\'t , can not', "he can't, cannot"),
    ('so - so film', 'so-so film'), ('3 / 10 stars', '3/10 stars'), ('( a film ) it', '(a film) it'), ('the " good " film', 'the "good" film'),
    ('" good " " bad " it', '"good" "bad" it'),
    ('$ 5 and 20 % off', '$5 and 20% off'), ('one . \n\n two', 'one.\n\ntwo'), ('one \n\n xxmaj two', 'one\n\nTwo'), ('', ''), ('. . .', '...'),
    ('a', 'A'), ('the', 'the')])
def test_detokenize(marked, text):
    assert detokenize(tokens(marked)) == text


def test_counts_are_bounded():
    assert detokenize(tokens('xxwrep 30000000 a b')).split() == ['A', *['a']*(MAX_REP-1), 'B']
    assert detokenize(tokens('xxrep 30000000 ! but')) == '!'*MAX_REP + ' but'
    assert detokenize(['xxrep', '9'*5000, '!', 'but']) == '!'*MAX_REP + ' but'


@pytest.mark.parametrize('text', [
    'I don\'t like "A Night in Lodz" (1954); it\'s a so-so film!!! SAD, isn\'t it? A 3/10.\n\nYou cannot win…',
    "The actors' work, they'll say, is \"great\".", '', 'I',
    'First paragraph.\n\nA second one: $5 & 20% off [really]', 'A film.', "He'd say; we're late & we've lost.",
    'She said: "it is." And "yes!" he said.', 'No no no!',
    'WOW!!!!!!!!!!', 'OK, ok… Ok?', 'A very very very long film', "Don't! Won't! Can't!", 'U.S. troops and Dr. Who', 'One\ntwo', 'the naïve, 你好', 'X, Y and I',
    'He said: "A dog barks." The "film" a man made.', "So i'm here, and i'll stay. So I'm here.", 'One\n two',
    'so cannot gonna gotta c\'mon im ive dont doesnt didnt isnt wasnt cant couldnt wont wouldnt arent havent werent hasnt shouldnt hadnt aint shant',
    'so thats whats whos wheres whens hows whys theres hes shes its lets'])
def test_text_comes_back(text): assert detokenize(tokenize([text])[0]) == text


@pytest.mark.parametrize('text', ['It is 10:30', '(Really?) Yes - no.', '"No." And "Yes!" he said.', "rock 'n' roll", 'a ; b', 'é, ü', '...and',
    'http://a.b/c?d=e', '5$ - 10%', 'd’oh'])
def test_text_comes_back_with_the_same_tokens(text):
    once = detokenize(tokenize([text])[0])
    assert detokenize(tokenize([once])[0]) == once


token = st.sampled_from([*SPECIAL_TOKENS, 'xxfake', '3', '100', '99999999999', '0', '²', '-1', '', ' ', '▁', '\n', '▁\n▁', '"', '``', "n't", "'s",
    'i', 'A', '.', '(', ')', 'can', 'not']) | st.text(max_size=5)


@often
@given(st.lists(token, max_size=40))
def test_any_tokens_make_a_text(tokens):
    text = detokenize(tokens)
    assert len(text) <= MAX_REP*sum(3*len(t)+1 for t in tokens)
    assert not {'xxmaj', 'xxup', 'xxrep', 'xxwrep', 'xxbos', 'xxpad'} & (set(text.split()) - {t for o in tokens for t in o.split() if t != o})
    assert unmark(tokens) is not tokens


@often
@given(st.lists(token, max_size=20), st.lists(token, max_size=10))
def test_any_tokens_go_on_with_any_prompt(a, b):
    for prompt in (' '.join(a), 'x', ''): assert join_review(prompt, a, b).startswith(prompt)
    assert join_review('x', ['x'], []) == 'x'


@often
@given(odd)
def test_any_text_comes_back_as_a_text(text): assert len(detokenize(tokenize([text])[0])) <= MAX_REP*(3*len(text)+10)


@often
@given(st.lists(token, max_size=30))
def test_pieces_add_up(tokens):
    d = Detokenizer()
    assert ''.join(map(d.push, tokens)) + d.finish() == detokenize(tokens)
    for prompt in ('', 'x', 'x '):
        r = ReviewText(prompt, tokens[:5])
        assert r.begin + ''.join(map(r.push, tokens[5:])) + r.finish() == join_review(prompt, tokens[:5], tokens[5:])


@often
@given(st.lists(token, max_size=30))
def test_a_piece_is_never_taken_back(tokens):
    for i in range(len(tokens)):
        d = Detokenizer()
        assert detokenize(tokens).startswith(''.join(map(d.push, tokens[:i])))


def test_a_word_is_shown_one_token_later():
    d = Detokenizer()
    assert [d.push(t) for t in tokens('xxmaj the film xxmaj lodz xxrep 3 !')] == ['', '', 'The', ' film', '', ' Lodz', '', '']
    assert d.finish() == '!!!'


@pytest.mark.parametrize('marks', [['xxmaj', 'xxup'], ['xxbos', 'xxpad'], ['xxrep', '2', 'xxmaj', 'xxup']])
def test_many_marks_are_read_once(marks, monkeypatch):
    "Each token is looked at once when it comes, however many marks wait: the time grows with the text and not with its square"
    from imdb_lm import text
    asked, lacking = [], text._lacking
    monkeypatch.setattr(text, '_lacking', lambda *o: asked.append(1) or lacking(*o))
    tokens = marks*5000 + ['film', 'xxmaj', 'good']
    assert detokenize(tokens).lower().endswith('film good') and len(asked) == len(tokens)


def test_pushed_tokens_are_counted():
    review = ReviewText('The film', ['xxbos', 'xxmaj', 'the', 'film'])
    assert review.n == 0
    for t in ['is', 'xxup', 'bad']: review.push(t)
    assert review.n == 3


def test_a_str_is_no_list_of_tokens():
    with pytest.raises(TypeError, match='a list of tokens, found a str'): detokenize('xxmaj good')


def squashed(text): return re.sub(r'\s', '', text).lower()


def test_the_bundled_corpus_comes_back():
    "But for white space, and for capitals that the tokenizer does not mark"
    texts = [fix_html(t) for _,t in mini_texts({'train/pos': 150, 'train/neg': 150})]
    back = [detokenize(t) for t in tokenize(texts)]
    assert [squashed(t) for t in back] == [squashed(t) for t in texts]
    assert sum(a.lower() == b.lower() for a,b in zip(texts, back)) > .95*len(texts)
