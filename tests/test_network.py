"""The network: a step is what reading gives, in 32 bits and in 8; neighbours in a batch change nothing."""
import pytest
import torch

from imdb_lm.network import AWDLSTM, Int8Linear, Int8LSTM, has_int8, to_int8

needs_int8 = pytest.mark.skipif(not has_int8(), reason='needs an x86 processor')
SHAPES = [dict(), dict(n_layers=1), dict(n_layers=2, tie_weights=False), dict(out_bias=False)]


@pytest.fixture(params=SHAPES, ids=str)
def net(request):
    torch.manual_seed(3)
    return AWDLSTM(50, emb_sz=12, n_hid=16, **request.param).eval().requires_grad_(False)


@pytest.fixture(params=['fp32', pytest.param('int8', marks=needs_int8)])
def any_net(request, net): return net if request.param == 'fp32' else Int8LSTM(net)


def test_steps_equal_reading(any_net):
    ids = torch.randint(50, (4, 9))
    whole, last = any_net(ids)
    h, state = any_net(ids[:,:2])
    for i in range(2, 9):
        h, state = any_net.step(ids[:,i], state)
        torch.testing.assert_close(h, whole[:,i], atol=1e-5, rtol=0)
    for (a,b),(c,d) in zip(state, last, strict=True):
        assert a.shape == c.shape and b.shape == d.shape
        torch.testing.assert_close((a, b), (c, d), atol=1e-5, rtol=0)


@needs_int8
def test_eight_bits_are_near(net):
    ids, small = torch.randint(50, (4, 20)), Int8LSTM(net)
    want, have = (o.decoder(o(ids)[0]).softmax(-1) for o in (net, small))
    assert (want - have).abs().max() < .01
    assert small.n_params == net.n_params == sum(p.numel() for p in net.parameters())


@needs_int8
def test_neighbours_change_no_bit(net):
    ids, small = torch.randint(50, (33, 7)), Int8LSTM(net)
    h, _ = small(ids)
    for rows in ([0], [5, 32], list(range(17))): assert torch.equal(small(ids[rows])[0], h[rows])
    assert torch.equal(small.decoder(h)[3:4], small.decoder(h[3:4]))


@needs_int8
@pytest.mark.parametrize('weight', [torch.zeros(3, 8), torch.full((3, 8), 1e-30), torch.eye(3, 8)*1e6, torch.ones(3, 8), -torch.ones(3, 8)])
@pytest.mark.parametrize('x', [torch.ones(2, 8), -torch.ones(2, 8), torch.zeros(2, 8)])
def test_the_ends_of_the_range(weight, x):
    "Nothing overflows: the largest weights times the largest inputs"
    torch.testing.assert_close(Int8Linear(weight)(x), x@weight.T, rtol=.02, atol=1e-6)


@needs_int8
def test_wide_sums_do_not_overflow():
    weight, x = torch.ones(5, 4096), torch.ones(2, 4096)
    torch.testing.assert_close(Int8Linear(weight, torch.arange(5.))(x), 4096. + torch.arange(5.).expand(2, 5), rtol=.02, atol=0)


@needs_int8
def test_the_network_in_fp32_is_left_alone(net):
    before = {k: v.clone() for k,v in net.state_dict().items()}
    Int8LSTM(net)
    assert all(torch.equal(v, before[k]) for k,v in net.state_dict().items())


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_8_bits_of_what_is_no_number(bad):
    weight = torch.ones(3, 4)
    weight[1, 2] = bad
    with pytest.raises(ValueError, match='weights that are no finite numbers'): to_int8(weight)
