"""Let the current tenant travel with a job, from the code that enqueues it to the worker."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from procrastinate.tasks import Task as ProcrastinateTask

from tenants.models import Tenant
from tenants.scoping.context import require_tenant, tenant_context
from tenants.scoping.exceptions import NoCurrentTenant

CARRIED = "carried_tenant_id"
"""The keyword argument of a Procrastinate job, and the header of a Celery message, with the tenant's id."""

Task = TypeVar("Task")


def carry_tenant(task: Task) -> Task:
    """Let a task of Procrastinate or Celery run for the tenant that was current when it was enqueued.

    Place the decorator above the one that makes the task. Enqueueing without a current tenant raises
    NoCurrentTenant. A task that is called directly runs for the current tenant.
    """
    if isinstance(task, ProcrastinateTask):
        _carry_in_procrastinate(task)
    elif hasattr(task, "apply_async"):
        _carry_in_celery(task)
    else:
        raise TypeError(f"Place @carry_tenant above the decorator that makes a task of {task!r}.")
    return task


def _carry_in_procrastinate(task: Any) -> None:
    configure, func = task.configure, task.func

    def configure_with_tenant(**options: Any) -> Any:
        task_kwargs = {**(options.pop("task_kwargs", None) or {}), CARRIED: require_tenant().pk}
        return configure(task_kwargs=task_kwargs, **options)

    @wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        return _run_for(kwargs.pop(CARRIED, None), func, *args, **kwargs)

    @wraps(func)
    async def run_async(*args: Any, **kwargs: Any) -> Any:
        carried = kwargs.pop(CARRIED, None)
        if carried is None:
            return await func(*args, **kwargs)
        with tenant_context(_existing(await Tenant.objects.filter(pk=carried).afirst(), carried)):
            return await func(*args, **kwargs)

    task.configure = configure_with_tenant
    task.func = run_async if iscoroutinefunction(func) else run


def _carry_in_celery(task: Any) -> None:
    apply_async, signature, run = task.apply_async, task.signature, task.run

    @wraps(apply_async)
    def apply_async_with_tenant(*args: Any, **options: Any) -> Any:
        return apply_async(*args, **{**options, "headers": _with_tenant(options.get("headers"))})

    @wraps(signature)
    def signature_with_tenant(*args: Any, **options: Any) -> Any:
        """Return a signature with the tenant: the later tasks of a chain are sent by a worker."""
        made = signature(*args, **options)
        return made.set(headers=_with_tenant(made.options.get("headers")))

    @wraps(run)
    def run_for_tenant(*args: Any, **kwargs: Any) -> Any:
        return _run_for((task.request.headers or {}).get(CARRIED), run, *args, **kwargs)

    task.apply_async, task.signature, task.run = (
        apply_async_with_tenant,
        signature_with_tenant,
        run_for_tenant,
    )


def _with_tenant(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the headers with the current tenant, unless they carry one already, as a retry's do."""
    carried = headers or {}
    return {**carried} if CARRIED in carried else {**carried, CARRIED: require_tenant().pk}


def _run_for(carried: int | None, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if carried is None:
        return func(*args, **kwargs)
    with tenant_context(_existing(Tenant.objects.filter(pk=carried).first(), carried)):
        return func(*args, **kwargs)


def _existing(tenant: Tenant | None, tenant_id: int) -> Tenant:
    if tenant is None:
        raise NoCurrentTenant(f"Tenant {tenant_id}, for which the job was enqueued, does not exist any more.")
    return tenant
