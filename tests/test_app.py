"""The web page, used as people use it: in a browser, fifty at once, and badly."""
import json, os, re, shutil, socket, subprocess, sys, threading, time, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from http.client import HTTPConnection, HTTPException
from types import SimpleNamespace

import pytest
import torch

gr = pytest.importorskip('gradio', reason="the page needs Gradio: pip install 'imdb_lm[app]'")

from imdb_lm import app
from imdb_lm.card import PROMPTS
from imdb_lm.generate import Writing, read_prompt
from imdb_lm.labels import mark
from imdb_lm.model import STARTER, find_model, load_lm, write_model
from imdb_lm.tokens import tokenize

SIZES = dict(desktop=(1280, 800), phone=(390, 844))


@pytest.fixture(scope='module')
def folders(tmp_path_factory, model_folder, weights, words, config):
    "Model folders: `small`; `rated`, which knows stars; `gone`, which will vanish"
    to = tmp_path_factory.mktemp('page')
    rated = write_model(to/'rated', weights, words, {**config, 'label': dict(name='stars', values=['1', '10'])})
    return [model_folder, rated, shutil.copytree(model_folder, to/'gone')]


@pytest.fixture(scope='module')
def url(folders):
    "Where the page is; it must not look for anything beyond this machine"
    real, beyond = socket.socket.connect, []
    def connect(self, address):
        if isinstance(address, tuple) and address[0] not in ('127.0.0.1', '::1', 'localhost'): beyond.append(address)
        return real(self, address)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(socket.socket, 'connect', connect)
        page = app.launch(folders, port=None, wait=False, rate=10_000)
        shutil.rmtree(folders[2])
        yield page.local_url
        page.close()
    assert not beyond


@pytest.fixture(scope='module')
def chromium():
    "Headless Chromium"
    sync_api = pytest.importorskip('playwright.sync_api', reason='browser tests need Playwright: pip install playwright')
    path = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if path is None: pytest.skip('browser tests need Chromium: apt-get install chromium')
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=['--no-sandbox'])
        yield browser
        browser.close()


class Visit:
    "Somebody looks at the page"
    def __init__(self, chromium, url, size='desktop'):
        width, height = SIZES[size]
        self.asked, self.wrong = [], []
        self.page = chromium.new_page(viewport=dict(width=width, height=height))
        self.page.on('request', lambda o: self.asked.append(o.url))
        self.page.on('pageerror', lambda o: self.wrong.append(str(o)))
        self.page.on('dialog', lambda o: (self.wrong.append(o.message), o.dismiss()))
        self.page.goto(url)
        self.prompt = self.page.get_by_role('textbox', name=re.compile('^Prompt'))
        self.prompt.wait_for()

    def button(self, name): return self.page.get_by_role('button', name=name, exact=True)

    def seed(self, seed):
        self.page.get_by_role('button', name='More controls').click()
        self.page.get_by_label('Seed').fill(str(seed))

    def choose(self, label, option):
        self.page.get_by_label(label).first.click()
        self.page.get_by_role('option', name=option, exact=True).click()

    def write(self):
        self.button('Write').click()
        self.page.get_by_role('link', name='Download').wait_for(timeout=60_000)
        return self.reviews()

    def reviews(self): return [o.inner_text() for o in self.page.locator('article p').all()]

    def message(self, text):
        toast = self.page.get_by_test_id('toast-body').filter(has_text=text)
        toast.wait_for()
        return toast.inner_text()

    def wait_for(self, ok):
        "Until `ok()` holds"
        end = time.monotonic() + 30
        while not ok():
            assert time.monotonic() < end, 'it did not happen'
            self.page.wait_for_timeout(50)


@pytest.fixture
def visit(chromium, url):
    visits = []
    def go(*args):
        visits.append(Visit(chromium, url, *args))
        return visits[-1]
    yield go
    for v in visits:
        if not v.page.is_closed(): v.page.close()
        assert not v.wrong
        assert {o.split('/')[2] for o in v.asked if not o.startswith(('data:', 'blob:'))} == {url.split('/')[2]}


