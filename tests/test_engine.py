"""The last layer in pieces: fastai's losses, gradients, metrics and predictions, in a fraction of the memory."""
from copy import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from fastai.callback.core import Callback, CancelBatchException, CancelEpochException, CancelFitException, CancelTrainException
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import Perplexity, accuracy, top_k_accuracy
from fastai.optimizer import Adam
from fastai.text.all import set_seed
from fastai.text.learner import language_model_learner
from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_lm_config

import imdb_lm.training  # noqa: F401 -- lends learners their fit_two_stage
from imdb_lm import engine
from imdb_lm.engine import BF16, ChunkedDecoder, FusedAdam, LMLoss, Logits, linear_cross_entropy
from imdb_lm.learner import lm_learner
from imdb_lm.loader import lm_dls

SIZES = {**awd_lstm_lm_config, 'emb_sz': 8, 'n_hid': 12, 'n_layers': 2}


def parts(rows=50, emb=8, vocab=31, bias=True, scale=1., dtype=torch.float32):
    torch.manual_seed(rows)
    x, w, b = torch.randn(rows, emb)*scale, torch.randn(vocab, emb), torch.randn(vocab) if bias else None
    return [o.to(dtype).requires_grad_() for o in (x, w, b) if o is not None], torch.randint(0, vocab, (rows,))


def close(a, b, eps=1e-5): torch.testing.assert_close(a, b, atol=eps, rtol=eps)


@pytest.mark.parametrize('piece', [1, 31*7, 31*50, 10**9])
@pytest.mark.parametrize('rows,bias,scale', [(50, True, 1.), (50, False, 1.), (1, True, 1.), (49, True, 30.)])
def test_loss_and_gradients(monkeypatch, piece, rows, bias, scale):
    monkeypatch.setattr(engine, 'PIECE', piece)
    params, y = parts(rows, bias=bias, scale=scale)
    x, w, b = [*params, None][:3]
    want, (got, _) = F.cross_entropy(F.linear(x, w, b), y), linear_cross_entropy(x, w, b, y)
    close(got, want)
    for a,c in zip(torch.autograd.grad(got*3, params), torch.autograd.grad(want*3, params)): close(a, c)


@pytest.mark.parametrize('vocab', [10, 1_000_000])
def test_the_smallest_and_the_largest_vocabulary(vocab):
    "Over a million words fp32 is off in the fifth place: ours is nowhere further from the exact numbers than stock"
    params, y = parts(40, vocab=vocab)
    exact = [o.detach().double().requires_grad_() for o in params]
    def numbers(loss, of): return [loss.double().detach(), *(o.double() for o in torch.autograd.grad(loss, of))]
    true, stock, ours = numbers(F.cross_entropy(F.linear(*exact), y), exact), numbers(F.cross_entropy(F.linear(*params), y), params), numbers(linear_cross_entropy(*params, y)[0], params)
    for t,a,b in zip(true, stock, ours): assert (b - t).abs().max() <= 1.1*(a - t).abs().max() + 1e-6


def test_the_sum_over_many_rows_is_exact():
    params, y = parts(3000, vocab=500)
    want, (got, _) = F.cross_entropy(F.linear(*params), y), linear_cross_entropy(*params, y)
    for a,c in zip(torch.autograd.grad(got, params), torch.autograd.grad(want, params)): close(a, c, 1e-6)


@pytest.mark.parametrize('piece', [1, 31*7, 10**9])
def test_without_gradients_the_likeliest_words_are_told(monkeypatch, piece):
    monkeypatch.setattr(engine, 'PIECE', piece)
    params, y = parts()
    with torch.no_grad(): loss, best = linear_cross_entropy(*params, y)
    close(loss, F.cross_entropy(F.linear(*params), y).detach())
    assert best.tolist() == F.linear(*params).argmax(1).tolist()


def test_frozen_projection():
    (x, w, b), y = parts()
    w, b = w.detach(), b.detach()
    a, = torch.autograd.grad(linear_cross_entropy(x, w, b, y)[0], [x])
    c, = torch.autograd.grad(F.cross_entropy(F.linear(x, w, b), y), [x])
    close(a, c)


@pytest.mark.parametrize('trained', [(0,), (1,), (2,), (0, 2)])
def test_only_some_have_gradients(trained):
    params, y = parts()
    params = [o.detach().requires_grad_(i in trained) for i,o in enumerate(params)]
    some = [params[i] for i in trained]
    for a,c in zip(torch.autograd.grad(linear_cross_entropy(*params, y)[0], some), torch.autograd.grad(F.cross_entropy(F.linear(*params), y), some)): close(a, c)


