"""A few faults at random moments; `make faults` meets hundreds (see faults.py)."""
import sys

import pytest

if not sys.platform.startswith('linux'): pytest.skip('faults are made with fork and the limits of Linux', allow_module_level=True)
from faults import FAULTS, WORK, survive


@pytest.mark.parametrize('name', WORK)
def test_survives(name):
    done, hits = survive(name, len(FAULTS))
    assert all(done[o] for o in FAULTS)
    assert hits['no room on the disk'] or name == 'train' # which goes on without its checkpoints
