"""One pass under hooks, after which nothing is left, whenever it is interrupted.

Two things make sure of that. A hook of ours acts in the pass it was made for and in no other:
which pass runs is said by a context variable, and it is the interpreter that leaves the context,
where no interrupt can come between. So one that was left hanging changes no number. And hooks of
ours are found by their type, wherever they hang, so that taking them away can be begun again after
an interrupt has broken it off, and is done before each pass once more.

Hooks of others, put there through TransformerLens or PyTorch, are left alone: they are part of the
model as its owner set it up.
"""

# The list of hooks that PyTorch itself goes by is not public.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from circuit_nb.bridge.protocol import HookPoint

Action: TypeAlias = "Callable[[Tensor, Any], Tensor | None]"
"""What to call with the tensor and the hook point; what it returns takes the tensor's place."""
Hook: TypeAlias = "tuple[str, Action]"
"""Name of a hook point, and what to call there."""
Feed: TypeAlias = "tuple[nn.Module, Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]]"
"""A module, and what takes its arguments before it runs, and may return others, both kinds."""

T = TypeVar("T")

_OUTLASTED = 10
"""How many interrupts one clean-up outlasts."""

_running: ContextVar[object] = ContextVar("circuit_nb_pass", default=None)


class Guest:
    """A hook of ours, for one pass.

    Args:
        mark: The pass.
        call: What to call in it, as PyTorch does.
    """

    def __init__(self, mark: object, call: Callable[..., Any]) -> None:
        self._mark, self._call = mark, call

    def __call__(self, *args: Any) -> Any:
        """Act in the pass it was made for; change nothing in any other."""
        return self._call(*args) if _running.get() is self._mark else None


def _shown(action: Action) -> Callable[..., Any]:
    """An action as PyTorch calls it, in the layout that the hook point shows."""

    def call(point: HookPoint, _: Any, tensor: Any) -> Any:
        conversion = point.hook_conversion
        if conversion is None:
            return action(tensor, point)
        found = action(conversion.convert(tensor), point)
        return None if found is None else conversion.revert(found)

    return call


def visit(
    run: Callable[[], T],
    points: Sequence[tuple[HookPoint, Action]],
    *,
    feeds: Sequence[Feed] = (),
    training: Sequence[nn.Module] = (),
) -> T:
    """Run the model once with hooks of ours, without gradients and without dropout.

    Args:
        run: The pass.
        points: Hook points, and what to call at each.
        feeds: Modules, and what their arguments are passed through.
        training: The parts that are in training mode, in which they are again afterwards.
    """
    mark, gradients = object(), torch.is_grad_enabled()
    places = [*(point for point, _ in points), *(module for module, _ in feeds)]

    def inside() -> T:
        _running.set(mark)
        for module in training:
            module.training = False
        for point, action in points:
            point.register_forward_hook(Guest(mark, _shown(action)))
        for module, feed in feeds:
            module.register_forward_pre_hook(Guest(mark, feed), with_kwargs=True)
        with torch.no_grad():
            return run()

    def leave() -> None:
        sweep(places)
        for module in training:
            module.training = True
        torch.set_grad_enabled(gradients)

    return ending(lambda: copy_context().run(inside), leave)


def ending(run: Callable[[], T], clean_up: Callable[[], object]) -> T:
    """Run something, and clean up afterwards, whatever comes between.

    Args:
        run: What to run.
        clean_up: May be called again, and again after it was broken off.
    """
    # An interrupt can break off the inner clean-up at its very first step; then the outer one
    # does it, which has nothing to do otherwise.
    try:
        try:
            return run()
        finally:
            _outlasting(clean_up)
    finally:
        _outlasting(clean_up)


def _outlasting(clean_up: Callable[[], object]) -> None:
    """Clean up to the end, and raise afterwards what came between."""
    interrupt: BaseException | None = None
    for _ in range(_OUTLASTED):
        try:
            clean_up()
            break
        except BaseException as error:  # a signal's handler may raise anything
            interrupt = error
    if interrupt is not None:
        raise interrupt


def sweep(modules: Iterable[HookPoint | nn.Module]) -> None:
    """Take away every hook of ours."""
    for module in modules:
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            if hooks:
                for key in [key for key, hook in hooks.items() if isinstance(hook, Guest)]:
                    hooks.pop(key, None)
                    module._forward_pre_hooks_with_kwargs.pop(key, None)


@contextmanager
def expected_edits() -> Generator[None]:
    """Silence the bridge's warning that a norm's denominator was edited: freezing it is the aim."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")
        yield
