"The bundled reviews: what the folder holds, that it is the same everywhere, and what happens when something is in the way."
import hashlib, json, re, shutil
from collections import Counter
import pytest
from imdb_lm import mini
from imdb_lm.mini import Writer, mini_grammar, mini_reviews, mini_texts, parse_grammar, review_words, tidy, write_review

DIGEST = 'a555fc4ad07ca7ff2760e05601f0533b29e69c99c2abae5eabd1b41dc81b3792'
COUNTS = {'train/pos': 250, 'train/neg': 250, 'test/pos': 250, 'test/neg': 250, 'unsup': 1000}

def digest(path):
    "sha256 over names and bytes of all reviews, in sorted order."
    h = hashlib.sha256()
    for p in sorted(path.rglob('*.txt'), key=lambda p: p.relative_to(path).as_posix()):
        h.update(p.relative_to(path).as_posix().encode() + b'\0' + p.read_bytes() + b'\0')
    return h.hexdigest()

@pytest.fixture
def few(monkeypatch):
    "A corpus of 16 reviews, where the texts do not matter; what its files hold."
    folders = {'train/pos': 2, 'train/neg': 2, 'test/pos': 2, 'test/neg': 2, 'unsup': 8}
    monkeypatch.setattr(mini, '_folders', folders)
    return dict(mini_texts(folders))

def texts(path): return {p.relative_to(path).as_posix(): p.read_text(encoding='utf-8') for p in path.rglob('*.txt')}

def states(path): return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in path.rglob('*')}

@pytest.fixture(scope='module')
def corpus(tmp_path_factory): return mini_reviews(tmp_path_factory.mktemp('mini')/'mini_reviews')

@pytest.fixture(scope='module')
def reviews(corpus): return texts(corpus)

@pytest.fixture(scope='module')
def sections(): return parse_grammar(mini_grammar())[0]

# ---------------------------------------------------------------- the grammar

def heads(rules, name):
    "Everything that may stand before the colon in `{name:...}`."
    if name not in rules: return {name}
    found = set()
    for option in rules[name]:
        ref = re.fullmatch(r'\{(.+?)\}', option)
        found |= set().union(*(heads(rules, o) for o in targets(rules, ref[1]))) if ref else {option}
    return found

def targets(rules, ref):
    "The sections that a reference may lead to."
    head, _, tail = ref.partition(':')
    return {f'{h}:{tail}' for h in heads(rules, head)} if tail else {ref}

def test_every_section_is_defined_and_used(sections):
    used = {'opening', 'start', 'point', 'closing', 'rating'}
    for options in sections.values():
        for ref in re.findall(r'\{(.+?)\}', ' '.join(options)): used |= targets(sections, ref) | {ref.partition(':')[0]} & sections.keys()
    assert used - sections.keys() == set()
    assert sections.keys() - used == set()

def test_every_alternative_is_well_formed(sections):
    for name, options in sections.items():
        assert all(options) and options, f'[{name}] has an empty alternative'
        assert not set(re.sub(r'\{[a-z0-9 :]+\}', '', ' '.join(options))) & set('{}|[]*')

def test_grammar_is_large(sections):
    assert len(sections) > 400 and sum(map(len, sections.values())) > 5000

def test_pack_deals_everything_before_repeating():
    writer = Writer(({'x': list('abcde')}, set()))
    dealt = [writer.deal('x') for _ in range(50)]
    assert all(sorted(dealt[i:i+5]) == list('abcde') for i in range(0, 50, 5))
    assert all(a != b for a, b in zip(dealt, dealt[1:]))
    assert len({tuple(dealt[i:i+5]) for i in range(0, 50, 5)}) > 1

@pytest.mark.parametrize('text,want', [
    ('a apple', 'An apple'), ('an pear', 'A pear'), ('a hour', 'An hour'), ('a heir', 'An heir'), ('a unicorn', 'A unicorn'), ('a unit', 'A unit'),
    ('a uninspired one', 'An uninspired one'), ('a usurper', 'A usurper'), ('a ugly usher', 'An ugly usher'), ('a European', 'A European'),
    ('a one-eyed owl', 'A one-eyed owl'), ('a 11', 'An 11'), ('a 80s film', 'An 80s film'), ('a 1', 'A 1'), ('a "owl"', 'An "owl"'),
    ('no. a "yes." (no!) so', 'No. A "yes." (No!) So'), ('is it? "it is!" yes', 'Is it? "It is!" Yes'), ('x.<br /><br />y', 'X.<br /><br />Y'), ('', '')])
def test_tidy(text, want): assert tidy(text) == want

# ---------------------------------------------------------------- what the folder holds