def test_no_rows():
    (x, w, b), y = parts()
    assert torch.isnan(linear_cross_entropy(x[:0], w, b, y[:0])[0]) and torch.isnan(F.cross_entropy(F.linear(x[:0], w, b), y[:0]))


def test_many_rows_of_a_small_vocabulary_in_fp16():
    "Their gradients add up to more than fp16 holds, which ends at 65,504"
    x, w = torch.ones(140_000, 1, dtype=torch.float16), torch.zeros(2, 1, dtype=torch.float16)
    dw, = torch.autograd.grad(linear_cross_entropy(x, w.requires_grad_(), None, torch.zeros(len(x), dtype=torch.int64))[0], [w])
    assert dw.flatten().tolist() == [-.5, .5]


def test_bf16_autocast():
    params, y = parts(200, vocab=64)
    with torch.autocast('cpu', torch.bfloat16):
        got, _ = linear_cross_entropy(*params, y)
        want = F.cross_entropy(F.linear(*params), y)
    assert got.dtype == torch.float32
    exact = torch.autograd.grad(F.cross_entropy(F.linear(*params), y), params)
    ours, stock = torch.autograd.grad(got, params), torch.autograd.grad(want, params)
    for a,b,e in zip(ours, stock, exact):
        assert a.dtype == torch.float32
        assert (a - e).norm() <= 1.5*(b - e).norm() + 1e-6 # no further from the truth than stock


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('piece', [1, 10**9])
def test_low_precision_keeps_what_is_left_to_1(monkeypatch, dtype, piece):
    "The gradient of a word that is nearly certain is what it lacks: a probability in half precision has lost that"
    monkeypatch.setattr(engine, 'PIECE', piece)
    params = [torch.eye(4, 8)*3, torch.eye(5, 8)*3, torch.zeros(5)] # numbers that any precision holds, and a likelihood of 0.9995
    low, exact = ([o.to(d).requires_grad_() for o in params] for d in (dtype, torch.float64))
    (got, _), want = linear_cross_entropy(*low, torch.arange(4)), F.cross_entropy(F.linear(*exact), torch.arange(4))
    torch.testing.assert_close(got, want.float(), rtol=1e-3, atol=0)
    for a,b in zip(torch.autograd.grad(got, low), torch.autograd.grad(want, exact)): torch.testing.assert_close(a.double(), b, rtol=.02, atol=1e-6)


def test_a_gpu_has_larger_pieces(monkeypatch):
    "As far as can be seen without one: few pieces where the features say that they are on it, the same numbers"
    class OnGPU(torch.Tensor):
        device = torch.device('cuda')
    seen, add = [], engine._add_gradients
    monkeypatch.setattr(engine, '_add_gradients', lambda grads, i, d, *args: seen.append(len(d)) or add(grads, i, d, *args))
    monkeypatch.setattr(engine, 'PIECE', 31*20)
    (x, w, b), y = parts()
    with torch.no_grad(): both = [engine._by_pieces(o, w, b, y, torch.float32, True) for o in (x, x.as_subclass(OnGPU))]
    assert seen == [20, 20, 10, 50]
    for a,b in zip(both[0][2], both[1][2]): close(a, b.as_subclass(torch.Tensor))


def test_logits_stand_for_a_tensor():
    (x, w, b), y = parts(12)
    linear = torch.nn.Linear(8, 31)
    logits = Logits(x.view(3, 4, 8), linear)
    full = linear(x.view(3, 4, 8))
    assert torch.equal(logits.argmax(-1), full.argmax(-1)) and torch.equal(logits.argmax(), full.argmax()) and torch.equal(logits.argmax(dim=1), full.argmax(1))
    assert torch.equal(logits.softmax(-1), full.softmax(-1)) and torch.equal(F.log_softmax(logits, -1), F.log_softmax(full, -1))
    assert logits.shape == full.shape and len(logits) == 3 and torch.equal(logits[0], full[0])
    close(CrossEntropyLossFlat()(full, y.view(3, 4)), LMLoss()(logits, y.view(3, 4)))
    close(CrossEntropyLossFlat(reduction='none')(full, y.view(3, 4)), LMLoss(reduction='none')(logits, y.view(3, 4)))


