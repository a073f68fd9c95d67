"Everything about the package is read from settings.ini."
from configparser import ConfigParser
from setuptools import setup, find_packages

ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read('settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=open('README.md', encoding='utf-8').read(),
    long_description_content_type='text/markdown',
    keywords=cfg['keywords'],
    url=f"https://github.com/{cfg['user']}/{cfg['repo']}",
    classifiers=['Development Status :: 4 - Beta', 'Programming Language :: Python :: 3', 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=[cfg['lib_path'], f"{cfg['lib_path']}.*"]),
    package_data={cfg['lib_path']: ['*.grammar', '*.json', 'starter/*']},
    install_requires=cfg['requirements'].split(),
    extras_require={o: cfg[f'{o}_requirements'].split() for o in ('hub', 'app', 'distributed', 'dev')},
    entry_points={'console_scripts': cfg['console_scripts'].split()},
    zip_safe=False,
)
