"""Take the README's picture of the page, and pictures at other sizes, in headless Chromium.

    python benchmarks/screenshots.py [--model starter] [--out nbs/images]
"""
import argparse, re, shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from imdb_lm.app import launch
from imdb_lm.card import PROMPTS

SHOTS = {'page.png': (1280, 800, 'light'), 'page_dark.png': (1280, 800, 'dark'), 'page_phone.png': (390, 844, 'light')}


def browser(play):
    "The Chromium of this machine"
    path = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if path is None: raise FileNotFoundError('no Chromium: apt-get install chromium')
    return play.chromium.launch(executable_path=path, args=['--no-sandbox'])


def shoot(chromium, url, to, width, height, colours):
    "Two reviews and what one of their words could have been"
    page = chromium.new_page(viewport=dict(width=width, height=height), color_scheme=colours)
    page.goto(url)
    page.get_by_role('button', name=PROMPTS[0]).click()
    expect(page.get_by_role('textbox', name=re.compile('^Prompt'))).to_have_value(PROMPTS[0])
    page.get_by_role('button', name='More controls').click()
    page.get_by_label('Seed').fill('28')
    page.get_by_role('button', name='More controls').click()
    page.get_by_role('button', name='Write').click()
    page.get_by_role('link', name='Download').wait_for(timeout=120_000)
    page.locator('[data-place="0,4"]').click()
    page.get_by_text('Instead of').wait_for()
    if width > 600: page.evaluate('scrollTo(0, 0)')
    page.wait_for_timeout(1000) # until colours and bars have come to rest
    page.screenshot(path=to)
    page.close()
    Image.open(to).quantize(128).save(to, optimize=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default='starter')
    p.add_argument('--out', type=Path, default=Path(__file__).parent.parent/'nbs'/'images')
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    page = launch([a.model], port=None, wait=False)
    with sync_playwright() as play:
        chromium = browser(play)
        for name,size in SHOTS.items():
            shoot(chromium, page.local_url, a.out/name, *size)
            print(a.out/name, f'{(a.out/name).stat().st_size/1000:.0f} kB')
    page.close()


if __name__ == '__main__': main()