def test_logits_in_a_metric_of_ones_own():
    "Operators too, which Python does not look for in an object"
    linear = torch.nn.Linear(8, 31)
    x = torch.randn(3, 4, 8)
    logits, full = Logits(x, linear), linear(x)
    for f in (lambda o: -o, lambda o: abs(o), lambda o: o/2, lambda o: 2*o, lambda o: 1 - o, lambda o: 1 + o, lambda o: 2/o, lambda o: o**2, lambda o: o > 0, lambda o: o <= 0,
              lambda o: o - o.logsumexp(-1, keepdim=True), lambda o: o@torch.ones(31), lambda o: torch.ones(4)@o, lambda o: full*o, lambda o: o//1, lambda o: o%1, lambda o: 2**o, lambda o: o == full, lambda o: o != full,
              lambda o: torch.cat([o, full]), lambda o: torch.stack((full, o)), lambda o: torch.log_softmax(input=o, dim=-1), lambda o: o.argmax(-1, True), lambda o: o.sum(), lambda o: torch.tensor(o.tolist())): assert torch.equal(f(logits), f(full))
    assert torch.equal(copy(logits).full(), full) and {logits: 1}[logits] == 1


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_logits_of_half_precision_features(dtype):
    "Metrics come when autocast has ended, and get fp32 as from fastai"
    linear, x = torch.nn.Linear(8, 31), torch.randn(3, 4, 8).to(dtype)
    full = Logits(x, linear).full()
    assert full.dtype == torch.float32 and torch.equal(full, linear(x.float()))


@pytest.mark.parametrize('options', [dict(weight=torch.rand(31)), dict(label_smoothing=0.1), dict(ignore_index=3), dict(reduction='sum')], ids=lambda o: next(iter(o)))
def test_a_loss_with_options_keeps_them(options):
    _, y = parts(12)
    y[5] = 3
    x, linear, y = torch.randn(3, 4, 8), torch.nn.Linear(8, 31), y.view(3, 4)
    close(LMLoss(**options)(Logits(x, linear), y), CrossEntropyLossFlat(**options)(linear(x), y))


# ---- under a learner

def learners(reviews, drop_mult=0., metrics=None):
    "Stock and ours, with the same weights, each with its own DataLoaders: an epoch changes their order"
    def made(make, **kwargs):
        dls = lm_dls(reviews, bs=4, seq_len=30, min_freq=2)
        set_seed(3)
        return make(dls, config=SIZES, drop_mult=drop_mult or 1e-12, pretrained=False, metrics=metrics or [accuracy, Perplexity()], **kwargs)
    return made(partial(language_model_learner, arch=AWD_LSTM)), made(lm_learner)


def fit(learn, n=1):
    set_seed(4)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(n, 1e-2)
    return learn


def test_lm_learner_has_the_engine(reviews):
    stock, ours = learners(reviews)
    assert type(ours.model[1]) is ChunkedDecoder and type(ours.loss_func) is LMLoss and ours.opt_func is FusedAdam
    assert list(ours.model.state_dict()) == list(stock.model.state_dict())
    ours.model.load_state_dict(stock.model.state_dict())
    stock.model.load_state_dict(ours.model.state_dict())


def test_stock_is_one_argument_away(reviews):
    learn = lm_learner(lm_dls(reviews, bs=4, seq_len=30), config=SIZES, pretrained=False, chunked=False)
    assert type(learn.model[1]).__name__ == 'LinearDecoder' and type(learn.loss_func) is CrossEntropyLossFlat and learn.opt_func is Adam


def test_training_gives_the_same_network(reviews):
    "An epoch: rounding grows step by step, a mistake would grow faster"
    stock, ours = map(fit, learners(reviews))
    close(torch.stack(ours.recorder.losses), torch.stack(stock.recorder.losses), 1e-5)
    for (n,a),b in zip(stock.model.named_parameters(), ours.model.parameters()): close(a, b, 1e-3)
    close(torch.tensor(list(ours.recorder.values[-1])), torch.tensor(list(stock.recorder.values[-1])), 1e-4)


def test_dropout_draws_the_same_numbers(reviews):
    stock, ours = map(fit, learners(reviews, drop_mult=0.5))
    close(torch.stack(ours.recorder.losses), torch.stack(stock.recorder.losses), 1e-4)