@pytest.mark.parametrize('size', SIZES)
def test_write_and_ask(visit, folders, size):
    v = visit(size)
    v.prompt.fill('The movie')
    slider = v.page.get_by_role('slider', name=re.compile('Temperature'))
    slider.focus()
    slider.press('ArrowRight')
    v.seed(8)
    lm = load_lm(folders[0])
    assert v.write() == lm.generate('The movie', n=2, seed=8, temperature=.8)
    assert 'temperature 0.8, seed 8' in v.page.locator('footer').first.inner_text()
    word = v.page.locator('[data-place="1,3"]')
    text = word.inner_text()
    word.click()
    v.page.get_by_text(f'Instead of “{text}”').wait_for()
    shown = v.page.locator('.instead').inner_text()
    new = [lm.vocab[o] for o in [*Writing(lm, 'The movie', n=2, seed=8, temperature=.8).in_order()][1].new]
    a, b = app.piece_ends('The movie', new)[2:4]
    before = tokenize(['The movie'])[0], new[:a]
    assert f'{app.word_odds(lm, *before, new[a:b]):.1%}' in shown
    for w,p in app.likely_words(lm, *before): assert w in shown and f'{round(100*p)}%' in shown
    assert v.page.evaluate('document.documentElement.scrollWidth <= innerWidth') # nothing is wider than the screen


def test_by_keyboard(visit):
    v = visit()
    v.seed(8)
    v.prompt.focus()
    v.page.keyboard.type('The movie')
    v.page.keyboard.press('Enter')
    v.page.get_by_role('link', name='Download').wait_for()
    first, second = (v.page.locator(f'[data-place="0,{i}"]') for i in (1, 2))
    assert first.get_attribute('tabindex') == '0' and second.get_attribute('tabindex') == '-1'
    first.focus()
    v.page.keyboard.press('ArrowRight')
    v.page.keyboard.press('Enter')
    v.page.get_by_text(f'Instead of “{second.inner_text()}”').wait_for()


def test_every_control_has_a_name(visit):
    v = visit()
    v.page.get_by_role('button', name='More controls').click()
    v.page.get_by_label('Seed').wait_for()
    bare = '''() => [...document.querySelectorAll('input, textarea, button, [role=button]')].filter(o => o.offsetParent &&
              !(o.getAttribute('aria-label') || o.title || o.innerText?.trim() || o.labels?.length)).map(o => o.outerHTML)'''
    assert v.page.evaluate(bare) == []


def test_copy_and_download(visit):
    v = visit()
    v.page.context.grant_permissions(['clipboard-read', 'clipboard-write'])
    v.button(PROMPTS[0]).click()
    v.wait_for(lambda: v.prompt.input_value() == PROMPTS[0])
    reviews = v.write()
    assert len(reviews) == 2 and all(o.startswith(PROMPTS[0]) for o in reviews)
    v.button('Copy').first.click()
    v.button('Copied').wait_for()
    assert v.page.evaluate('navigator.clipboard.readText()') == reviews[0]
    with v.page.expect_download() as down: v.page.get_by_role('link', name='Download').click()
    assert down.value.suggested_filename == 'reviews.txt'
    assert down.value.path().read_text(encoding='utf-8') == '\n\n'.join(reviews) + '\n'


def test_stars_of_a_model_that_knows_them(visit, folders):
    v = visit()
    assert v.page.get_by_label('Stars').count() == 0
    v.choose('Model', 'rated')
    v.choose('Stars', '10')
    v.prompt.fill('The movie')
    v.seed(8)
    assert v.write() == load_lm(folders[1]).generate('The movie', n=2, seed=8, stars=10)


def test_what_cannot_be_is_told(visit):
    v = visit()
    v.prompt.fill('a'*10_000)
    v.button('Write').click()
    v.message('10,000 characters')
    v.prompt.fill('fine')
    assert all(o.startswith('fine') for o in v.write())


