"""The hand-written backward passes against finite differences and against autograd of the plain formula."""

import pytest
import torch

from nas.fusion import passes

SHAPE = (2, 3, 4, 5)
NAMES = ("mean", "mean of rows", "pool", "summary", "scale", "scale by lines")
layouts = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def tensor(*shape, layout=torch.contiguous_format):
    return torch.randn(*shape, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()


def calls(layout):
    t = tensor(*SHAPE, layout=layout)
    channel, spatial = tensor(2, 3, 1, 1), tensor(2, 1, 4, 5)
    rows, columns = tensor(2, 3, 4, 1), tensor(2, 3, 1, 5)
    base = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def scale(t, one, other, base, training=True):
        return passes.scale(t, one, other, base, training)

    return {
        "mean": (lambda t, training=True: passes.mean(t, [2, 3], training), (t,)),
        "mean of rows": (lambda t, training=True: passes.mean(t, [3], training), (t,)),
        "pool": (lambda t, training=True: passes.pool(t, training), (t,)),
        "summary": (lambda t, c, training=True: passes.summary(t, c, training), (t, channel)),
        "scale": (scale, (t, channel, spatial, base)),
        "scale by lines": (scale, (t, rows, columns, base)),
    }


@layouts
@pytest.mark.parametrize("name", NAMES)
def test_gradients(name, layout):
    function, inputs = calls(layout)[name]
    assert torch.autograd.gradcheck(function, inputs)


@layouts
@pytest.mark.parametrize("name", NAMES)
def test_values_and_layout_are_those_of_the_formula(name, layout):
    function, inputs = calls(layout)[name]
    ours, formula = function(*inputs), function(*inputs, training=False)
    torch.testing.assert_close(ours, formula)
    if name.startswith("scale"):
        assert ours.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("name", ["pool", "summary"])
def test_ties_share_the_gradient_as_amax_does(name):
    """After a ReLU whole channels are 0."""
    function, inputs = calls(torch.channels_last)[name]
    t = inputs[0].detach().round().relu()
    t[:, 1] = 0
    inputs = (t.requires_grad_(), *inputs[1:])

    def gradients(training):
        outputs = function(*inputs, training=training)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum((out * torch.arange(out.numel()).view_as(out)).sum() for out in outputs)
        return torch.autograd.grad(loss, inputs)

    torch.testing.assert_close(gradients(True), gradients(False))


def test_a_fixed_base_gets_no_gradient():
    t, channel, spatial = tensor(*SHAPE), tensor(2, 3, 1, 1), tensor(2, 1, 4, 5)
    base = torch.ones((), dtype=torch.float64)
    passes.scale(t, channel, spatial, base, True).sum().backward()
    assert base.grad is None
    torch.testing.assert_close(t.grad, (1 + channel * spatial).detach())


def test_bfloat16_is_kept():
    t = torch.randn(*SHAPE, dtype=torch.bfloat16, requires_grad=True)
    channel, spatial = torch.rand(2, 3, 1, 1, dtype=t.dtype), torch.rand(2, 1, 4, 5, dtype=t.dtype)
    out = passes.scale(t, channel, spatial, torch.tensor(0.5), True)
    out.sum().backward()
    assert out.dtype == t.grad.dtype == torch.bfloat16
