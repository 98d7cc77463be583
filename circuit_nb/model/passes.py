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

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar, copy_context
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from circuit_nb.model.bridge_protocol import HookPoint

Action: TypeAlias = "Callable[[Tensor, Any], Tensor | None]"
"""What to call with the tensor and the hook point; what it returns takes the tensor's place."""
Hook: TypeAlias = "tuple[str, Action]"
"""Name of a hook point, and what to call there."""

T = TypeVar("T")

_OUTLASTED = 10
"""How many interrupts one clean-up outlasts."""

_running: ContextVar[object] = ContextVar("circuit_nb_pass", default=None)


class Guest:
    """A hook of ours on a hook point, for one pass.

    Args:
        visit: The pass.
        action: What to call with the tensor and the hook point.
    """

    def __init__(self, visit: object, action: Action) -> None:
        self._visit, self._action = visit, action

    def __call__(self, point: HookPoint, _: Any, tensor: Any) -> Any:
        """As PyTorch calls it, after the hook point's own conversion, if it has one."""
        if _running.get() is not self._visit:
            return None
        conversion = point.hook_conversion
        if conversion is None:
            return self._action(tensor, point)
        found = self._action(conversion.convert(tensor), point)
        return None if found is None else conversion.revert(found)


def visit(
    points: Sequence[tuple[HookPoint, Action]], run: Callable[[], T], training: Sequence[nn.Module]
) -> T:
    """Run the model once with hooks of ours, without gradients and without dropout.

    Args:
        points: Hook points, and what to call at each.
        run: The pass.
        training: The parts that are in training mode, in which they are again afterwards.
    """
    mark, places = object(), [point for point, _ in points]
    gradients = torch.is_grad_enabled()

    def inside() -> T:
        _running.set(mark)
        for module in training:
            module.training = False
        for point, action in points:
            point.register_forward_hook(Guest(mark, action))
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


def sweep(points: Iterable[HookPoint]) -> None:
    """Take away every hook of ours."""
    for hooks in [point._forward_hooks for point in points]:
        if hooks:
            for key in [key for key, hook in hooks.items() if isinstance(hook, Guest)]:
                hooks.pop(key, None)
