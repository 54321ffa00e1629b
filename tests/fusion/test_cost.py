import pytest
import timm
import torch

from nas.fusion import count_macs, count_params

FUSION = [
    {"pattern": "p1", "attention": "coord"},
    {"pattern": "p2", "attention": "cbam", "learnable": True},
    {"pattern": "p3", "attention": "eca"},
    {"pattern": "p4", "attention": "se", "gamma_skip_init": 0.05},
]


def macs_by_hand(model, x):
    """Multiply-accumulates from the shapes that each layer sees."""
    total = 0

    def count(module, _args, output):
        nonlocal total
        weights = module.weight[0].numel()  # per output element
        total += output.numel() * weights

    layers = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)
    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, layers)]
    with torch.no_grad():
        model.eval()(x)
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize("name", ["fusion_resnet_micro", "fusion_resnet14t"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_macs_are_those_of_every_layer(name, norm):
    model = timm.create_model(name, fusion=FUSION, num_classes=10, in_chans=1, norm=norm)
    assert count_macs(model, (1, 32, 24)) == macs_by_hand(model, torch.randn(1, 1, 32, 24))


def test_the_plain_network_costs_what_is_published():
    model = timm.create_model("fusion_resnet18", device="meta")
    assert count_params(model) == 11_689_512
    assert count_macs(model, (3, 224, 224)) == 1_814_073_344


def test_parameters_are_counted_once_and_without_buffers():
    model = timm.create_model("fusion_resnet_micro", fusion=FUSION, num_classes=10)
    assert count_params(model) == sum(
        tensor.numel()
        for key, tensor in model.state_dict().items()
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )


def test_counting_leaves_the_model_alone():
    model = timm.create_model("fusion_resnet_micro", fusion=FUSION, num_classes=10).train()
    model.layer1.eval()
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    generator = torch.get_rng_state()
    count_macs(model, (3, 8, 8))
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.requires_grad and p.device.type == "cpu" for p in model.parameters())