def test_layout(corpus, reviews):
    assert Counter(name.rpartition('/')[0] for name in reviews) == COUNTS
    assert json.loads((corpus/'about.json').read_text())['reviews'] == COUNTS
    assert {p.name for p in corpus.iterdir()} == {'train', 'test', 'unsup', 'about.json'}

def test_ratings_fit_folders(reviews):
    allowed = {'pos': {7, 8, 9, 10}, 'neg': {1, 2, 3, 4}, 'unsup': {0}}
    seen = {kind: set() for kind in allowed}
    for name, text in reviews.items():
        folder, number, rating = re.fullmatch(r'(.+)/(\d+)_(\d+)\.txt', name).groups()
        kind = folder.rpartition('/')[2]
        seen[kind].add(int(rating))
        assert int(number) < COUNTS[folder]
        if rating != '0': assert {rating}.issuperset(re.findall(r'\b(\d+)(?:/10\b| out of 10\b)', text)), name
    assert seen == allowed

def test_unsup_is_half_praise_half_blame(reviews):
    graded = [int(g) for name, text in reviews.items() if 'unsup' in name for g in re.findall(r'\b(\d+)(?:/10\b| out of 10\b)', text)]
    assert .4 < sum(g > 5 for g in graded)/len(graded) < .6

def test_reviews_are_clean(reviews):
    for name, text in reviews.items():
        assert not re.search(r'[{}|\[\]*\n]|  | / |[,.]\.| [,.;:!?]|<(?!br /><br />|br />)', text), name
        assert re.match(r'["(]*[A-Z0-9]', text) and text[-1] in '.!?")', name

def test_no_two_reviews_are_equal(reviews): assert len(set(reviews.values())) == len(reviews) == 2000

def test_lengths_have_the_shape_of_imdb(reviews):
    words = sorted(len(text.split()) for text in reviews.values())
    ratios = [words[int(q*len(words))]/imdb for q, imdb in ((.1, 89), (.5, 175), (.9, 455), (.99, 932))]
    assert all(abs(r/.5 - 1) < .1 for r in ratios), ratios

def test_tokens_and_vocabulary(reviews):
    from fastai.text.core import TokenizeWithRules, WordTokenizer
    count = Counter(t for doc in TokenizeWithRules(WordTokenizer())(list(reviews.values())) for t in doc)
    assert count.total() >= 250_000
    assert sum(n >= 3 for n in count.values()) >= 3000
    assert {'xxup', 'xxmaj', 'xxrep', 'n\'t', '"', '(', ';', '-'} <= count.keys()

@pytest.mark.parametrize('start', ['I like this movie because', 'This movie is terrible', 'This movie has great action'])
def test_prompts_have_many_continuations(reviews, start):
    follow = [m[1] for text in reviews.values() for m in re.finditer(start + '(.{30})', text)]
    assert len(follow) >= 80 and len(set(follow)) >= 60

def test_no_noun_has_two_articles(reviews):
    assert not [m[0] for text in reviews.values() for m in re.finditer(r'\b(an?|the|my|your|his|her|our|their) (an?|the) \w+', text, re.I)]

def test_sentences_vary(reviews):
    sentences = [s for text in reviews.values() for s in re.split(r'(?<=[.!?])\s+|<br /><br />', text)]
    assert len(set(sentences)) > .6*len(sentences)

def test_sentiment_can_be_learned(reviews):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    def part(name): return zip(*((text, 'pos' in n) for n, text in sorted(reviews.items()) if n.startswith(name)))
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10)).fit(*part('train'))
    assert model.score(*part('test')) > .9

# ---------------------------------------------------------------- the same everywhere

def test_same_bytes_everywhere(corpus, tmp_path):
    assert digest(corpus) == digest(mini_reviews(tmp_path/'again')) == DIGEST

def test_other_seed_other_reviews():
    few = {'unsup': 3}
    assert dict(mini_texts(few, seed=1)) == dict(mini_texts(few, seed=1)) != dict(mini_texts(few, seed=2))

@pytest.mark.parametrize('n_words', [30, 90, 300, 900])
def test_review_has_the_wanted_length(n_words):
    writer = Writer(parse_grammar(mini_grammar()))
    lengths = [len(write_review(writer, n_words, stance=s).split()) for s in ('pos', 'neg')*10]
    assert abs(sum(lengths)/len(lengths) - n_words) < 10

def test_review_words_grow():
    lengths = [review_words(i/1000) for i in range(1001)]
    assert lengths == sorted(lengths) and lengths[0] > 10 and lengths[-1] == 750

# ---------------------------------------------------------------- whole, or not at all

def test_second_call_rewrites_nothing(few, tmp_path):
    path = mini_reviews(tmp_path/'deep'/'er')
    before = states(path)
    assert mini_reviews(str(path)) == path
    assert states(path) == before and [p.name for p in path.parent.iterdir()] == ['er']