def test_a_folder_that_vanished(visit):
    v = visit()
    v.choose('Model', 'gone')
    assert 'gone' not in v.message('this model cannot be read now')


TAGS = '<script>alert(1)</script> <img src=x onerror=alert(2)> ${alert(3)} {{value}} ` </b> &lt;'

def test_tags_are_text(visit):
    v = visit()
    v.prompt.fill(TAGS)
    assert all(o.startswith(TAGS) for o in v.write())
    assert v.page.locator('article img').count() == 0


@pytest.fixture
def slow(monkeypatch):
    "Models write slowly and without end; says when they began and when they were stopped"
    told = SimpleNamespace(began=threading.Event(), stopped=threading.Event())
    def pieces_of(writing):
        row = SimpleNamespace(key=(0, 0), new=[])
        try:
            yield row, writing.prompts[0]
            while True:
                told.began.set()
                time.sleep(.02)
                yield row, ' on'
        finally: told.stopped.set()
    monkeypatch.setattr(app, 'pieces_of', pieces_of)
    return told


@pytest.mark.parametrize('how', ['close', 'stop'])
def test_writing_ends_when_nobody_reads(visit, slow, how):
    v = visit()
    slider = v.page.get_by_role('slider', name=re.compile('How many'))
    slider.focus()
    slider.press('ArrowLeft')
    v.prompt.fill('On and')
    v.button('Write').click()
    v.wait_for(lambda: v.reviews() and ' on on on' in v.reviews()[0])
    assert not slow.stopped.is_set()
    if how == 'close': v.page.close()
    else: v.button('Stop').click()
    assert slow.stopped.wait(60)
    if how == 'stop': v.page.get_by_role('link', name='Download').wait_for()


def ask(url, **given):
    "What the page's API says at the end: the name of its last event, and what came with it"
    values = dict(prompt='The movie', n=2, n_words=20, temperature=.75, label='any', model='small', top_k=0, top_p=1, min_p=0,
                  repetition_penalty=1, seed=1) | given
    call = f'{url}gradio_api/call/write'
    request = urllib.request.Request(call, json.dumps(dict(data=[*values.values()])).encode(), {'Content-Type': 'application/json'})
    with urllib.request.urlopen(request) as answer: event = json.load(answer)['event_id']
    with urllib.request.urlopen(f'{call}/{event}', timeout=300) as answer: events = answer.read().decode().strip().split('\n\n')
    name, data = re.fullmatch(r'event: (\w+)\ndata: (.*)', events[-1], re.S).groups()
    return name, json.loads(data)


def texts(html): return [unescape(re.sub('<.*?>', '', o)) for o in re.findall('<p>(.*?)</p>', html, re.S)]


def test_fifty_at_once(url, folders):
    lm = load_lm(folders[0])
    with ThreadPoolExecutor(50) as pool: answers = list(pool.map(lambda i: ask(url, prompt=f'The movie {i}', seed=i), range(50)))
    for i,(name,data) in enumerate(answers):
        assert name == 'complete'
        assert texts(data[0]) == lm.generate(f'The movie {i}', n=2, n_words=20, seed=i)


@pytest.mark.parametrize('name, value, said', [
    ('n', 99, 'greater than maximum value 6'), ('n', 1.5, 'it must be a whole number'), ('n_words', 0, 'less than minimum value 10'),
    ('temperature', -1, 'less than minimum'), ('top_p', 7, 'greater than maximum'), ('seed', -4, 'less than minimum'),
    ('prompt', None, 'None is no prompt'), ('prompt', 'a'*2001, '2,001 characters'), ('model', 'other', 'not in the list of choices'),
    ('label', '7', 'not in the list of choices'), ('model', 'gone', 'this model cannot be read now: the person who runs the page has been told why')])
def test_odd_settings(url, folders, name, value, said):
    event, data = ask(url, **{name: value})
    assert event == 'error' and said in data['error'] and str(folders[2].parent) not in data['error']


