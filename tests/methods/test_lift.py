import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import vision_transformer as of_torchvision

from lmdbench.core.errors import UserError
from lmdbench.methods.ldam_drw import CosineHead
from lmdbench.methods.lift import LIFT, AdaptedBlock, adapter_width, add_adapters, blocks_of
from lmdbench.methods.logit_adjustment import logit_adjusted_loss
from lmdbench.models.classifier import Encoder

from .helpers import moved, snapshot, train_and_resume
from .released import Case, cases


def vit() -> VisionTransformer:
    return VisionTransformer(
        img_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=0
    )


def torchvision_vit() -> nn.Module:
    made = of_torchvision.VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=64
    )
    made.heads = nn.Identity()
    return made


def set_to(parameter: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value.reshape(parameter.shape))


def norm_drawn(case: Case, norm: nn.LayerNorm) -> None:
    set_to(norm.weight, 1 + case.normal(*norm.weight.shape, scale=0.1))
    set_to(norm.bias, case.normal(*norm.bias.shape, scale=0.1))


def linear_drawn(case: Case, linear: nn.Linear | nn.Conv2d, scale: float) -> None:
    set_to(linear.weight, case.normal(*linear.weight.shape, scale=scale))
    set_to(linear.bias, case.normal(*linear.bias.shape, scale=0.1))


def drawn(case: Case) -> tuple[nn.Module, list[nn.Module]]:
    """The network of the official values, with its adapters."""
    body = vit().double()
    linear_drawn(case, body.patch_embed.proj, 0.2)
    set_to(body.cls_token, case.normal(16, scale=0.5))
    set_to(body.pos_embed, case.normal(5, 16, scale=0.5))
    for block in body.blocks:
        for norm in (block.norm1, block.norm2):
            norm_drawn(case, norm)
        for linear in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
            linear_drawn(case, linear, 0.25)
    norm_drawn(case, body.norm)
    add_adapters(body, 16, 2)
    adapters = [block.adapter for block in body.double().blocks]
    for adapter in adapters:
        norm_drawn(case, adapter.norm)
        linear_drawn(case, adapter.down, 0.5)
        linear_drawn(case, adapter.up, 0.5)
        set_to(adapter.scale, 1 + case.normal(1, scale=0.1))
    return body, adapters


@cases("lift")
def test_official_values(released):
    case = Case(*released)
    body, adapters = drawn(case)
    head = CosineHead(16, case.C, 25.0).double()
    set_to(head.weight, case.normal(case.C, 16))
    images, labels = case.normal(6, 3, 8, 8), case.labels(6)
    features = body(images)
    assert features.norm().item() == pytest.approx(case.values["feature_norm"], rel=1e-9)
    loss = logit_adjusted_loss(head(features), labels, case.counts, 1.0)
    assert loss.item() == pytest.approx(case.values["loss"], rel=1e-9)
    trained = [p for adapter in adapters for p in adapter.parameters()]
    assert sum(p.numel() for p in trained) == case.values["adapter_parameters"]
    *of_adapters, of_head = torch.autograd.grad(loss, [*trained, head.weight])
    norm = torch.cat([g.flatten() for g in of_adapters]).norm().item()
    assert norm == pytest.approx(case.values["grad_adapters"], rel=1e-9)
    assert of_head.norm().item() == pytest.approx(case.values["grad_head"], rel=1e-9)


@pytest.mark.parametrize(
    ("classes", "blocks", "width"), [(8, 12, 1), (47, 12, 1), (100, 12, 4), (1000, 12, 32)]
)
def test_the_official_width(classes, blocks, width):
    assert adapter_width(classes, blocks) == width


@pytest.fixture(params=[vit, torchvision_vit])
def make(request, make_task):
    """Makes the method on a tiny ViT, ready to train."""

    def made(counts=(9, 5, 1), **settings) -> LIFT:
        task = make_task(counts, size=8)
        short = {"epochs": 2, "batch_size": 4, **settings}
        torch.manual_seed(0)
        method = LIFT(task, LIFT.Settings(**short), Encoder(request.param(), 16))
        method.start_training()
        return method

    return made


def test_at_first_the_network_is_as_it_was(make, request):
    """Bit for bit."""
    method = make()
    torch.manual_seed(0)
    plain = request.node.callspec.params["make"]().eval()
    images = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(method.eval().model.encoder(images), plain(images))
    assert blocks_of(plain) == 2


def test_nothing_but_adapters_and_head_is_trained(make, train):
    method = make(width=3)
    assert sum(isinstance(m, AdaptedBlock) for m in method.modules()) == 2
    per_adapter = 2 * 16 + 3 * 16 + 3 + 16 * 3 + 16 + 1
    trained = [p for p in method.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 2 * per_adapter + 3 * 16
    before = snapshot(method)
    train(method)
    changed = moved(method, before)
    assert changed == {n for n in before if ".adapter." in n or n.startswith("model.head")}
    method.train()
    assert not any(m.training for m in method.model.encoder.modules())


def test_the_head_begins_at_the_means_of_its_classes(make):
    method = make()
    features, labels = method.features(method.task.train), method.task.train.labels
    method.start_head()
    for c in range(3):
        mean = features[labels == c].mean(0)
        weight = method.model.head.weight[c].detach()
        torch.testing.assert_close(weight, mean / mean.norm(), rtol=1e-4, atol=1e-5)


def test_the_length_of_weights_does_not_matter(make):
    method, images = make().eval(), torch.randn(3, 3, 8, 8)
    expected = method.predict(images)
    with torch.no_grad():
        method.model.head.weight.mul_(7)
    torch.testing.assert_close(method.predict(images), expected)


def test_resumed_training_is_bit_identical(make, train):
    whole, resumed = make(epochs=3), make(epochs=3)
    train_and_resume(train, whole, resumed, 2)
    assert not moved(resumed, whole.state_dict())


def test_of_other_networks_the_biases_are_trained(make_task, make_method, train):
    method = make_method("lift", make_task())
    before = snapshot(method)
    train(method)
    assert moved(method, before) == {
        "model.encoder.body.0.bias",
        "model.encoder.body.1.bias",
        "model.head.weight",
    }


def test_what_acts_on_a_trained_encoder_is_refused(make_task, make_method, make_encoder):
    with pytest.raises(UserError, match=r"lift\.grad_checkpointing=True acts"):
        LIFT(make_task(size=8), LIFT.Settings(grad_checkpointing=True), Encoder(vit(), 16))
    encoder = make_encoder()
    encoder.body[0].requires_grad_(False)
    with pytest.raises(UserError, match="leave out --tuning"):
        LIFT(make_task(), LIFT.Settings(), encoder)


def test_kaiming_start():
    adapter_weights = torch.cat([b.adapter.down.weight.flatten() for b in adapted(200).blocks])
    expected = math.sqrt(2 / (1 + 5)) / math.sqrt(16)
    assert adapter_weights.std().item() == pytest.approx(expected, rel=0.05)


def adapted(width: int) -> nn.Module:
    body = vit()
    add_adapters(body, 16, width)
    return body