def test_the_first_gradients(reviews):
    class Keep(Callback):
        def before_step(self):
            self.grads = {n: p.grad.clone() for n,p in self.model.named_parameters() if p.grad is not None}
            raise KeyboardInterrupt
    kept = []
    for learn in learners(reviews):
        keep = Keep()
        set_seed(5)
        with pytest.raises(KeyboardInterrupt), learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3, cbs=keep)
        kept.append(keep.grads)
    assert kept[0].keys() == kept[1].keys()
    for k in kept[0]: close(kept[0][k], kept[1][k], 1e-6)


def test_metrics_that_ask_for_more(reviews):
    stock, ours = learners(reviews, metrics=[accuracy, top_k_accuracy, Perplexity()])
    with ours.no_bar(), stock.no_bar(): close(torch.tensor(list(ours.validate())), torch.tensor(list(stock.validate())), 1e-5)


def test_metrics_in_half_precision(reviews):
    "The LSTMs give bf16, as under autocast on a GPU, and the weights are fp32"
    stock, ours = learners(reviews, metrics=[accuracy, top_k_accuracy])
    ours.model[0].register_forward_hook(lambda enc, args, out: out.bfloat16())
    with ours.no_bar(), stock.no_bar(): close(torch.tensor(list(ours.validate())), torch.tensor(list(stock.validate())), 0.02)


def test_metrics_of_training(reviews):
    "fastai takes them after the step, from what was predicted before it"
    both = learners(reviews, metrics=[accuracy, top_k_accuracy])
    for learn in both:
        learn.recorder.train_metrics = True
        set_seed(4)
        with learn.no_bar(), learn.no_logging(): learn.fit(1, .1)
    want, got = (list(o.recorder.values[-1]) for o in both)
    assert len(want) == 6
    close(torch.tensor(got), torch.tensor(want), 1e-4)


def test_logits_that_are_gone(reviews):
    "They are stock's until the weights change; then they are refused, not made of other weights"
    class Look(Callback):
        seen = None
        def after_loss(self): self.seen = self.seen or self.pred.sum().item()
        def after_batch(self):
            if self.training: self.pred.sum()
    stock, ours = learners(reviews)
    for learn in stock, ours: learn.add_cb(Look())
    fit(stock)
    with pytest.raises(RuntimeError, match='the logits of a step were requested after it.*chunked=False'): fit(ours)
    assert ours.look.seen == pytest.approx(stock.look.seen, rel=1e-4)


def test_a_decoder_that_is_watched_or_another_one(reviews):
    "Hooks are called, and what is no plain `Linear` computes what it computes"
    class Doubled(torch.nn.Linear):
        def forward(self, x): return 2*super().forward(x)
    stock, ours = learners(reviews)
    for learn in stock, ours:
        learn.shapes = []
        learn.hook = learn.model[1].decoder.register_forward_hook(lambda m, x, out, learn=learn: learn.shapes.append(tuple(out.shape)))
    with ours.no_bar(), stock.no_bar():
        close(torch.tensor(list(ours.validate())), torch.tensor(list(stock.validate())))
        assert ours.shapes == stock.shapes != []
        for learn in stock, ours:
            learn.hook.remove()
            learn.model[1].decoder.__class__ = Doubled
        close(torch.tensor(list(ours.validate())), torch.tensor(list(stock.validate())))


@pytest.mark.parametrize('error', [CancelTrainException, CancelEpochException, CancelFitException])
def test_a_batch_that_is_called_off_leaves_a_network_as_it_was(reviews, error):
    class CallOff(Callback):
        order = 50
        def before_batch(self):
            if self.training: raise error
    _, ours = learners(reviews)
    with ours.no_bar(), ours.no_logging(): ours.fit(1, cbs=CallOff())
    with torch.no_grad(): assert isinstance(ours.model(torch.randint(0, 50, (2, 3)))[0], torch.Tensor)


def test_a_batch_that_is_broken_off_leaves_a_network_as_it_was(reviews):
    class Break(Callback):
        order = 50
        def before_batch(self): raise KeyboardInterrupt
    _, ours = learners(reviews)
    with ours.no_bar(), ours.no_logging(), pytest.raises(KeyboardInterrupt): ours.fit_two_stage(0, epochs=1, cbs=Break())
    with torch.no_grad(): assert isinstance(ours.model(torch.randint(0, 50, (2, 3)))[0], torch.Tensor)


