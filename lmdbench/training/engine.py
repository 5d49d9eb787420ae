"""How a run's work reaches the device: plainly, or compiled and replayed as CUDA graphs.

A training step of a small network on a fast GPU is thousands of kernels that take less time to run
than to launch. So views and encoders are compiled (fewer, larger kernels), and a step is captured
as one CUDA graph (one launch). Both change bits, within rounding, and neither changes what is
computed. Where one of them fails, the run goes on without it and its log says so.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lmdbench.core.gpu_memory import is_full
from lmdbench.training.graph_memory import GraphMemory, give_back

Mode = Literal["plain", "compiled"]
Asked = Literal["auto", "plain", "compiled"]
Outputs = Mapping[str, Tensor]

WARM_UPS = 3  # calls before a capture: compiling, tuning, and memory that is kept

logger = logging.getLogger("lmdbench")


def execution_mode(asked: Asked, device: torch.device) -> Mode:
    """How a run is executed where that is left open: compiled on a GPU, plainly elsewhere."""
    if asked == "auto":
        return "compiled" if device.type == "cuda" else "plain"
    return asked


class NotReplayable(RuntimeError):
    """A step depends on more than its batch and the method's tensors."""


class Execution:
    """The way one run's work is executed, on one device.

    ``preparing_seconds``: spent on compiling, warming up and capturing so far.
    """

    def __init__(self, device: torch.device, mode: Mode = "plain") -> None:
        self.device = device
        self.mode = mode
        self.preparing_seconds = 0.0
        self.compiled_encoders = False
        self.executed: dict[str, dict[str, None]] = {}  # see ``came_to``
        self.graphs = 0  # captured so far, and not given up
        self.replaying = False  # within a function that is, or may become, a graph
        self._preparing = False
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._memory: GraphMemory | None = None
        if mode == "compiled":
            torch._dynamo.reset()  # else networks of earlier runs in this process use up its limit

    def note(self, work: str, how: str) -> None:
        """Note how some work is executed: plain, compiled, or as graphs."""
        self.executed.setdefault(work, {})[how] = None

    @property
    def came_to(self) -> dict[str, str]:
        """Work (training, evaluation, calibration) → how it was executed, in words."""
        return {work: ", ".join(ways) for work, ways in self.executed.items()}

    @property
    def captures(self) -> bool:
        """Whether steps are replayed as CUDA graphs."""
        return self.mode == "compiled" and self.device.type == "cuda"

    @property
    def memory(self) -> GraphMemory:
        """What the graphs of a run share: only one of them runs at a time."""
        if self._memory is None:
            self._memory = GraphMemory(self.device)
        return self._memory

    def forget_memory(self) -> None:
        """Give back the memory of graphs, of which there are none after all."""
        self._memory = None
        give_back(self.device)

    def aside(self) -> AbstractContextManager[Any]:
        """Within it, work is done in the memory of the graphs, where there are any."""
        return self.memory.in_use() if self.captures else contextlib.nullcontext()

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function compiled for the shapes it is called with; itself in plain execution."""
        if self.mode == "plain":
            return function
        if function not in self._compiled:
            self._compiled[function] = _Compiled(function, self)
        return self._compiled[function]

    def compile_encoders(
        self,
        encoders: Sequence[nn.Module],
        images: Tensor,
        autocast: Callable[[], AbstractContextManager[Any]],
        *,
        back_twice: bool = False,
    ) -> None:
        """Compile the bodies of encoders in place, for images (B, 3, H, W) and for the mode
        (training, gradients) that each is in. Nothing else of them changes.

        ``back_twice``: what a forward pass leaves outlives the first backward pass through it.
        """
        if self.mode == "plain":
            return
        # Read at compilation and at each backward pass; in a process for one run at a time.
        torch._functorch.config.donated_buffer = not back_twice
        state = [buffer for encoder in encoders for buffer in encoder.buffers()]
        with self.preparing("encoder"):
            try:
                with _unchanged(lambda: state, self.device):
                    for encoder in encoders:
                        body = _body(encoder)
                        trainable = any(p.requires_grad for p in encoder.parameters())
                        body.compile(dynamic=False)
                        if not trainable:  # else compiled anew wherever gradients are on
                            compiled = cast(Callable[..., Any], body._compiled_call_impl)
                            body._compiled_call_impl = torch.no_grad()(compiled)
                        with autocast():
                            features = encoder(images)
                        if trainable:
                            features.float().sum().backward()
                        encoder.zero_grad(set_to_none=True)
                self.compiled_encoders = bool(encoders)
            except Exception as error:
                if is_full(error):
                    raise
                for encoder in encoders:
                    _body(encoder)._compiled_call_impl = None  # undoes nn.Module.compile
                _tell("compiling the encoder", error)

    @contextlib.contextmanager
    def eagerly(self) -> Iterator[None]:
        """Within it nothing is compiled: for batches of odd sizes, which are few. What is made
        within is lost with the next replay."""
        if self.mode == "plain":
            yield
            return
        between = contextlib.nullcontext() if self._memory is None else self._memory.in_use()
        with torch.compiler.set_stance("force_eager"), between:
            yield

    def replay(
        self,
        function: Callable[..., Outputs],
        state: Callable[[], Iterable[Tensor]],
        name: str,
        fixed: Callable[[], Any] = lambda: None,
        generators: Callable[[], Sequence[torch.Generator]] = lambda: (),
    ) -> Replay:
        """See ``Replay``."""
        return Replay(function, state, name, self, fixed, generators)

    @contextlib.contextmanager
    def preparing(self, name: str) -> Iterator[None]:
        """Counts the time within as preparation, once where it is nested, and logs it."""
        if self._preparing:
            yield
            return
        self._preparing = True
        started = time.monotonic()
        try:
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        finally:
            self._preparing = False
            seconds = time.monotonic() - started
            self.preparing_seconds += seconds
            logger.info("compiled: %s, %.1f s", name, seconds)


class _Compiled:
    """A function compiled at its first call; itself from then on if that fails."""

    def __init__(self, function: Callable[..., Any], execution: Execution) -> None:
        self.function = function
        self.execution = execution
        self._compiled: Callable[..., Any] | None = torch.compile(function, dynamic=False)
        self._called = False

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            return self.function(*arguments)
        if self._called:
            return self._compiled(*arguments)
        self._called = True
        name = getattr(self.function, "__name__", type(self.function).__name__).strip("_")
        with self.execution.preparing(name):
            try:
                return self._compiled(*arguments)
            except Exception as error:
                if is_full(error):
                    raise
                self._compiled = None
                _tell(f"compiling {name}", error)
        return self.function(*arguments)


class Replay:
    """``function(*tensors) → mapping of tensors``, called with the same shapes every time.

    ``state()`` gives the tensors that it changes, in place: parameters, buffers, and what the
    optimisers keep. In compiled execution inputs are copied to buffers at fixed addresses, and the
    outputs stay valid until the next call of any of the run's replays. On a GPU the first call
    captures the function as a CUDA graph, after warming up on the state, which is then restored;
    tensors that the warm-up added to it (momentum) start from zero, as if they had not been there.

    Within the function nothing may wait for the device, and nothing in Python may differ from one
    call to the next. ``fixed()`` gives what must not differ and can be told: where it does, the
    function is called from then on. ``generators()``: of the device, those that the function draws
    from; each replay draws anew.
    """

    def __init__(
        self,
        function: Callable[..., Outputs],
        state: Callable[[], Iterable[Tensor]],
        name: str,
        execution: Execution,
        fixed: Callable[[], Any],
        generators: Callable[[], Sequence[torch.Generator]],
    ) -> None:
        self.function = function
        self.state = state
        self.name = name
        self.execution = execution
        self.fixed = fixed
        self.generators = generators
        self.captured = False  # as a CUDA graph, were it released since
        self._plain = execution.mode == "plain"
        self._fixed: Any = None  # as captured
        self._inputs: tuple[Tensor, ...] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: Outputs = {}

    def release(self) -> None:
        """Let go of the graph, and of the memory where it was the last: the next call captures it
        anew."""
        if self._graph is None:
            return
        self._inputs, self._graph, self._outputs = None, None, {}
        self.execution.graphs -= 1
        if self.execution.graphs == 0:
            self.execution.forget_memory()

    def __call__(self, *inputs: Tensor) -> Outputs:
        if not self._plain and self._inputs is None:
            self._prepare(inputs)
        if self._inputs is None:
            return self.function(*inputs)
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed.copy_(given, non_blocking=True)
        if self._graph is None:
            return self._call(self._inputs)
        if self.fixed() != self._fixed:
            self._give_up(NotReplayable("a number that it was captured with, as a rate, changed"))
            return self.function(*inputs)
        self._graph.replay()
        return self._outputs

    def _call(self, inputs: tuple[Tensor, ...]) -> Outputs:
        self.execution.replaying = True
        try:
            return self.function(*inputs)
        finally:
            self.execution.replaying = False

    def _prepare(self, inputs: tuple[Tensor, ...]) -> None:
        with self.execution.preparing(self.name):
            fixed = tuple(given.clone() for given in inputs)
            try:
                with self._unchanged():
                    self._warm_up(fixed)
                if self.execution.captures:
                    self._capture(fixed)
                self._inputs = fixed
            except Exception as error:
                if is_full(error):
                    raise
                self._give_up(error, self._where_it_waits(fixed, error))

    def _give_up(self, error: Exception, where: str = "") -> None:
        """Go on by calls of the function."""
        self._plain, self._inputs, self.captured = True, None, False
        _tell(f"replaying {self.name}", error, where)
        if self._graph is not None:
            self.release()
        elif self.execution.captures and self.execution.graphs == 0:
            self.execution.forget_memory()

    def _warm_up(self, inputs: tuple[Tensor, ...]) -> None:
        with self.execution.aside():
            for _ in range(WARM_UPS if self.execution.captures else 1):
                self._call(inputs)

    def _capture(self, inputs: tuple[Tensor, ...]) -> None:
        self._fixed = self.fixed()
        self._graph, self._outputs = self.execution.memory.capture(
            lambda: self._call(inputs), self.generators()
        )
        self.captured = True
        self.execution.graphs += 1

    def _where_it_waits(self, inputs: tuple[Tensor, ...], error: Exception) -> str:
        """The line at which the host waits for the device, where that broke a capture."""
        if "captur" not in str(error):
            return ""
        before = torch.cuda.get_sync_debug_mode()
        try:
            with self._unchanged(), self.execution.aside():
                torch.cuda.set_sync_debug_mode("error")
                try:
                    self._call(inputs)
                finally:
                    torch.cuda.set_sync_debug_mode(before)
        except Exception as found:
            own = Path(torch.__file__).parent
            frames = traceback.extract_tb(found.__traceback__)
            lines = [f for f in frames if own not in Path(f.filename).parents]
            return f" (waits at {Path(lines[-1].filename).name}:{lines[-1].lineno})"
        return ""

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Also of the generators that are drawn from within."""
        before = {generator: generator.get_state() for generator in self.generators()}
        with _unchanged(self.state, self.execution.device):
            yield
        for generator in self.generators():
            if generator in before:
                generator.set_state(before[generator])
            else:
                generator.manual_seed(generator.initial_seed())


@contextlib.contextmanager
def _unchanged(state: Callable[[], Iterable[Tensor]], device: torch.device) -> Iterator[None]:
    """Whatever is done within: the state's tensors keep their values, new ones among them are
    zero afterwards, gradients are gone, and the global random numbers go on where they were."""
    # On the host: beside a training step a GPU may have no room for them.
    before = [(tensor, tensor.detach().to("cpu", copy=True)) for tensor in state()]
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        known = {id(tensor) for tensor, _ in before}
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
                tensor.grad = None
            for tensor in state():
                if id(tensor) not in known:
                    tensor.data = torch.zeros_like(tensor)  # where no replay writes


def _body(encoder: nn.Module) -> nn.Module:
    return cast(nn.Module, encoder.body)


def _tell(what: str, error: Exception, where: str = "") -> None:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    logger.warning("%s failed, the run goes on without: %s%s", what, reason, where)