def status(url, place, data=None, **headers):
    "The number that a request is answered with, and the answer"
    try:
        with urllib.request.urlopen(urllib.request.Request(url + place, data, headers)) as answer: return answer.status, answer.read()
    except urllib.error.HTTPError as e: return e.code, e.read()


@pytest.mark.parametrize('place', ['gradio_api/file=/etc/passwd', 'gradio_api/file={here}', 'gradio_api/file/etc/passwd', 'file=/etc/passwd', 'gradio_api/proxy={url}',
    'gradio_api/file={url}', 'gradio_api/upload_progress?upload_id=1', 'gradio_api/deep_link?session_hash=1', 'monitoring', 'monitoring/summary', 'gradio_api/runs',
    'gradio_api/run-history/buckets', 'gradio_api/stream/1/1/1/playlist.m3u8', 'gradio_api/vibe-code/', 'gradio_api/dev/reload', 'docs', 'openapi.json', '../etc/passwd', 'static/..%2f..%2f..%2fetc%2fpasswd'])
def test_what_a_page_does_not_need_is_not_there(url, place):
    "No file, no address elsewhere, nothing of the server's inside"
    code, said = status(url, place.format(url=url, here=os.path.abspath(__file__)))
    assert code in (403, 404) and b'root:' not in said and b'def ' not in said


@pytest.mark.parametrize('place', ['upload', 'component_server', 'run/write', 'api/write', 'process_recording', 'vibe-edit', 'stream/1'])
def test_nothing_is_taken(url, place, tmp_path):
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
    assert status(url, f'gradio_api/{place}', form, **{'Content-Type': 'multipart/form-data; boundary=x'})[0] == 404


def test_no_path_of_the_machine_is_told(url, folders):
    for place in ('', 'config', 'gradio_api/info', 'gradio_api/startup-events'):
        code, said = status(url, place)
        assert code == 200 and not any(str(o).encode() in said for o in (folders[0].parent, folders[1].parent, os.path.expanduser('~'), os.getcwd()))


def test_large_requests(url):
    "Refused before they are read, whether or not they say how large they are"
    for header in ('Content-Length', str(2**20 + 1)), ('Transfer-Encoding', 'chunked'):
        asking = HTTPConnection(url.split('/')[2])
        asking.putrequest('POST', '/gradio_api/call/write')
        asking.putheader(*header)
        asking.endheaders() # and no more: the answer does not wait for the rest
        assert asking.getresponse().status == 413
        asking.close()
    assert status(url, 'gradio_api/call/write', json.dumps(dict(data=['a'*500_000])).encode(), **{'Content-Type': 'application/json'})[0] == 200


def test_too_many_requests(model_folder, monkeypatch):
    "One address is told to wait until the next minute, another is not"
    monkeypatch.setattr(app, 'monotonic', lambda: 60.)
    page = app.launch([model_folder], port=None, wait=False, rate=3)
    try:
        assert [ask(page.local_url, seed=i)[0] for i in range(3)] == ['complete']*3
        assert status(page.local_url, 'gradio_api/call/write', b'{}') == (429, b'{"detail":"More than 3 requests within a minute: wait a little."}')
        assert status(page.local_url, '')[0] == 200
        assert status(page.local_url, 'gradio_api/call/write', b'{}', **{'X-Forwarded-For': '10.0.0.9'})[0] != 429 # a proxy on this machine tells who asks
        monkeypatch.setattr(app, 'monotonic', lambda: 120.)
        assert ask(page.local_url)[0] == 'complete'
    finally: page.close()


@pytest.mark.parametrize('event', [dict(place='0,1'), dict(place='7,7'), dict(place='x'), dict(), None])
def test_words_of_reviews_that_are_not_there(url, event):
    "What is clicked is the visitor's to say"
    with urllib.request.urlopen(f'{url}config') as answer: asked = json.load(answer)['dependencies']
    n = next(i for i,o in enumerate(asked) if o['targets'][0][1] == 'select')
    body = dict(data=[None], event_data=event, fn_index=n, session_hash='abc', trigger_id=1)
    assert status(url, 'gradio_api/queue/join', json.dumps(body).encode(), **{'Content-Type': 'application/json'})[0] in (200, 422)
    assert ask(url)[0] == 'complete'


