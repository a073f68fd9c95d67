"""A model folder goes up to a stand-in of the Hub on this machine, and comes down again."""
import base64
import hashlib
import json
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

import command
from imdb_lm.model import BESIDE, FILES

pytest.importorskip('huggingface_hub', reason="needs huggingface_hub: pip install 'imdb_lm[hub]'")


class Hub:
    "Pages by name, each a dict of files; what was asked for; the tokens that may write"
    def __init__(self): self.pages, self.private, self.asked, self.tokens = {}, {}, [], {'secret'}


def commit_id(files): return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass

    def send(self, body, code=200, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for k,v in {'Content-Length': str(len(body)), **headers}.items(): self.send_header(k.replace('_', '-'), v)
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)

    def missing(self): self.send({'error': 'Repository not found'}, 404, X_Error_Code='RepoNotFound')

    def do_POST(self):
        hub, path = self.server.hub, self.path.split('?')[0]
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        hub.asked.append(f'POST {path}')
        if path == '/api/validate-yaml': return self.send({'errors': [], 'warnings': []})
        if self.headers.get('Authorization', '').removeprefix('Bearer ') not in hub.tokens: return self.send({'error': 'Invalid credentials'}, 401)
        if path == '/api/repos/create':
            o = json.loads(body)
            name = f'{o["organization"]}/{o["name"]}' if o.get('organization') else f'me/{o["name"]}'
            if name not in hub.pages: hub.pages[name], hub.private[name] = {}, o.get('private') or o.get('visibility') == 'private'
            return self.send({'url': f'http://127.0.0.1:{self.server.server_port}/{name}', 'id': '1', 'name': name})
        name, action = '/'.join(path.split('/')[3:5]), path.split('/')[5]
        if name not in hub.pages: return self.missing()
        if action == 'preupload':
            return self.send({'files': [{'path': o['path'], 'uploadMode': 'regular', 'shouldIgnore': False, 'oid': None} for o in json.loads(body)['files']]})
        for o in map(json.loads, body.splitlines()):
            if o['key'] == 'file': hub.pages[name][o['value']['path']] = base64.b64decode(o['value']['content'])
        oid = commit_id(hub.pages[name])
        self.send({'success': True, 'commitOid': oid, 'commitUrl': f'http://127.0.0.1:{self.server.server_port}/{name}/commit/{oid}'})

    def do_GET(self):
        hub, path = self.server.hub, unquote(self.path.split('?')[0])
        hub.asked.append(f'{self.command} {path}')
        parts = path.strip('/').split('/')
        name = '/'.join(parts[2:4] if parts[0] == 'api' else parts[:2])
        if name not in hub.pages: return self.missing()
        files, oid = hub.pages[name], commit_id(hub.pages[name])
        listing = [{'type': 'file', 'path': f, 'size': len(c), 'oid': hashlib.sha1(c).hexdigest()} for f,c in files.items()]
        if parts[0] == 'api':
            if 'tree' in parts: return self.send(listing)
            return self.send({'id': name, 'modelId': name, 'sha': oid, 'private': True, 'siblings': [{'rfilename': f} for f in files], 'tags': []})
        body = files.get('/'.join(parts[4:]))
        if body is None: return self.send({'error': 'Entry not found'}, 404, X_Error_Code='EntryNotFound')
        self.send(body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=oid)

    do_HEAD = do_GET


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.hub = Hub()
    server.hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=.01), daemon=True)
    thread.start()
    yield server.hub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def shell(hub, tmp_path):
    "The command, for which the stand-in is the Hub"
    def shell(*args, **env):
        env = {**os.environ, 'HF_ENDPOINT': f'http://127.0.0.1:{hub.port}', 'HF_HOME': str(tmp_path/'hf'), 'HF_TOKEN': 'secret',
               'HF_HUB_DISABLE_PROGRESS_BARS': '1', **env}
        p = command.run(*args, env=env)
        return p.returncode, p.stdout, p.stderr
    return shell


