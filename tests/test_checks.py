"""Settings of every kind, at the door."""
import numpy as np
import pytest
import torch

from imdb_lm.checks import ABOVE_0, BELOW_1, check_number, check_whole


@pytest.mark.parametrize('o', [7, np.uint8(7), np.int64(7)])
def test_whole_numbers(o): assert check_whole('n', o) == 7 and type(check_whole('n', o)) is int

@pytest.mark.parametrize('o', [True, 1.0, '1', None, -1, 10**400, np.float32(1), torch.tensor(1)])
def test_what_is_no_whole_number(o):
    with pytest.raises(ValueError, match='^n=.* cannot be: it must be a whole number of at least 0$'): check_whole('n', o, 0)

@pytest.mark.parametrize('o', [.5, np.float16(.5), np.float64(.5)])
def test_numbers(o): assert check_number('p', o, 'a share', ABOVE_0, BELOW_1) == .5 and type(check_number('p', o, 'a share')) is float

@pytest.mark.parametrize('o', [0, 1, -1e-300, float('nan'), float('inf'), True, '0.5', None, 10**400, torch.tensor(.5)])
def test_what_is_no_share(o):
    with pytest.raises(ValueError, match='^p=.* cannot be: it must be a share$'): check_number('p', o, 'a share', ABOVE_0, BELOW_1)