def test_predictions_are_whole(reviews):
    stock, ours = learners(reviews)
    with stock.no_bar(), ours.no_bar():
        for a,b in zip(ours.get_preds(reorder=False), stock.get_preds(reorder=False)): close(a, b)
        set_seed(6); one = ours.predict('The film', n_words=5)
        set_seed(6); assert one == stock.predict('The film', n_words=5)
        assert ours.lr_find(num_it=8, show_plot=False).valley > 0
    ids = torch.randint(0, 50, (2, 3))
    with torch.no_grad(): assert isinstance(ours.model(ids)[0], torch.Tensor)
    fit(ours)
    with torch.no_grad(): assert isinstance(ours.model(ids)[0], torch.Tensor)


def test_logits_are_never_whole(reviews, monkeypatch):
    "In training and in validation no tensor as large as a batch of logits is made"
    def never(self): raise AssertionError('the logits were made')
    monkeypatch.setattr(Logits, 'full', never)
    _, ours = learners(reviews)
    words, made, softmax = len(ours.dls.vocab), [], engine._softmax_
    monkeypatch.setattr(engine, 'PIECE', 7*words)
    monkeypatch.setattr(engine, '_softmax_', lambda logits, target: made.append(logits.shape) or softmax(logits, target))
    fit(ours)
    with ours.no_bar(): ours.validate()
    assert set(made) <= {(o, words) for o in range(1, 8)} and sum(n for n,_ in made) > len(ours.dls.train)*4*30


class Dtypes(Callback):
    "What the layers of a network compute in; a `Linear` that is watched is not in pieces"
    def __init__(self, *kinds): self.kinds = kinds
    def before_fit(self):
        self.seen = {}
        def note(layer, args, out): self.seen[type(layer)] = (out[0] if isinstance(out, tuple) else out).dtype
        self.hooks = [layer.register_forward_hook(note) for layer in self.model.modules() if isinstance(layer, self.kinds)]
    def after_backward(self): self.seen['gradients'] = {p.grad.dtype for p in self.model.parameters() if p.grad is not None}
    def after_fit(self): [o.remove() for o in self.hooks]

@pytest.mark.parametrize('chunked', [True, False])
def test_bf16_on_a_cpu(reviews, monkeypatch, chunked):
    pieces = []
    by_pieces = engine._by_pieces
    monkeypatch.setattr(engine, '_by_pieces', lambda *args: pieces.append(args[4]) or by_pieces(*args))
    def train(cbs):
        set_seed(3)
        learn = lm_learner(lm_dls(reviews, bs=4, seq_len=70, min_freq=2), config=SIZES, pretrained=False, chunked=chunked)
        set_seed(4)
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, 1e-2, cbs=cbs)
        return learn
    low, full = (Dtypes(torch.nn.LSTM, *[torch.nn.Linear]*(not chunked)) for _ in range(2))
    has_bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported() # without it only torch's own LSTM runs, and that in fp32
    with torch.backends.mkldnn.flags(enabled=has_bf16): a, b = train([BF16(), low]), train([full])
    if has_bf16: assert low.seen[torch.nn.LSTM] == torch.bfloat16
    assert full.seen[torch.nn.LSTM] == torch.float32 and low.seen['gradients'] == {torch.float32}
    if chunked: assert torch.bfloat16 in pieces and torch.float32 in pieces
    else: assert (low.seen[torch.nn.Linear], full.seen[torch.nn.Linear]) == (torch.bfloat16, torch.float32)
    assert not torch.is_autocast_enabled('cpu')
    close(torch.tensor([float(o) for o in a.recorder.losses]), torch.tensor([float(o) for o in b.recorder.losses]), .03)

def test_bf16_ends_with_the_training(reviews, monkeypatch):
    "However it ends: by a batch that is left out, by Ctrl-C in one, in the next training"
    class Break(Callback):
        order = 50
        def __init__(self, error): self.error = error
        def after_pred(self): raise self.error
    learn = lm_learner(lm_dls(reviews, bs=4, seq_len=30), config=SIZES, pretrained=False)
    with torch.backends.mkldnn.flags(enabled=torch.ops.mkldnn._is_mkldnn_bf16_supported()), learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=[BF16(), Break(CancelBatchException)])
        assert not torch.is_autocast_enabled('cpu')
        for f in (learn.fit_two_stage, learn.fit_two_stage):
            with pytest.raises(KeyboardInterrupt): f(0, epochs=1, cbs=[BF16(), Break(KeyboardInterrupt)])
            assert not torch.is_autocast_enabled('cpu')
        low = BF16()
        with pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=[low, Break(KeyboardInterrupt)])
        assert torch.is_autocast_enabled('cpu') # nobody is told
        low.leave(), low.leave()
        assert not torch.is_autocast_enabled('cpu')