def test_default_is_fastais_data_folder(few, fastai_home):
    assert mini_reviews() == fastai_home/'data'/'mini_reviews'

def test_broken_build_leaves_nothing(few, tmp_path, monkeypatch):
    def dies(folders):
        for i, pair in enumerate(few.items()):
            if i == 7: raise OSError('No space left on device')
            yield pair
    monkeypatch.setattr(mini, 'mini_texts', dies)
    with pytest.raises(OSError, match='No space'): mini_reviews(tmp_path/'mini')
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(mini, 'mini_texts', mini_texts)
    assert texts(mini_reviews(tmp_path/'mini')) == few

def test_broken_rebuild_keeps_the_old_folder(few, tmp_path, monkeypatch):
    path = mini_reviews(tmp_path/'mini')
    (path/'unsup'/'0_0.txt').unlink()
    def dies(folders): raise KeyboardInterrupt
    monkeypatch.setattr(mini, 'mini_texts', dies)
    with pytest.raises(KeyboardInterrupt): mini_reviews(path)
    assert len(list(path.rglob('*.txt'))) == 15 and list(tmp_path.iterdir()) == [path]

@pytest.mark.parametrize('harm', ['missing', 'short', 'extra', 'edition', 'empty'])
def test_damaged_folder_is_made_again(few, tmp_path, harm):
    path, about = mini_reviews(tmp_path/'mini'), tmp_path/'mini'/'about.json'
    if harm == 'missing': next((path/'test'/'neg').iterdir()).unlink()
    if harm == 'short': (path/'unsup'/'5_0.txt').write_text('')
    if harm == 'extra': (path/'unsup'/'5000_0.txt').write_text('not ours')
    if harm == 'edition': about.write_text(about.read_text().replace('"edition": "', '"edition": "0'))
    if harm == 'empty': shutil.rmtree(path/'unsup')
    assert texts(mini_reviews(path)) == few
    assert list(tmp_path.iterdir()) == [path]

@pytest.mark.parametrize('name', ['note.txt', 'about.json', 'train/pos/0_9.txt'])
@pytest.mark.parametrize('content', ['{"made_by": "somebody else"}', '['*100_000])
def test_foreign_folder_is_refused(tmp_path, name, content):
    file = tmp_path/'mine'/name
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(ValueError, match='is not a corpus that mini_reviews made: choose another folder or move it away'): mini_reviews(tmp_path/'mine')
    assert file.read_text() == content and list(tmp_path.iterdir()) == [tmp_path/'mine']

def test_file_in_the_way_is_refused(tmp_path):
    (tmp_path/'mini').write_text('precious')
    with pytest.raises(ValueError, match='choose another folder'): mini_reviews(tmp_path/'mini')
    assert (tmp_path/'mini').read_text() == 'precious'

@pytest.mark.parametrize('name', ['notes/thesis.md', 'train/pos/mine.txt', 'models/best.pth', 'unsup/sub/1_0.txt'])
def test_what_somebody_put_beside_the_reviews_is_not_lost(few, tmp_path, name):
    path = mini_reviews(tmp_path/'mini')
    file = path/name
    file.parent.mkdir(exist_ok=True)
    file.write_text('precious')
    next((path/'test'/'neg').iterdir()).unlink()
    with pytest.raises(ValueError, match=f'{name} in it is not of mini_reviews: move it away'): mini_reviews(path)
    assert file.read_text() == 'precious'
    file.rename(tmp_path/'moved')
    assert texts(mini_reviews(path)) == few

def test_empty_folder_is_filled(few, tmp_path):
    (tmp_path/'mini').mkdir()
    assert texts(mini_reviews(tmp_path/'mini')) == few

def test_slower_process_is_harmless(few, tmp_path, monkeypatch):
    write = mini._write_corpus
    def overtaken(path):
        write(path)
        monkeypatch.setattr(mini, '_write_corpus', write)
        mini_reviews(tmp_path/'mini')
    monkeypatch.setattr(mini, '_write_corpus', overtaken)
    assert texts(mini_reviews(tmp_path/'mini')) == few
    assert list(tmp_path.iterdir()) == [tmp_path/'mini']

def test_tokens_of_an_older_edition_go_with_it(few, tmp_path):
    path, tok = mini_reviews(tmp_path/'mini'), tmp_path/'mini_tok'
    tok.mkdir()
    (tok/'note.txt').write_text('somebody else\'s')
    next((path/'unsup').iterdir()).unlink()
    mini_reviews(path)
    assert tok.exists() # no folder of fastai's tokens: left alone
    (tok/'counter.pkl').touch()
    next((path/'unsup').iterdir()).unlink()
    mini_reviews(path)
    assert not tok.exists()
