"""The empty room: real children that try to get out of it, each under the limits that the guardian gives."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import leash
from leash.linux import IS_LINUX
from store.settings import Settings
from worker.guardian import Guardian
from worker.workspace import Workspaces

pytestmark = pytest.mark.skipif(not IS_LINUX, reason="asks the kernel of Linux")

VERIFY = {"task": "verify_dataset", "max_bytes": 2**20}
TRAIN = {"task": "distill"}


class Room:
    """A service's folder with a secret in it, and a child that runs a program in its workspace."""

    def __init__(self, folder: Path, forked: bool) -> None:
        self.script = folder / "program.py"
        self.forked = forked
        self.settings = Settings(data_dir=folder / "data", grace_seconds=5.0)
        self.workspaces = Workspaces(self.settings.workspace_dir, "wrk_1")
        self.workspace = self.workspaces.create("job")
        (self.workspace.inputs / "upload").write_bytes(b"an input")
        self.key = self.settings.data_dir / "api-key"
        self.key.write_text("abd_secret")

    def run(self, program: str, run: dict[str, object] = VERIFY) -> tuple[int | None, str]:
        """The program's exit code, and what it printed; `key`, `outside` and `workspace` are names that it knows."""
        names = {"key": self.key, "workspace": self.workspace.root, "outside": self.settings.data_dir / "x"}
        preamble = "import os, sys\nfrom pathlib import Path\n"
        preamble += "".join(f"{name} = Path({str(path)!r})\n" for name, path in names.items())
        preamble += f"worker = {os.getpid()}\n"
        content = f"exec({preamble + program!r}, {{'__name__': '__main__'}})"
        self.script.write_text(
            f"def get_ready(): pass\ndef main(_): {content}\nif __name__ == '__main__': main(())\n"
        )
        guardian = Guardian(self.settings, self.workspaces, (str(self.script),))
        try:
            if self.forked:
                guardian.prepare()
                wait_for_fork_server(guardian)
            child = guardian.start(self.workspace, run, 0)
            assert (child._process is None) == self.forked, "a forked one is no child of this process"
            self.missing = child.missing
            code = child.wait(60)
            child.kill()
            child.wait()
        finally:
            guardian.close()
        return code, self.workspace.log.read_text()


def wait_for_fork_server(guardian: Guardian) -> None:
    deadline = time.monotonic() + 30
    while not guardian._forks._server.ready:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(params=[False, True], ids=["started", "forked"])
def room(tmp_path: Path, request: pytest.FixtureRequest) -> Room:
    room = Room(tmp_path, request.param)
    yield room
    room.workspaces.close()


def refused(attempt: str) -> str:
    """A program that tries it, and says what came of it."""
    return (
        f"try:\n    {attempt}\n"
        + "except OSError as error:\n    print('refused', error.errno)\nelse:\n    print('done')\n"
    )


OUT: dict[str, str] = {
    "the key of the API": "key.read_text()",
    "the folder of the service": "os.listdir(key.parent / 'workspaces')",
    "a password of the system": "open('/etc/shadow').read()",
    "the environment of the worker": "open(f'/proc/{worker}/environ').read()",
    "the memory of the worker": "open(f'/proc/{worker}/mem', 'rb').read(1)",
    "a file outside": "outside.write_text('x')",
    "a file beside the workspace": "(workspace.parent / 'x').write_text('x')",
    "its own input": "(workspace / 'inputs/upload').write_text('x')",
    "its own input, by another name": "os.link(workspace / 'inputs/upload', workspace / 'outputs/x')",
    "a device": "os.open('/dev/vda', os.O_RDONLY)",
}


