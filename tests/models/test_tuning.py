"""What a tuning trains of a network, and what it leaves as it is."""

import copy

import pytest
import timm
import torch
import torchvision

from lmdbench.core.errors import UserError
from lmdbench.models.classifier import Encoder
from lmdbench.models.small import SmallNet
from lmdbench.models.tuning import Tuning, check_rank, merged, parse_tuning, tune

VIT = {"depth": 2, "embed_dim": 16, "num_heads": 2, "img_size": 16, "patch_size": 8}


def timm_vit() -> Encoder:
    """Two blocks of width 16: qkv 16 → 48, proj 16 → 16, fc1 16 → 64, fc2 64 → 16."""
    return Encoder(timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT), 16)


def torch_vit() -> Encoder:
    sizes = {"image_size": 16, "patch_size": 8, "num_layers": 2, "num_heads": 2}
    body = torchvision.models.VisionTransformer(**sizes, hidden_dim=16, mlp_dim=32)
    body.heads = torch.nn.Identity()
    return Encoder(body, 16)


def small() -> Encoder:
    return Encoder(SmallNet(), SmallNet.out_features)


def made(make, tuning: str = "full", **how) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = make()
        tune(encoder, parse_tuning(tuning), **how)
    return encoder


def trained(encoder: Encoder) -> dict[str, int]:
    """The numbers in each parameter that is trained, by name behind the body's."""
    named = encoder.body.named_parameters()
    return {name: p.numel() for name, p in named if p.requires_grad}


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def moved(encoder: Encoder, steps: int = 3) -> Encoder:
    """The encoder after some steps, in training mode."""
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=0.05)
    encoder.train()
    for step in range(steps):
        optimizer.zero_grad()
        encoder(images(step)).square().mean().backward()
        optimizer.step()
    return encoder


