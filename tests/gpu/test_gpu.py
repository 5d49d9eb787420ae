"""What only a GPU can tell: that graphs compute what plain execution computes, and how fast.

    python -m pytest tests/gpu -s

A few minutes on one GPU, of which half is compiling; ``-s`` shows the rates. Skipped without one.
"""

import copy
import time

import pytest
import torch

from lmdbench.core.randomness import Streams
from lmdbench.models.backbones import get_backbone
from lmdbench.runs.model import fit_last, logits_of, train_epoch
from lmdbench.training import task as task_module
from lmdbench.training.engine import Execution
from lmdbench.training.graph_memory import give_back
from lmdbench.training.method import METHODS, Start, built_in_methods
from lmdbench.training.task import Images, Task

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

NAMES = [method.name for method in built_in_methods()]
REPLAYED = [n for n in NAMES if METHODS.get(n).replayable and METHODS.get(n).epochs != 0]
LATE = {"ldam-drw": 5, "rrl": 5}  # epochs until what they begin late acts
SHORT = {"rounds": 2, "virtual_per_class": 400, "head_batch_size": 32, "lr": 0.02}
NOISE = 10  # times what two plain trainings differ by, that a replayed one may


@pytest.fixture(autouse=True)
def gpu():
    device = torch.device("cuda", torch.cuda.current_device())
    yield device
    give_back(device)


@pytest.fixture
def graphs_alone(monkeypatch):
    """Steps are captured, and nothing is compiled."""
    monkeypatch.setattr(Execution, "compile", lambda self, function: function)
    monkeypatch.setattr(Execution, "compile_encoders", lambda self, *_, **__: None)


def make_task(gpu, mode, precision=None, images=210, size=48, classes=6):
    generator = torch.Generator().manual_seed(0)
    shape = (images, 3, size, size)
    pixels = torch.randint(0, 200, shape, dtype=torch.uint8, generator=generator)
    labels = torch.arange(images) % (2 * classes) % classes
    pixels += (labels * 7).to(torch.uint8)[:, None, None, None]
    parts = (Images(pixels, torch.arange(n), labels[:n], gpu) for n in (images, 40))
    names = tuple(f"class {c}" for c in range(classes))
    return Task(names, *parts, Streams(0, gpu), gpu, precision=precision, mode=mode)


def make(name, task, backbone="small", **settings):
    """A method ready to train, from an ancestor that was trained plainly."""
    cls = METHODS.get(name)
    given = {**SHORT, "schedule": "cosine", "epochs": LATE.get(name, 2), "batch_size": 32}
    known = {k: v for k, v in {**given, **settings}.items() if hasattr(cls.Settings, k)}
    torch.manual_seed(1)
    method = cls(task, cls.Settings(**known), get_backbone(backbone).construct())
    method.to(task.device).to(memory_format=torch.channels_last)
    start = cls.starts_from.method if isinstance(cls.starts_from, Start) else cls.starts_from
    if start is not None:
        method.start(trained(make(start, make_task(task.device, "plain"))).eval())
    method.start_training()
    return method


def trained(method, first=0, last=None):
    for number in range(first, method.epochs if last is None else last):
        train_epoch(method, method.task, number)
        logits_of(method, method.task, method.task.validation)
    if last is None:
        fit_last(method, method.task)
    return method


def apart(one, other):
    """The largest difference of two methods' states, as a share of each tensor's largest number."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    pairs = [(a.float(), b.float()) for a, b in pairs if a.numel()]
    return max(float((a - b).abs().max() / (a.abs().max() + 1e-12)) for a, b in pairs)


@pytest.mark.parametrize("name", REPLAYED)
def test_graphs_compute_what_plain_execution_does(gpu, graphs_alone, name):
    """The same kernels: to the bit, but where plain training itself differs from time to time."""
    plain, again = (trained(make(name, make_task(gpu, "plain"))) for _ in range(2))
    replayed = trained(make(name, make_task(gpu, "compiled")))
    assert all(replay.captured for replay in replayed.stepper.replays.values())
    assert apart(plain, replayed) <= NOISE * apart(plain, again)


@pytest.mark.parametrize("name", ["ce", "rrl", "crt", "lmd"])
def test_going_on_from_a_checkpoint_computes_the_same(gpu, graphs_alone, name):
    whole, again = (trained(make(name, make_task(gpu, "compiled"))) for _ in range(2))
    begun = trained(make(name, make_task(gpu, "compiled")), last=1)
    resumed = make(name, make_task(gpu, "compiled"))
    resumed.load_state_dict(begun.state_dict())
    for key, optimizer in resumed.running_optimizers.items():
        optimizer.load_state_dict(copy.deepcopy(begun.running_optimizers[key].state_dict()))
    assert apart(whole, trained(resumed, first=1)) <= NOISE * apart(whole, again)


@pytest.mark.parametrize("name", ["ce", "rrl"])
def test_compiled_networks_agree_with_plain_ones(gpu, name):
    plain = trained(make(name, make_task(gpu, "plain")))
    compiled = trained(make(name, make_task(gpu, "compiled")))
    logits = [torch.from_numpy(logits_of(m, m.task, m.task.validation)) for m in (plain, compiled)]
    torch.testing.assert_close(*logits, rtol=0.05, atol=0.05 * float(logits[0].abs().max()))


def test_compiled_execution_takes_little_more_memory(gpu):
    taken = {}
    for mode in ("plain", "compiled"):
        give_back(gpu)
        torch.cuda.reset_peak_memory_stats()
        task = make_task(gpu, mode, torch.bfloat16, images=383, size=224)
        method = make("rrl", task, "resnet50", epochs=5, batch_size=128)
        for number in (0, 4):
            train_epoch(method, task, number)
            logits_of(method, task, task.validation)
        taken[mode] = torch.cuda.max_memory_reserved()
        del method, task
    print({mode: f"{size / 2**30:.2f} GiB" for mode, size in taken.items()})
    assert taken["compiled"] <= 1.1 * taken["plain"]


def test_compiled_execution_is_no_slower(gpu, monkeypatch):
    rates = {}
    for way in ("plain", "compiled", "compiled, streamed"):
        monkeypatch.setattr(task_module, "SMALL_SHARE", -1.0 if "streamed" in way else 0.1)
        monkeypatch.setattr(task_module, "LEFT_SHARE", -1.0 if "streamed" in way else 0.5)
        give_back(gpu)
        task = make_task(gpu, way.partition(",")[0], torch.bfloat16, images=4888, size=224)
        assert task.train.streamed == ("streamed" in way)
        method = make("rrl", task, "resnet18", epochs=5, batch_size=128)
        train_epoch(method, task, 4)
        torch.cuda.synchronize()
        began = time.perf_counter()
        train_epoch(method, task, 4)
        torch.cuda.synchronize()
        rates[way] = 4888 / (time.perf_counter() - began)
        del method, task
    print({way: f"{rate:,.0f} images/s" for way, rate in rates.items()})
    assert rates["compiled"] >= rates["plain"]