@pytest.mark.parametrize("run", [VERIFY, TRAIN], ids=["verify", "train"])
def test_there_is_nothing_to_be_seen_or_changed_outside(room: Room, run: dict[str, object]) -> None:
    code, said = room.run("\n".join(refused(attempt) for attempt in OUT.values()), run)
    if any("Landlock" in what for what in room.missing):
        pytest.skip(f"the kernel does not grant it, which the child's leash says: {room.missing}")
    assert code == 0, said
    assert dict(zip(OUT, [line.split()[0] for line in said.splitlines()], strict=True)) == dict.fromkeys(
        OUT, "refused"
    )
    assert (room.workspace.inputs / "upload").read_bytes() == b"an input"


def test_what_is_its_own_can_be_read_and_written(room: Room) -> None:
    program = """
print((workspace / 'inputs/upload').read_text())
for folder in ('outputs', 'checkpoints', 'tmp', 'teacher-cache'):
    (workspace / folder / 'new').write_text('x')
    (workspace / folder / 'new').rename(workspace / folder / 'renamed')
with (workspace / 'events.jsonl').open('a') as events:
    events.write('x')
(workspace / 'headway').touch()
import abcore.specs.runs, tempfile, threading, numpy
tempfile.TemporaryFile()
thread = threading.Thread(target=print, args=('a thread',))
thread.start()
thread.join()
"""
    assert room.run(program) == (0, "an input\na thread\n")


def test_a_fork_bomb_does_not_go_off(room: Room) -> None:
    """Bounded all the same: where the kernel does not grant the filter, it is two processes."""
    program = refused("os.fork() and os.wait()") + refused("__import__('subprocess').run(['true'])")
    code, said = room.run(program)
    if not any("seccomp" in what for what in room.missing):
        assert (code, said) == (0, "refused 1\nrefused 1\n")


def test_the_worker_cannot_be_signalled(room: Room) -> None:
    _, said = room.run(refused("os.kill(worker, 0)"))
    assert said == "refused 1\n" or "done" in said, "by kernels since 6.12 only"


def test_there_is_no_network(room: Room) -> None:
    """Somebody listens here; the child's own loopback leads nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        code, said = room.run(refused(f"__import__('socket').create_connection({address}, timeout=5)"))
    if not any("network" in what for what in room.missing):
        assert (code, said.split()[0]) == (0, "refused")


def test_a_file_cannot_fill_the_disk(room: Room) -> None:
    """Sparse, so that the disk is not filled where the limit is missing."""
    program = "with (workspace / 'outputs/x').open('wb') as file:\n    file.truncate(100 * 2**30)\n"
    code, _ = room.run(program)
    assert code == -signal.SIGXFSZ or not (room.workspace.outputs / "x").stat().st_size
    assert (room.workspace.outputs / "x").stat().st_size == 0


def test_memory_has_an_end(room: Room) -> None:
    code, said = room.run("try:\n    bytearray(100 * 2**30)\nexcept MemoryError:\n    print('no')\n")
    assert (code, said) == (0, "no\n")


def test_the_environment_has_no_secret(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABDISTILL_DATABASE_URL", "postgresql://a:secret@b/c")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert room.run("print('secret' in str(os.environ))") == (0, "False\n")


def test_processor_time_ends_with_a_word_and_then_without() -> None:
    """One second; the program is told, and may say so, and is killed where it goes on."""
    polite = "import signal\nsignal.signal(signal.SIGXCPU, lambda *_: exit(9))\nwhile True: pass"
    child = leash.spawn([sys.executable, "-c", polite], limits=leash.Limits(cpu_seconds=1))
    assert child.wait() == 9
    rude = leash.spawn([sys.executable, "-c", "while True: pass"], limits=leash.Limits(cpu_seconds=1))
    assert rude.wait() == -signal.SIGXCPU


def test_what_could_not_be_had_is_said() -> None:
    """A machine whose system calls are not known here: the command runs, and its spawner knows."""
    program = "import os; print(os.uname().machine)"
    child = leash.spawn(
        [sys.executable, "-c", program], stdout=subprocess.DEVNULL, limits=leash.Limits(processes=False)
    )
    assert child.wait() == 0
    # Without no_new_privs an ordinary user may not set a filter; root may.
    assert (child.missing == ()) == (os.geteuid() == 0)
