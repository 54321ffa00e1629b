import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Architecture, Backbone
from nas.fusion.cost import compare_cost, count_macs, count_params, count_training_bytes
from nas.fusion.models import build_model

FUSION = [
    {"pattern": "p1", "attention": "coord"},
    {"pattern": "p2", "attention": "cbam", "learnable": True},
    {"pattern": "p3", "attention": "eca"},
    {"pattern": "p4", "attention": "se", "gamma_skip_init": 0.05},
]


def macs_by_torch(model, x):
    """Multiply-accumulates of every convolution and matrix product that torch sees."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(x)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", ["fusion_resnet_micro", "fusion_resnet14t"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_macs_are_those_of_every_layer(name, norm):
    model = timm.create_model(name, fusion=FUSION, num_classes=10, in_chans=1, norm=norm)
    assert count_macs(model, (1, 32, 24)) == macs_by_torch(model, torch.randn(1, 1, 32, 24))


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


def test_comparison_counts_both_and_times_in_turns(monkeypatch):
    stage = {"pattern": "p1", "attention": "se"}
    backbone = Backbone(name="resnet_micro", stem="small")
    arch = Architecture(backbone=backbone, num_classes=4, in_chans=1, stages=[stage] * 4)
    clock = iter(range(10_000))
    monkeypatch.setattr("nas.fusion.cost.time.perf_counter", lambda: next(clock))
    threads, before_rng = torch.get_num_threads(), torch.get_rng_state()
    result = compare_cost(arch, batch=3, repeats=4)
    after_rng = torch.get_rng_state()
    assert (result.input_size, result.batch, result.threads) == ((1, 32, 32), 3, 1)
    plain = timm.create_model("fusion_resnet_micro", num_classes=4, in_chans=1)
    for cost, model in ((result.fused, build_model(arch)), (result.plain, plain)):
        assert (cost.num_params, cost.macs) == (count_params(model), count_macs(model, (1, 32, 32)))
        assert (cost.latency_low_ms, cost.latency_ms, cost.latency_high_ms) == (1000, 1000, 1000)
    assert result.ratios["latency_ms"] == 1
    assert result.ratios["macs"] == result.fused.macs / result.plain.macs
    assert torch.get_num_threads() == threads
    assert torch.equal(before_rng, after_rng)


def test_image_sizes_follow_the_stem():
    arch = Architecture.plain(Backbone(name="resnet10t"), num_classes=2)
    assert compare_cost(arch, repeats=2).input_size == (3, 224, 224)
    assert compare_cost(arch, repeats=2, image_size=40).input_size == (3, 40, 40)


def test_resnet18_by_the_arithmetic_of_its_paper():
    """Stem, two blocks of two 3×3 convolutions a stage at sides 56, 28, 14 and 7, projections, classifier."""
    stem = 112**2 * 64 * 3 * 7**2
    stages = projections = 0
    for side, before, width in ((56, 64, 64), (28, 64, 128), (14, 128, 256), (7, 256, 512)):
        stages += side**2 * width * 9 * (before + 3 * width)
        projections += side**2 * width * before if before != width else 0
    by_hand = stem + stages + projections + 512 * 1000
    assert by_hand == pytest.approx(1.81e9, rel=0.005)
    model = timm.create_model("fusion_resnet18", device="meta")
    assert count_macs(model, (3, 224, 224)) == by_hand
    assert count_params(model) == 11_689_512


def test_memory_of_a_training_step_by_hand():
    """Kept: the images, and the ReLU's output, which it shares with the convolution behind it."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False))
    weights = 3 * 8 * 9 + 8 * 4
    kept = 5 * 3 * 6 * 6 + 5 * 8 * 6 * 6
    assert count_training_bytes(model, (3, 6, 6), 5) == 4 * (3 * weights + kept)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_memory_of_a_step_in_half_precision_by_hand(half):
    """Kept in two bytes: what is kept in four otherwise, and a copy of each weight."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False))
    weights = 3 * 8 * 9 + 8 * 4
    kept = 5 * 3 * 6 * 6 + 5 * 8 * 6 * 6
    assert count_training_bytes(model, (3, 6, 6), 5, half) == 4 * 3 * weights + 2 * (weights + kept)
    assert not torch.is_autocast_enabled("cpu")


def test_a_study_in_half_precision_counts_what_it_stores():
    from nas.study.config import StudyConfig
    from nas.study.run.training import known_cost

    plain = Architecture.plain(Backbone(name="resnet_micro", stem="small"), num_classes=4, in_chans=1)

    def megabytes(precision):
        content = {
            "schema": 1,
            "name": "memory",
            "space": "patterns",
            "objectives": {"val_accuracy": "maximize", "peak_memory_mb": "minimize"},
            "training": {"precision": precision},
        }
        return known_cost(plain, StudyConfig.parse(content, "here"), (1, 32, 32), "cpu").plain.peak_memory_mb

    full, brain, half = map(megabytes, ("32-true", "bf16-mixed", "16-mixed"))
    assert brain == half < 0.6 * full


def test_memory_grows_with_the_batch_and_with_fusion():
    backbone = Backbone(name="resnet_micro", stem="small")
    stage = {"pattern": "p2", "attention": "cbam"}
    plain = Architecture.plain(backbone, num_classes=4, in_chans=1)
    fused = Architecture(backbone=backbone, num_classes=4, in_chans=1, stages=[stage] * 4)

    def megabytes(batch):
        costs = compare_cost(fused, repeats=0, train_batch=batch)
        assert costs.fused.latency_ms is None
        return costs.plain.peak_memory_mb, costs.fused.peak_memory_mb

    small, large = megabytes(8), megabytes(16)
    assert small[0] < small[1]
    assert small[0] < large[0] < 2 * small[0]
    assert compare_cost(plain, repeats=0).plain.peak_memory_mb is None
