"""`qemu-img` in the sandbox: it gets descriptors, which it names as files, and opens nothing else."""

from collections.abc import Callable, Sequence

from aoe import limits, timing
from aoe.sandbox import child

REMEDY = "apt-get install qemu-utils"


def run(
    verb: str,
    *words: str,
    reads: Sequence[int] = (),
    writes: Sequence[int] = (),
    heard: Callable[[bytes], object] = lambda _: None,
    remedy: str = REMEDY,
    cpu_s: int = limits.SANDBOX_CPU_S,
    end_s: float | None = timing.SANDBOX_END_S,
    file_bytes: int = 0,
) -> child.Done:
    """A verb of it, to its end; `child.Task` says what the others are. ConfigurationError where it cannot be
    run."""
    task = child.Task(
        words=("qemu-img", verb, *words),
        remedy=remedy,
        reads=tuple(reads),
        writes=tuple(writes),
        cpu_s=cpu_s,
        end_s=end_s,
        file_bytes=file_bytes,
    )
    return child.run(task, heard)


def problem_of(done: child.Done) -> str:
    """Why it did not end well, in its own words."""
    return done.problem.removeprefix("qemu-img: ")


def name_of(fd: int) -> str:
    """What a descriptor of a process is called inside it."""
    return f"/proc/self/fd/{fd}"


def patience_for(size: int) -> int:
    """Seconds of processor time in which a disk of so many bytes is read, also by a slow one."""
    return limits.SANDBOX_CPU_S + size // limits.SANDBOX_COPIED_PER_S
