"""Many prompts by Ray: one actor a device, on this machine or on a cluster, unchanged.

Ray starts actors anew when they die and gives them their task again; a graph that is there is not
computed twice. The folder is one that all machines see.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from circuit_nb.graphsets.work import Done, Job, Task, compute, failed
from circuit_nb.model.replacement import ReplacementModel

RETRIES = 2
"""So often is a task given to a new actor where one died over it."""


class Worker:
    """What an actor is: a model, opened once.

    Args:
        job: What is the same for all tasks.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._model = job.source.open()

    def compute(self, task: Task) -> Done:
        """One prompt."""
        return next(compute(self._model, self._job, [task]))

    def pid(self) -> int:
        """Its process."""
        return os.getpid()


@dataclass(frozen=True)
class Ray:
    """Actors of Ray.

    Args:
        address: A cluster, such as `"auto"` or `"ray://head:10001"`. `None` takes the one that
            runs or is named by `RAY_ADDRESS`, or starts Ray on this machine.
        actors: How many; by default as many as the cluster has room for now.
        cpus: Processor cores of each.
        gpus: GPUs of each; by default one where the model is on CUDA.
    """

    address: str | None = None
    actors: int | None = None
    cpus: float = 1
    gpus: float | None = None

    def run(self, model: ReplacementModel, job: Job, tasks: Sequence[Task]) -> Iterator[Done]:
        """See `Engine.run`.

        Raises:
            ModuleNotFoundError: If Ray is not installed.
            RuntimeError: If the actors cannot open the model.
        """
        ray = _ray()
        if not ray.is_initialized():
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        gpus = float(model.device.type == "cuda") if self.gpus is None else self.gpus
        room = ray.available_resources()
        fit = min(room.get("CPU", 1) // self.cpus, room.get("GPU", 0) // gpus if gpus else 1e9)
        n = max(1, min(self.actors or int(fit), len(tasks)))
        actor = ray.remote(Worker).options(
            num_cpus=self.cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=RETRIES
        )
        workers = [actor.remote(job) for _ in range(n)]
        try:
            yield from _through(ray, workers, job, deque(tasks))
        finally:
            for worker in workers:
                ray.kill(worker)


def _through(ray: Any, workers: list[Any], job: Job, waiting: deque[Task]) -> Iterator[Done]:
    """Compute tasks, one at a time on each actor."""
    free, running = deque(workers), dict[Any, tuple[Any, Task]]()
    while waiting or running:
        while waiting and free:
            worker, task = free.popleft(), waiting.popleft()
            running[worker.compute.remote(task)] = worker, task
        for reference in ray.wait(list(running))[0]:
            worker, task = running.pop(reference)
            free.append(worker)
            try:
                yield ray.get(reference)
            except ray.exceptions.ActorDiedError as error:
                if "creation task" in str(error):  # it never lived: no other would
                    raise RuntimeError(_cause(error)) from error
                yield failed(job, task, f"the process that computed it died {RETRIES + 1} times")
            except ray.exceptions.RayActorError:
                yield failed(job, task, f"the process that computed it died {RETRIES + 1} times")
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from error


def _cause(error: Exception) -> str:
    """The last line of what an actor said when it could not be made."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "An actor could not be started."


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]  # an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "engine='ray' needs Ray, which is not installed: pip install 'circuit-nb[ray]'."
        ) from error
    return ray