@pytest.mark.parametrize('place', ['7,7', '0,7', 'x', '0', '0,1,2', '0,0', '0,-1', '-1,1', '', '9'*5000 + ',0', None, ['0', '1'], 3])
def test_clicks_that_no_page_sends(folders, place):
    click = app._on_word(dict(rated=folders[1]))
    assert click(('rated', 'any', [[9]], [['The movie', ' was']], ''), SimpleNamespace(place=place)) == gr.skip()


def test_there_is_no_way_around_the_queue(url):
    with urllib.request.urlopen(f'{url}config') as answer: asked = json.load(answer)['dependencies']
    n = next(i for i,o in enumerate(asked) if o['api_name'] == 'write')
    body = json.dumps(dict(data=['The movie', *[None]*7], fn_index=n, session_hash='around')).encode()
    assert status(url, 'gradio_api/run/predict', body, **{'Content-Type': 'application/json'})[0] == 404


def test_a_seed_of_its_own(url):
    asked = [ask(url, seed=None)[1][0] for _ in range(2)]
    seeds = [int(re.search(r'seed (\d+)', o)[1]) for o in asked]
    assert seeds[0] != seeds[1]
    assert texts(asked[0]) == texts(ask(url, seed=seeds[0])[1][0])


def test_the_label_counts_for_a_clicked_word(folders, lm, words):
    "A rated review is asked about as it was written"
    rated = load_lm(folders[1])
    of = {o: app._on_word(dict(rated=folders[1]))(('rated', o, [[rated.o2i['was']]], [['The movie', ' was']], ''), SimpleNamespace(place='0,1'))['value'] for o in ('any', '10')}
    for label,text in {'any': 'The movie', '10': 'xxfld 1 10 xxfld 2 The movie'}.items():
        assert of[label] == pytest.approx(dict(app.likely_words(rated, tokenize([text])[0])))


@pytest.mark.parametrize('prompt,label', [('This was a well', 'any'), ('', 'any'), ('', '9')])
@torch.inference_mode()
def test_a_clicked_word_is_asked_about_as_it_was_written(prompt, label):
    "With its own tokens and those before it, which the text does not always tell, behind a hyphen, say; and from where the review began"
    folder, lm = find_model(STARTER), load_lm(STARTER)
    *_, (reviews, added, _, _) = app.write(folder, prompt, 2, seed=5, n_words=150, temperature=1.2, label=label)
    click, hyphens = app._on_word(dict(starter=folder)), 0
    for k,(pieces,new) in enumerate(zip(reviews, added)):
        ids, (h, state) = torch.tensor(new), read_prompt(lm, lm.numericalize(tokenize([mark(prompt, None if label == 'any' else label)])[0]))
        probs = lm.net.decoder(torch.cat([h, lm.net(ids[None], state)[0][0]])).softmax(1)
        likely = probs[:-1].gather(1, ids[:, None])[:, 0].double()
        ends = app.piece_ends(pieces[0], [lm.vocab[o] for o in new])
        assert len(ends) == len(pieces) and ends[-1] == len(new)
        for i,(a,b) in enumerate(zip(ends, ends[1:]), 1):
            hyphens += pieces[i] == '-'
            says = click(('starter', label, added, reviews, ''), SimpleNamespace(place=f'{k},{i}'))['label']
            assert says.startswith(f'Instead of “{pieces[i].strip()}” (')
            assert float(re.search(r'[(]([\d.]+)%', says)[1])/100 == pytest.approx(likely[a:b].prod().item(), abs=2e-3)
    assert hyphens or not prompt


