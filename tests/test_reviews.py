"""A file of reviews: complete lines, gone on with where it ended, refused when it is another run's."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import command
from imdb_lm import reviews
from imdb_lm.generate import Writing
from imdb_lm.reviews import write_reviews

COMMAND = Path(sys.executable).with_name('imdb_lm')
PROMPTS = ['The movie', '', 'a "good" film, née Brontë']
HOW = dict(n=4, n_words=9, seed=3)


@pytest.fixture
def whole(lm, tmp_path): return write_reviews(lm, tmp_path/'whole.jsonl', PROMPTS, 'a1', **HOW).read_bytes()


def test_lines(lm, whole):
    lines = [json.loads(o) for o in whole.splitlines()]
    assert 'née Brontë' in whole.decode()
    assert [o['text'] for o in lines] == sum(lm.generate(PROMPTS, **HOW), [])
    assert [o['prompt'] for o in lines] == [p for p in PROMPTS for _ in range(4)]
    for o in lines:
        assert list(o) == ['prompt', 'text', 'seed', 'settings', 'model', 'surprisal']
        assert (o['seed'], o['model'], o['settings']['n_words'], o['settings']['precision']) == (3, 'a1', 9, 'fp32')
    for o,row in zip(lines, Writing(lm, PROMPTS, **HOW).in_order(scored=True), strict=True):
        assert o['surprisal'] == (round(np.mean(row.surprisal), 4) if row.new else None)


def test_broken_off_anywhere(lm, tmp_path, whole):
    for cut in [*range(0, len(whole), 97), len(whole)-1, len(whole)]:
        (tmp_path/'r').write_bytes(whole[:cut])
        write_reviews(lm, tmp_path/'r', PROMPTS, 'a1', resume=True, **HOW)
        assert (tmp_path/'r').read_bytes() == whole


def test_the_seed_is_that_of_the_file(lm, tmp_path, whole):
    how = {**HOW, 'seed': None}
    (tmp_path/'r').write_bytes(whole[:len(whole)//2])
    assert write_reviews(lm, tmp_path/'r', PROMPTS, 'a1', resume=True, **how).read_bytes() == whole
    assert write_reviews(lm, tmp_path/'new', PROMPTS, 'a1', resume=True, **how).read_bytes().count(b'\n') == 12


def test_more_reviews_of_one_prompt(lm, tmp_path):
    few, many = (write_reviews(lm, tmp_path/str(n), ['the'], 'a1', n=n, seed=1).read_bytes() for n in (3, 9))
    assert many.startswith(few)
    assert write_reviews(lm, tmp_path/'3', ['the'], 'a1', n=9, seed=1, resume=True).read_bytes() == many


@pytest.mark.parametrize('changes, match', [
    (dict(temperature=1.), r'line 1 has temperature=0.75, this run temperature=1.0'), (dict(seed=4), 'line 1 has seed 3, this run 4'),
    (dict(model='b2'), "line 1 has model 'a1', this run 'b2'"), (dict(prompts=['Another']), "line 1 has prompt 'The movie', this run 'Another'"),
    (dict(n=2), 'holds 12 reviews, this run asks for 6|has prompt'), (dict(banned=['good']), r"banned=\[\], this run banned=\['good'\]"),
    (dict(prompts=[*PROMPTS[:2], 'b'], n=4), 'line 9 has prompt')])
def test_another_run_is_refused(lm, tmp_path, whole, changes, match):
    args = {**HOW, 'prompts': PROMPTS, 'model': 'a1', **changes}
    if len(args['prompts']) == 1: args['n'] = 40
    with pytest.raises(ValueError, match=match) as e: write_reviews(lm, tmp_path/'whole.jsonl', resume=True, **args)
    assert '\n' not in str(e.value)
    assert (tmp_path/'whole.jsonl').read_bytes() == whole


@pytest.mark.parametrize('bad', [b'[1]\n', b'{"prompt": \n', b'\xff\xfe\n', b'\n', b'{}\n'])
def test_a_damaged_file(lm, tmp_path, whole, bad):
    first = whole[:whole.index(b'\n')+1]
    (tmp_path/'r').write_bytes(first + bad + first)
    with pytest.raises(ValueError, match='line 2') as e: write_reviews(lm, tmp_path/'r', PROMPTS, 'a1', resume=True, **HOW)
    assert '\n' not in str(e.value)
    assert (tmp_path/'r').read_bytes() == first + bad + first


@pytest.mark.parametrize('notes', [b'My notes', b'{"prompt": 1', b'['*100_000 + b'\n'])
def test_another_file_is_left_as_it_is(lm, tmp_path, whole, notes):
    "No review is in it, or one and then something else: its end is nothing that was half written"
    for begin in (b'', whole[:whole.index(b'\n')+1]):
        (tmp_path/'r').write_bytes(begin + notes)
        with pytest.raises(ValueError, match=f'line {begin.count(10) + 1} is no review'): write_reviews(lm, tmp_path/'r', PROMPTS, 'a1', resume=True, **HOW)
        assert (tmp_path/'r').read_bytes() == begin + notes


def test_places_that_cannot_be(lm, tmp_path, whole):
    os.mkfifo(tmp_path/'pipe')
    with pytest.raises(OSError, match='pipe is a pipe or a device: name a plain file'): write_reviews(lm, tmp_path/'pipe', PROMPTS, 'a1', resume=True, **HOW)
    (tmp_path/'pipe').unlink()
    for name,exc,match in [('whole.jsonl', FileExistsError, 'is there already: continue it with resume=True'), ('', IsADirectoryError, 'is a folder'),
                           ('no/r', FileNotFoundError, 'make the folder')]:
        with pytest.raises(exc, match=match): write_reviews(lm, tmp_path/name, PROMPTS, 'a1', **HOW)
    assert [o.name for o in tmp_path.iterdir()] == ['whole.jsonl']


def test_any_prompts_and_numbers(lm, tmp_path):
    "What can be read only once, what has no places 0 and 1, numbers of numpy: the lines are the same, and go on"
    how = dict(n=2, n_words=4, seed=1, temperature=.5, banned=['good'])
    want = write_reviews(lm, tmp_path/'want', ['the', 'a'], 'a1', **how).read_bytes()
    numpy = dict(n=np.int8(2), n_words=np.int64(4), seed=np.int64(1), temperature=np.float32(.5))
    for prompts in (iter(['the', 'a']), pd.Series(['the', 'a'], index=[7, 8]), np.array(['the', 'a'])):
        (tmp_path/'r').write_bytes(want[:len(want)//2])
        assert write_reviews(lm, str(tmp_path/'r'), prompts, 'a1', resume=True, banned=iter(['good']), **numpy).read_bytes() == want
    assert write_reviews(lm, tmp_path/'one', 'the', 'a1', **how).read_bytes() == b''.join(want.splitlines(keepends=True)[:2])


def test_settings_that_cannot_be_leave_no_file(lm, tmp_path):
    with pytest.raises(ValueError, match='n=0'): write_reviews(lm, tmp_path/'r', ['a'], 'a1', n=0)
    assert list(tmp_path.iterdir()) == []


def test_progress(lm, tmp_path):
    "What is told of is on the disk"
    told, words = [], 0
    write_reviews(lm, tmp_path/'r', ['the'], 'a1', progress=lambda *o: told.append((*o, (tmp_path/'r').read_bytes().count(b'\n'))), n=5, seed=1)
    for k,(row,said) in enumerate(zip(Writing(lm, ['the'], n=5, seed=1).in_order(), told, strict=True), 1):
        words += len(row.new)
        assert said == (k, 5, words, k)


def test_killed_at_any_time(tmp_path, model_folder):
    args = ['generate', 'the movie', '--model', model_folder, '--n', '3000', '--seed', '1', '--n-words', '30', '--no-stop', '--out', 'r.jsonl']
    child = subprocess.Popen([COMMAND, *args], cwd=tmp_path, stderr=subprocess.DEVNULL)
    out = tmp_path/'r.jsonl'
    while child.poll() is None and not (out.exists() and out.stat().st_size > 50_000): time.sleep(.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert 0 < out.read_bytes().count(b'\n') < 3000
    os.truncate(out, out.stat().st_size - 5)
    assert command.run(*args, '--resume', cwd=tmp_path).returncode == 0
    lines = [json.loads(o) for o in out.read_bytes().splitlines()]
    from imdb_lm.model import load_lm
    assert [o['text'] for o in lines] == load_lm(model_folder).generate('the movie', n=3000, seed=1, n_words=30, stop=False)


def test_a_file_that_another_one_wrote_before_it_was_held(tmp_path, lm, monkeypatch):
    "Between the making of a file and its lock there is a moment"
    held = reviews.lock
    def late(f):
        (tmp_path/'r.jsonl').write_text('a review\n')
        held(f)
    monkeypatch.setattr(reviews, 'lock', late)
    with pytest.raises(RuntimeError, match='another process wrote to .*r.jsonl in the moment in which it was made: go on with resume=True'):
        write_reviews(lm, tmp_path/'r.jsonl', 'the movie', 'a model', n_words=3, seed=1)
    assert (tmp_path/'r.jsonl').read_text() == 'a review\n'


def test_two_processes_and_one_file(tmp_path, model_folder):
    "The second one is refused, and the file is as if it had not been there"
    args = ['generate', 'the movie', '--model', model_folder, '--n', '600', '--seed', '1', '--n-words', '30', '--no-stop', '--out', 'r.jsonl', '--resume']
    first = subprocess.Popen([COMMAND, *args], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while first.poll() is None and not ((tmp_path/'r.jsonl').exists() and (tmp_path/'r.jsonl').stat().st_size): time.sleep(.02) # held, not only made
    first.send_signal(signal.SIGSTOP)
    second = command.run(*args, cwd=tmp_path)
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 0 and second.returncode == 1
    assert 'another process is writing to r.jsonl' in second.stderr
    from imdb_lm.model import load_lm
    texts = [json.loads(o)['text'] for o in (tmp_path/'r.jsonl').read_bytes().splitlines()]
    assert texts == load_lm(model_folder).generate('the movie', n=600, seed=1, n_words=30, stop=False)