# The text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("full", "full"),
        ("head", "head"),
        ("norm", "norm"),
        ("lora", "lora:rank=8,alpha=16"),
        ("lora:alpha=4,rank=2", "lora:rank=2,alpha=4"),
        ("lora:targets=qkv+proj", "lora:rank=8,alpha=16,targets=proj+qkv"),
        ("lora:targets=proj+qkv", "lora:rank=8,alpha=16,targets=proj+qkv"),
        ("lora:alpha=0.5", "lora:rank=8,alpha=0.5"),
        ("adapter", "adapter:width=64"),
        ("adapter:width=8", "adapter:width=8"),
        ("last-blocks=3", "last-blocks=3"),
    ],
)
def test_a_tuning_has_one_text(text, canonical):
    tuning = parse_tuning(text)
    assert str(tuning) == canonical
    assert parse_tuning(canonical) == tuning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lorra", "--tuning lorra: unknown tuning 'lorra'. Did you mean lora"),
        ("lora:rnk=2", "lora takes rank, alpha, targets, not 'rnk=2'"),
        ("lora:rank=4,rank=8", "rank is given twice; keep one of them"),
        ("lora:rank=two", "rank is 'two', but must be a whole number from 0 on"),
        ("lora:alpha=-1", "alpha is '-1', but must be a number from 0 on"),
        ("lora:alpha=inf", "alpha is 'inf', but must be a number from 0 on"),
        ("lora:targets=", "targets is '', but must be names of layers with \\+ between"),
        ("lora:", "lora:: lora takes rank, alpha, targets; leave out the colon or comma"),
        ("lora:rank=4,", "lora takes rank, alpha, targets; leave out the colon or comma"),
        ("head:", "head takes nothing more; leave out the colon or comma"),
        ("adapter:width=0", "width is '0', but must be a whole number from 1 on"),
        ("norm:rank=2", "norm takes nothing more, not 'rank=2'"),
        ("last-blocks", "last-blocks: say how many, as in last-blocks=2"),
        ("last-blocks=0", "blocks is '0', but must be a whole number from 1 on"),
        ("", "unknown tuning ''"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(UserError, match=message):
        parse_tuning(text)


# What is trained, by hand


def test_lora_of_attention_by_hand():
    """Rank 2: 2 · (16 + 48) of qkv and 2 · (16 + 16) of proj, in each of two blocks."""
    found = trained(made(timm_vit, "lora:rank=2"))
    assert sum(found.values()) == 2 * (2 * (16 + 48) + 2 * (16 + 16))
    assert {name.split(".")[3] for name in found} == {"qkv", "proj"}
    assert sum(trained(made(torch_vit, "lora:rank=2")).values()) == sum(found.values())


@pytest.mark.parametrize(
    ("make", "targets", "largest"),
    [
        (timm_vit, "", 16),  # qkv (48, 16)
        (timm_vit, ",targets=fc1", 16),  # (64, 16)
        (small, "", 96),  # the last convolution (96, 48 · 9)
        (small, ",targets=stem", 24),  # (24, 3 · 9)
    ],
)
def test_a_rank_above_that_of_every_weight_is_refused(make, targets, largest):
    body = make().body
    check_rank(body, parse_tuning(f"lora:rank={largest}{targets}"))
    with pytest.raises(UserError, match=f"rank is {largest + 1}, .* of rank {largest} at most"):
        check_rank(body, parse_tuning(f"lora:rank={largest + 1}{targets}"))


def test_lora_of_what_is_named():
    found = trained(made(timm_vit, "lora:rank=1,targets=fc1"))
    assert sum(found.values()) == 2 * (16 + 64)
    found = trained(made(timm_vit, "lora:rank=1,targets=mlp"))
    assert sum(found.values()) == 2 * ((16 + 64) + (64 + 16))
    everything = trained(made(timm_vit, "lora:rank=1,targets=all"))
    assert sum(everything.values()) == 2 * (16 + 48 + 16 + 16 + 2 * (16 + 64)) + 3 * 64 + 16


def test_lora_of_convolutions_by_hand():
    """Where there is no attention, all of them: r · (inputs · 9 + outputs)."""
    sizes = [(3, 24), (24, 48), (48, 48), (48, 96)]
    found = trained(made(small, "lora:rank=2"))
    assert sum(found.values()) == sum(2 * (9 * i + o) for i, o in sizes)


def test_adapters_by_hand():
    """16 → 4 and back, with biases, beside each of two MLPs."""
    found = trained(made(timm_vit, "adapter:width=4"))
    assert sum(found.values()) == 2 * (16 * 4 + 4 + 4 * 16 + 16)
    assert sum(trained(made(torch_vit, "adapter:width=4")).values()) == sum(found.values())


def test_norms_and_biases_by_hand():
    """Two norms a block and the last one; biases of qkv, proj, fc1, fc2 and the patches."""
    found = trained(made(timm_vit, "norm"))
    assert sum(found.values()) == 2 * (2 * 32 + 48 + 16 + 64 + 16) + 32 + 16
    assert not any(name.endswith("qkv.weight") for name in found)
    assert sum(trained(made(small, "norm")).values()) == 2 * (24 + 48 + 48 + 96)


def test_last_blocks_by_hand():
    block = 2 * 32 + (16 * 48 + 48) + (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16)
    assert sum(trained(made(timm_vit, "last-blocks=1")).values()) == block + 32
    assert sum(trained(made(timm_vit, "last-blocks=2")).values()) == 2 * block + 32
    assert {*trained(made(small, "last-blocks=1"))} == {
        "layer3.0.weight",
        "layer3.1.weight",
        "layer3.1.bias",
    }


# Limits


BEGINNING = ["lora", "lora:rank=3,targets=all", "adapter", "norm", "last-blocks=1"]


@pytest.mark.parametrize("make", [timm_vit, torch_vit])
@pytest.mark.parametrize("tuning", [*BEGINNING, "lora:rank=0"])
def test_without_a_step_it_is_the_network_to_the_bit(make, tuning):
    plain, tuned = made(make).eval(), made(make, tuning).eval()
    with torch.inference_mode():
        assert torch.equal(tuned(images()), plain(images()))


def test_rank_0_trains_nothing():
    assert trained(made(timm_vit, "lora:rank=0")) == {}


@pytest.mark.parametrize(
    ("make", "tuning"),
    [
        *((timm_vit, tuning) for tuning in BEGINNING),
        (torch_vit, "lora"),
        (small, "lora"),
        (small, "last-blocks=1"),
    ],
)
def test_what_is_frozen_stays_to_the_bit(make, tuning):
    """Batch norm's statistics too; what is trained moves."""
    before = made(make, tuning)
    after = moved(copy.deepcopy(before))
    own = {f"body.{name}" for name in trained(before)}
    if tuning.startswith("last-blocks") and make is small:
        own |= {"body.layer3.1.running_mean", "body.layer3.1.running_var"}
        own |= {"body.layer3.1.num_batches_tracked"}
    then = after.state_dict()
    assert {n for n, v in before.state_dict().items() if not torch.equal(v, then[n])} == own


def test_frozen_modules_stay_in_evaluation_mode_also_in_copies():
    encoder = copy.deepcopy(made(small, "last-blocks=1")).train()
    modes = {name: m.training for name, m in encoder.body.named_children()}
    assert modes == {"stem": False, "layer1": False, "layer2": False, "layer3": True}
    assert not any(m.training for m in encoder.body.layer1.modules())
    assert all(m.training for m in encoder.body.layer3.modules())
    encoder.eval()
    assert not any(m.training for m in encoder.modules())


def test_a_method_that_trains_a_head_says_the_mode_itself():
    encoder = made(small, "last-blocks=1", trained=False).train()
    assert all(m.training for m in encoder.modules())


# Merging


@pytest.mark.parametrize(
    ("make", "tuning"),
    [
        (timm_vit, "lora:rank=2,alpha=4"),
        (timm_vit, "lora:rank=3,targets=all"),
        (torch_vit, "lora"),
        (small, "lora"),
    ],
)
def test_merged_weights_of_a_plain_network_give_the_same_features(make, tuning):
    tuned, plain = moved(made(make, tuning)).eval(), made(make).eval()
    before = plain(images())
    plain.load_state_dict(merged(tuned.state_dict()))
    assert torch.allclose(plain(images()), tuned(images()), atol=1e-5)
    assert not torch.allclose(plain(images()), before, atol=1e-3)


def test_what_has_no_lora_is_merged_as_it_is():
    state = made(small).state_dict()
    assert all(torch.equal(value, merged(state)[name]) for name, value in state.items())


def test_adapters_can_not_be_merged():
    with pytest.raises(UserError, match="adapters beside its MLPs, which can't be merged"):
        merged(made(timm_vit, "adapter").state_dict())


@pytest.mark.parametrize("up", [None, torch.zeros(3, 3)])
def test_a_damaged_lora_is_told(up):
    state = made(small, "lora").state_dict()
    name = next(name for name in state if name.endswith(".0.up"))
    if up is None:
        del state[name]
    else:
        state[name] = up
    with pytest.raises(UserError, match=r"weight\.0 is not a LoRA .* fits its weight"):
        merged(state)


def test_a_low_rank_is_alpha_over_rank_times_the_product():
    encoder = made(timm_vit, "lora:rank=2,alpha=6,targets=proj")
    layer = encoder.body.blocks[0].attn.proj
    low_rank = layer.parametrizations.weight[0]
    with torch.no_grad():
        low_rank.up.fill_(0.5)
        low_rank.down.fill_(0.25)
    added = layer.weight - layer.parametrizations.weight.original
    assert torch.allclose(added, torch.full((16, 16), 3 * 2 * 0.125), atol=1e-6)


# Refusals


@pytest.mark.parametrize(
    ("make", "tuning", "message"),
    [
        (small, "adapter", "SmallNet has no MLP beside which an adapter could stand"),
        (small, "last-blocks=4", "--tuning last-blocks=4: SmallNet has 3 blocks"),
        (timm_vit, "lora:targets=qvk", "targets: unknown layer 'qvk'. Did you mean qkv"),
        (small, "lora:targets=qkv", "targets: unknown layer 'qkv'"),
    ],
)
def test_what_a_network_lacks_is_told(make, tuning, message):
    with pytest.raises(UserError, match=message):
        made(make, tuning)


def test_full_changes_nothing():
    encoder = made(small)
    tune(encoder, Tuning())
    assert all(p.requires_grad for p in encoder.parameters())
    assert encoder.train().body.stem.training