def test_a_classifier_goes_up(hub, shell, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path/'judge')
    (folder/'config.json').write_text(json.dumps(json.loads((folder/'config.json').read_text()) | dict(kind='classifier')))
    assert shell('push', folder, 'hf://me/judge')[0] == 0
    assert hub.pages['me/judge']['config.json'] == (folder/'config.json').read_bytes()


def test_up_and_down(hub, shell, model_folder, tmp_path):
    "What comes down is what went up, and it writes the same"
    code, out, err = shell('push', model_folder, 'hf://me/small')
    assert (code, err) == (0, '') and 'me/small' in out
    assert hub.private['me/small']
    there = hub.pages['me/small']
    for f in FILES: assert there[f] == (model_folder/f).read_bytes(), f
    there |= {'notes.exe': b'something else', 'model.pkl': b'a pickle'}
    say = ['generate', 'the movie', '--n-words', '9', '--seed', '3', '--model']
    code, remote, err = shell(*say, 'hf://me/small')
    assert (code, err) == (0, '')
    assert remote == shell(*say, model_folder)[1]
    assert not any(o.endswith(('notes.exe', 'model.pkl')) for o in hub.asked)


def test_a_page_is_asked_once(hub, shell, model_folder):
    "All files are those of one moment: whoever pushes while a model is read changes nothing"
    shell('push', model_folder, 'hf://me/small')
    shell('generate', 'the', '--model', 'hf://me/small')
    hub.asked.clear()
    assert shell('generate', 'the', '--model', 'hf://me/small')[0] == 0
    assert sum('/revision/' in o for o in hub.asked) == 1


def test_offline(hub, shell, model_folder):
    "Once downloaded it is there without the Hub; what was never downloaded is told so"
    shell('push', model_folder, 'hf://me/small')
    say = ['generate', 'the movie', '--n-words', '9', '--seed', '3', '--model']
    _, remote, _ = shell(*say, 'hf://me/small')
    nobody = 'http://127.0.0.1:9'
    code, out, _ = shell(*say, 'hf://me/small', HF_ENDPOINT=nobody)
    assert (code, out) == (0, remote)
    code, out, err = shell(*say, 'hf://me/other', HF_ENDPOINT=nobody)
    assert (code, out, err.count('\n')) == (1, '', 1) and 'cannot be reached' in err
    code, _, err = shell('push', model_folder, 'hf://me/small', HF_ENDPOINT=nobody)
    assert (code, err.count('\n')) == (1, 1) and 'cannot be reached' in err


def test_public(hub, shell, model_folder):
    shell('push', model_folder, 'hf://me/open', '--public')
    assert hub.private == {'me/open': False}


@pytest.mark.parametrize('args, env, said', [
    (['generate', '--model', 'hf://me/nothing'], {}, 'hf://me/nothing does not exist'),
    (['generate', '--model', 'hf://nothing'], {}, 'OWNER/NAME'),
    (['push', 'nowhere', 'hf://me/small'], {}, 'no model folder at nowhere'),
    (['push', 'FOLDER', 'me'], {}, 'OWNER/NAME'),
    (['push', 'FOLDER', 'hf://me/small'], {'HF_TOKEN': 'guessed'}, 'hf auth login')])
def test_one_sentence(hub, shell, model_folder, args, env, said):
    code, out, err = shell(*[model_folder if o == 'FOLDER' else o for o in args], **env)
    assert (code, out, err.count('\n')) == (1, '', 1) and said in err
    assert 'me/small' not in hub.pages


def test_card_goes_along(hub, shell, model_folder, tmp_path):
    "The card is the page"
    import shutil
    folder = shutil.copytree(model_folder, tmp_path/'mine')
    assert shell('card', folder)[0] == 0
    shell('push', folder, 'hf://me/mine')
    assert sorted(hub.pages['me/mine']) == sorted([*FILES, BESIDE[0]])
    assert hub.pages['me/mine']['README.md'].startswith(b'---\nlanguage: en')