def test_words_and_their_odds(lm):
    "Each is what the network says, token by token; a word that leans on the one before it is still found"
    for text in ('The movie', 'The movie was good, and', 'I do'):
        before = tokenize([text])[0]
        found = dict(app.likely_words(lm, before, k=200))
        assert sum(found.values()) < 1.0001 and len(app.likely_words(lm, before)) == 5
        for w in ('movie', 'Movie', "n't", 'MOVIE'): assert app.word_odds(lm, before, [], tokenize([w])[0][1:]) == pytest.approx(found[w], rel=1e-3)
        assert found['movie'] == pytest.approx(float(lm.next_word(text)[lm.o2i['movie']]), rel=1e-4)


@pytest.mark.parametrize('host', ['::1', 'my..host', 'no such host'])
def test_hosts_that_cannot_be(folders, host):
    with pytest.raises(OSError, match=f'the page cannot be at {host}:7999 .*give another host or port'): app.launch(folders, host=host, port=7999)


def test_no_mark_is_offered():
    "Nor is the starter asked about other words than it would begin a review with"
    likely = dict(app.likely_words(load_lm(STARTER), tokenize([''])[0], k=300))
    assert 'I' in [*likely][:3] and not [o for o in likely if o.startswith('xx')]


def test_the_first_word_is_found_by_tab():
    "It is not the first piece where that is the end of a paragraph"
    page = app.show_reviews([['This is good.', '\n\n', 'Then', ' it', ' ends', '.']])
    assert re.findall(r'tabindex="(-?\d)">(\w+)', page)[:2] == [('0', 'Then'), ('-1', 'it')]


def test_where_it_cannot_be(model_folder, tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        with pytest.raises(OSError, match='stop what runs there, or give another host or port'): app.launch([model_folder], port=taken.getsockname()[1])
    for port in (0, 70_000):
        with pytest.raises(ValueError, match=f'port={port} cannot be'): app.launch([model_folder], port=port)
    with pytest.raises(FileNotFoundError, match='no model folder'): app.launch([tmp_path/'none'], port=None)


def test_two_folders_of_one_name(model_folder, tmp_path):
    other = shutil.copytree(model_folder, tmp_path/model_folder.name)
    assert app.named_models([model_folder, other]) == {'small (1)': model_folder, 'small (2)': other}


def test_without_gradio():
    "One sentence, and only for those who want the page"
    code = "import sys; sys.modules['gradio'] = None; import imdb_lm.cli, imdb_lm.all; import imdb_lm.app"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stderr.strip().endswith("ImportError: the page needs Gradio: pip install 'imdb_lm[app]'")


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as s: return s.getsockname()[1]


def test_a_space_starts(model_folder, tmp_path):
    folder = app.space(tmp_path/'space', model_folder)
    head = dict(o.split(': ', 1) for o in (folder/'README.md').read_text(encoding='utf-8').split('---')[1].strip().split('\n'))
    assert head['sdk'] == 'gradio' and head['sdk_version'] == gr.__version__ and (folder/head['app_file']).is_file()
    assert (folder/'requirements.txt').read_text().startswith('imdb_lm[app]==')
    port = free_port()
    env = {**os.environ, 'GRADIO_SERVER_PORT': str(port), 'GRADIO_SERVER_NAME': '127.0.0.1'}
    with subprocess.Popen([sys.executable, 'app.py'], cwd=folder, env=env, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                try: answer = ask(f'http://127.0.0.1:{port}/', model='model')
                except (OSError, HTTPException): time.sleep(.1) # it is not there yet, or only half
                else: break
            assert answer[0] == 'complete' and len(texts(answer[1][0])) == 2
        finally: server.terminate()


def test_a_space_is_whole_or_not_there(model_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match='no model folder'): app.space(tmp_path/'space', tmp_path/'none')
    (tmp_path/'mine').mkdir()
    with pytest.raises(FileExistsError, match='is there already'): app.space(tmp_path/'mine', model_folder)
    assert [o.name for o in tmp_path.iterdir()] == ['mine']
