"""The model card: whatever the configuration and the report say, it is a page, and its commands can be typed."""
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from imdb_lm.card import card_samples, model_card, read_report, write_card
from imdb_lm.model import FILES, LanguageModel, load_lm, write_model

FIGURES = dict(reviews=1000, perplexity=66.6, stream_perplexity=65.4, bits_per_byte=1.5, accuracy=.26, unknown=.025)


@pytest.fixture
def folder(tmp_path, model_folder): return shutil.copytree(model_folder, tmp_path/'m')


def report(tmp_path, content):
    (tmp_path/'report.json').write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return tmp_path


@pytest.mark.parametrize('part', ['versions', 'data', 'recipe', 'metrics', 'dropouts', 'base'])
@pytest.mark.parametrize('value', [5, 'x', [1], {}, None, {'name': 3}, {'reviews': 'many', 'held_out': None}, {'frozen_epochs': 1}, {'perplexity': 'x'}, {'perplexity': 9.}])
def test_whatever_the_configuration_says(lm, part, value):
    page = model_card(LanguageModel(lm.net, lm.vocab, {**lm.config, part: value}), 'm')
    assert 'Not measured' in page and page.count('\n> ') == 3


@pytest.mark.parametrize('values, n', [([], 3), (['1'], 4), (['1', '10'], 5), (['1', '5', '10'], 5)])
def test_a_review_for_the_lowest_and_the_highest_label(lm, values, n):
    lm = LanguageModel(lm.net, lm.vocab, {**lm.config, 'label': dict(name='stars', values=values)})
    assert len(card_samples(lm, 'm')) == n
    assert ('It knows labels' in model_card(lm, 'm')) == bool(values)


@pytest.mark.parametrize('name', ['m', 'a b', "it's", '{x}', '$HOME'])
def test_commands_can_be_typed(lm, name):
    page = model_card(lm, name)
    commands = [o.strip('`') for o in page.splitlines() if o.lstrip('`').startswith('imdb_lm generate')]
    assert len(commands) == 4
    for o in commands: assert (args := shlex.split(o))[args.index('--model') + 1] == name


def test_the_samples_are_what_their_commands_print(lm):
    for command,text in card_samples(lm, 'm'):
        args = shlex.split(command)
        assert [text] == lm.generate(args[2], seed=int(args[args.index('--seed') + 1]))


def test_the_name_of_the_folder_one_is_in(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert write_card('.').name == 'README.md'
    page = (folder/'README.md').read_text(encoding='utf-8')
    assert '# m: a language model' in page and '--model m "I like' in page


def test_only_the_card_is_added(folder):
    (folder/'README.md').write_text('an old card')
    write_card(str(folder))
    assert sorted(o.name for o in folder.iterdir()) == sorted([*FILES, 'README.md'])
    assert 'an old card' not in (folder/'README.md').read_text(encoding='utf-8')


def test_where_the_weights_come_from(lm):
    "Each model before, and the conditions of IMDb, which stay"
    base = [dict(name='hf://me/first', data=dict(name='recipes')), dict(name='starter', data=dict(name='imdb', reviews=90_000, held_out=10_000)), dict(name='wt103')]
    card = model_card(LanguageModel(lm.net, lm.vocab, {**lm.config, 'data': dict(name='mine', reviews=9, held_out=1), 'base': base}), 'm')
    assert re.search('called `mine`.*the weights of `hf://me/first`. Its texts are called `recipes`.*the weights of `starter`. Movie reviews of IMDb.*for research.*the weights of `wt103`', card, re.S)
    assert 'IMDb' not in model_card(lm, 'm')
    card = model_card(LanguageModel(lm.net, lm.vocab, {**lm.config, 'data': dict(name='imdb', reviews=9, held_out=1), 'base': base[1:2]}), 'm')
    assert card.count('Movie reviews of IMDb') == 1 and 'weights of `starter`. It had read IMDb, too: 90,000 reviews, and 10,000 more held out' in card


@pytest.mark.parametrize('pretrained', [True, False])
def test_what_was_frozen(lm, pretrained):
    recipe = dict(frozen_epochs=1, frozen_lr=.02, epochs=1, lr=.002, pretrained=pretrained)
    assert ('the last layer frozen' in model_card(LanguageModel(lm.net, lm.vocab, {**lm.config, 'recipe': recipe}), 'm')) == pretrained


def test_a_full_disk_leaves_the_old_card_and_nothing_beside_it(folder, monkeypatch):
    (folder/'README.md').write_text('an old card')
    def full(path, *args, **kwargs):
        path.write_bytes(b'half')
        raise OSError('No space left on device')
    with monkeypatch.context() as m:
        m.setattr(Path, 'write_text', full)
        with pytest.raises(OSError, match='No space'): write_card(folder)
    assert sorted(o.name for o in folder.iterdir()) == sorted([*FILES, 'README.md']) and (folder/'README.md').read_text() == 'an old card'


def test_pages_are_left_alone():
    with pytest.raises(ValueError, match='page on the Hub: make the card in a model folder'): write_card('hf://me/model')


def test_figures_of_a_report(folder, tmp_path):
    page = write_card(folder, report(tmp_path, dict(command='imdb_lm evaluate m', figures=FIGURES))).read_text(encoding='utf-8')
    assert 'perplexity **66.6**' in page and '1,000 held-out reviews' in page and 'Made by `imdb_lm evaluate m`.' in page


@pytest.mark.parametrize('content', [b'', b'{', b'\xff', b'['*100_000, [], None, 5, {}, dict(figures=FIGURES), dict(command='x'), dict(command='x', figures={}), dict(command='x', figures=[]),
                                     dict(command='x', figures=None), *[dict(command='x', figures={**FIGURES, k: o}) for k in FIGURES for o in ('many', 10**400, float('nan'))]])
def test_reports_that_are_none(folder, tmp_path, content):
    for f in (read_report, lambda o: write_card(folder, o)):
        with pytest.raises(ValueError, match='report.json is damaged') as e: f(report(tmp_path, content))
        assert '\n' not in str(e.value)
    assert not (folder/'README.md').exists()


def test_no_report(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match='no report at'): write_card(folder, tmp_path)


def test_a_model_without_a_word_of_its_making(tmp_path, weights, words, config):
    page = write_card(write_model(tmp_path/'m', weights, words, config)).read_text(encoding='utf-8')
    assert 'Not measured' in page and 'Not written down.' in page and 'called `unknown`' in page and load_lm(tmp_path/'m')