def test_bf16_draws_nothing(reviews):
    "Whether there is bf16 is tried out, and what is random stays as it was"
    learn = lm_learner(lm_dls(reviews, bs=4, seq_len=30), config=SIZES, pretrained=False)
    learn.add_cb(BF16())
    was = torch.get_rng_state()
    with torch.backends.mkldnn.flags(enabled=torch.ops.mkldnn._is_mkldnn_bf16_supported()): learn.bf16.before_fit()
    assert torch.equal(torch.get_rng_state(), was)


def test_bf16_where_there_is_none(reviews, monkeypatch):
    def no(*args, **kwargs): raise RuntimeError('could not create a primitive descriptor for the LSTM forward propagation primitive')
    learn = lm_learner(lm_dls(reviews, bs=4, seq_len=30), config=SIZES, pretrained=False)
    monkeypatch.setattr(torch.nn.LSTM, 'forward', no)
    with pytest.raises(ValueError, match='this CPU has no bf16 for an LSTM: train in fp32'), learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=BF16())
    assert not torch.is_autocast_enabled('cpu')


def weights_of(opt_func, freeze):
    "What 20 steps make of four weights in two groups, of which one has no decay; the first group may be frozen for some of them"
    torch.manual_seed(0)
    weights = [torch.randn(o).requires_grad_() for o in ((50, 8), (50,), (8, 8), (3,))]
    opt = opt_func([weights[:2], weights[2:]], lr=slice(1e-3, 1e-2), wd=0.1)
    opt.state[weights[1]]['do_wd'] = False # as a learner does with biases
    for i,mom in enumerate(torch.linspace(.95, .85, 20).tolist()):
        if freeze and i in (0, 8): opt.freeze_to(1 if i == 0 else 0)
        opt.set_hypers(mom=mom, lr=[1e-3*(i + 1), 1e-2])
        for k,o in enumerate(weights): o.grad = torch.randn_like(o)*10.**-k if o.requires_grad else None
        if i == 15: opt.load_state_dict(opt.state_dict())
        opt.step()
    return weights, opt


@pytest.mark.parametrize('freeze', [False, True])
def test_fused_adam_steps_as_adam_does(freeze):
    (stock, stock_opt), (ours, opt) = (weights_of(o, freeze) for o in (Adam, FusedAdam))
    for a,b in zip(stock, ours): torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-7)
    for a,b in zip(stock_opt.state_dict()['state'], opt.state_dict()['state']):
        assert a.keys() == b.keys() and a['step'] == b['step'] == (12 if freeze and a['grad_avg'].shape[0] == 50 else 20)
        for k in ('grad_avg', 'sqr_avg'): torch.testing.assert_close(b[k], a[k], rtol=1e-5, atol=1e-7)


def test_weights_treated_alike_are_moved_at_once(monkeypatch):
    moved, adamw = [], engine.adamw
    monkeypatch.setattr(engine, 'adamw', lambda params, *args, **kwargs: (moved.append(len(params)), adamw(params, *args, **kwargs)))
    weights = [torch.randn(3).requires_grad_() for _ in range(4)]
    for o in weights: o.grad = torch.randn(3)
    opt = FusedAdam([weights[:1], weights[1:2], weights[2:]], lr=1e-3)
    opt.step()
    opt.set_hypers(lr=[1e-3, 1e-3, 1e-2])
    opt.step()
    assert moved == [4, 2, 2]


@pytest.mark.parametrize('was,now', [(Adam, FusedAdam), (FusedAdam, Adam)])
def test_what_one_adam_saved_the_other_goes_on_with(reviews, tmp_path, was, now):
    def learner(opt_func):
        set_seed(3)
        return lm_learner(lm_dls(reviews, bs=4, seq_len=30), config=SIZES, pretrained=False, opt_func=opt_func, path=tmp_path)
    fit(learner(was)).save('half')
    for learn in (before := learner(was), after := learner(now)):
        learn.load('half', with_opt=True)
        set_seed(5)
        with learn.no_bar(), learn.no_logging(): learn.fit(1, slice(1e-3, 1e-2), reset_opt=False)
    assert type(before.opt) is not type(after.opt)
    for (n,a),b in zip(before.model.named_parameters(), after.model.parameters()): close(a, b, 1e-5)
