"""A leash holds: real processes, killed in every way there is, and nobody left over."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import leash
from leash.linux import IS_LINUX

pytestmark = pytest.mark.skipif(not IS_LINUX, reason="reads /proc, and relies on subreapers")

ORPHAN_SECONDS = 5.0

# A command with a grandchild in its own group, one in a session of its own, and one of a parent that has ended.
FAMILY = textwrap.dedent("""
    import os, subprocess, sys, time
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    subprocess.Popen(sleeper)
    subprocess.Popen(sleeper, start_new_session=True)
    if os.fork() == 0:
        subprocess.Popen(sleeper, start_new_session=True)
        os._exit(0)
    open(sys.argv[1], "w").close()
""")
STAYS = FAMILY + "time.sleep(600)\n"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STAYS
FAMILY_SIZE = 1 + 3
WATCHERS = 2


def start_family(
    tree, tmp_path: Path, program: str = STAYS, grace_seconds: float = 10.0, **options: object
) -> leash.Leashed:
    ready = tmp_path / "ready"
    leashed = leash.spawn(
        [sys.executable, "-c", program, str(ready)], env=tree.env, grace_seconds=grace_seconds, **options
    )
    assert tree.becomes(lambda _: ready.exists())
    return leashed


def keeper_of(leashed: leash.Leashed) -> int:
    return int(Path(f"/proc/{leashed.command_pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize(
    ("program", "code"),
    [("exit 0", 0), ("exit 75", 75), ("kill -SEGV $$", -signal.SIGSEGV), ("kill -9 $$", -9)],
)
def test_the_exit_code_is_passed_through(program: str, code: int) -> None:
    leashed = leash.spawn(["sh", "-c", program])
    assert leashed.wait() == code
    assert leashed.returncode == code


def test_what_the_command_reads_and_writes_is_the_callers() -> None:
    leashed = leash.spawn(["tr", "a-z", "A-Z"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert leashed.stdin is not None
    assert leashed.stdout is not None
    leashed.stdin.write(b"boundary")
    leashed.stdin.close()
    with leashed.stdout:
        assert leashed.stdout.read() == b"BOUNDARY"
    assert leashed.wait() == 0


def test_a_command_that_cannot_start_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        leash.spawn([str(tmp_path / "absent")])
    with pytest.raises(PermissionError):
        leash.spawn([str(tmp_path)])


def test_waiting_has_an_end(tree) -> None:
    leashed = leash.spawn(["sleep", "600"], env=tree.env)
    assert leashed.wait(timeout=0.01) is None
    assert leashed.returncode is None
    leashed.kill()
    assert leashed.wait() == -signal.SIGKILL


def test_strays_end_with_the_command(tree, tmp_path: Path) -> None:
    leashed = start_family(tree, tmp_path, FAMILY)
    assert leashed.wait() == 0
    assert tree.living() == {}, "wait() returns when nobody is left, not sooner"


def test_terminate_asks_first(tree, tmp_path: Path) -> None:
    said = tmp_path / "said"
    program = "import signal, sys\n" + textwrap.dedent(f"""
        def end(*_):
            open({str(said)!r}, "w").close()
            sys.exit(75)
        signal.signal(signal.SIGTERM, end)
    """)
    leashed = start_family(tree, tmp_path, program + STAYS)
    leashed.terminate()
    assert leashed.wait() == 75
    assert said.exists()
    assert tree.living() == {}


def test_terminate_does_not_wait_for_ever(tree, tmp_path: Path) -> None:
    leashed = start_family(tree, tmp_path, STUBBORN, grace_seconds=0.3)
    leashed.terminate()
    assert leashed.wait() == -signal.SIGKILL
    assert tree.living() == {}


def test_kill_leaves_nobody(tree, tmp_path: Path) -> None:
    leashed = start_family(tree, tmp_path, STUBBORN)
    leashed.kill()
    assert leashed.wait() == -signal.SIGKILL
    assert tree.living() == {}


@pytest.mark.parametrize("program", [STAYS, STUBBORN])
def test_a_spawner_killed_with_9_takes_the_tree_with_it(tree, tmp_path: Path, program: str) -> None:
    ready = tmp_path / "ready"
    spawner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, leash; "
            "leash.spawn([sys.executable, '-c', sys.argv[1], sys.argv[2]], grace_seconds=0.5).wait()",
            program,
            str(ready),
        ],
        env=tree.env,
    )
    assert tree.becomes(lambda _: ready.exists())
    assert tree.becomes(lambda living: len(living) == 1 + WATCHERS + FAMILY_SIZE)
    spawner.kill()
    spawner.wait()
    assert tree.becomes(lambda living: not living, ORPHAN_SECONDS), tree.living()


def _kill_outer(leashed: leash.Leashed) -> None:
    os.kill(leashed.pid, signal.SIGKILL)


def _kill_keeper(leashed: leash.Leashed) -> None:
    os.kill(keeper_of(leashed), signal.SIGKILL)


def _kill_command(leashed: leash.Leashed) -> None:
    os.kill(leashed.command_pid, signal.SIGKILL)


def _freeze_keeper_then_kill(leashed: leash.Leashed) -> None:
    os.kill(keeper_of(leashed), signal.SIGSTOP)
    leashed.kill()


@pytest.mark.parametrize("blow", [_kill_outer, _kill_keeper, _kill_command, _freeze_keeper_then_kill])
@pytest.mark.parametrize("network", [True, False])
def test_whichever_part_is_killed_with_9_nobody_is_left(
    tree, tmp_path: Path, blow: Callable[[leash.Leashed], None], network: bool
) -> None:
    leashed = start_family(tree, tmp_path, STUBBORN, limits=leash.Limits(network=network))
    blow(leashed)
    assert leashed.wait(timeout=ORPHAN_SECONDS) == -signal.SIGKILL
    assert tree.living() == {}


@pytest.mark.parametrize("network", [True, False])
def test_both_watchers_killed_at_once_still_end_the_commands_group(
    tree, tmp_path: Path, network: bool
) -> None:
    own_group = (
        "import subprocess, sys, time\n"
        "subprocess.Popen(['sleep', '600']); open(sys.argv[1], 'w').close(); time.sleep(600)"
    )
    leashed = start_family(tree, tmp_path, own_group, limits=leash.Limits(network=network))
    keeper = keeper_of(leashed)
    os.kill(keeper, signal.SIGSTOP)
    os.kill(leashed.pid, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    assert leashed.wait(timeout=ORPHAN_SECONDS) == -signal.SIGKILL
    assert tree.becomes(lambda living: not living, ORPHAN_SECONDS), tree.living()


@pytest.mark.parametrize("network", [True, False])
def test_spawner_and_watchers_killed_at_once_still_end_the_command(
    tree, tmp_path: Path, network: bool
) -> None:
    """Nobody is left who could kill: the kernel does it."""
    told = tmp_path / "told"
    program = textwrap.dedent("""
        import os, sys, leash
        leashed = leash.spawn(["sleep", "600"], limits=leash.Limits(network=sys.argv[2] == "True"))
        with open(sys.argv[1] + ".new", "w") as file:
            print(leashed.pid, leashed.command_pid, file=file)
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        leashed.wait()
    """)
    spawner = subprocess.Popen([sys.executable, "-c", program, str(told), str(network)], env=tree.env)
    assert tree.becomes(lambda _: told.exists())
    outer, command = (int(pid) for pid in told.read_text().split())
    watchers = [outer, int(Path(f"/proc/{command}/stat").read_text().rpartition(")")[2].split()[1])]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in (spawner.pid, *watchers):
            os.kill(process, number)
    spawner.wait()
    assert tree.becomes(lambda living: not living, ORPHAN_SECONDS), tree.living()


@pytest.mark.timeout(20)
def test_a_reader_sees_the_command_close_its_output(tree) -> None:
    """The watchers hold no copy of it."""
    leashed = leash.spawn(["sh", "-c", "exec >&-; sleep 600"], env=tree.env, stdout=subprocess.PIPE)
    assert leashed.stdout is not None
    with leashed.stdout:
        assert leashed.stdout.read() == b""
    assert leashed.returncode is None
    leashed.kill()
    leashed.wait()


def test_a_signal_to_the_leash_is_a_request_to_end(tree, tmp_path: Path) -> None:
    leashed = start_family(tree, tmp_path)
    os.kill(leashed.pid, signal.SIGTERM)
    assert leashed.wait() == -signal.SIGTERM
    assert tree.living() == {}


def test_a_deadline_that_nobody_moves_kills(tree, tmp_path: Path) -> None:
    leashed = start_family(tree, tmp_path)
    leashed.keep_until(time.monotonic() + 600)
    assert leashed.wait(timeout=0.2) is None
    leashed.keep_until(time.monotonic() + 0.1)
    assert leashed.wait(timeout=ORPHAN_SECONDS) == -signal.SIGKILL
    assert tree.living() == {}


def test_a_frozen_spawner_cannot_hold_the_deadline_up(tree, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = textwrap.dedent("""
        import sys, time, leash
        leashed = leash.spawn([sys.executable, "-c", sys.argv[1], sys.argv[2]])
        while True:
            leashed.keep_until(time.monotonic() + 1.0)
            time.sleep(0.1)
    """)
    spawner = subprocess.Popen([sys.executable, "-c", program, STAYS, str(ready)], env=tree.env)
    assert tree.becomes(lambda _: ready.exists())
    spawner.send_signal(signal.SIGSTOP)
    try:
        assert tree.becomes(lambda living: list(living) == [spawner.pid], ORPHAN_SECONDS), tree.living()
    finally:
        spawner.kill()
        spawner.wait()


def test_limits_bind_the_command() -> None:
    program = "ulimit -c; ulimit -n; ulimit -v; grep NoNewPrivs /proc/self/status"
    leashed = leash.spawn(
        ["sh", "-c", program],
        stdout=subprocess.PIPE,
        limits=leash.Limits(
            core_bytes=0, open_files=123, address_space_bytes=2**30, new_privileges=False, network=False
        ),
    )
    assert leashed.stdout is not None
    with leashed.stdout:
        assert leashed.stdout.read().split() == [b"0", b"123", b"1048576", b"NoNewPrivs:", b"1"]
    assert leashed.wait() == 0


def test_without_network_there_is_no_way_out(tree) -> None:
    """Or, where the kernel refuses the namespace, the caller is told."""
    program = "cut -d: -f1 /proc/self/net/dev | tail -n +3; id -u; id -g"
    leashed = leash.spawn(["sh", "-c", program], stdout=subprocess.PIPE, limits=leash.Limits(network=False))
    assert leashed.stdout is not None
    with leashed.stdout:
        lines = leashed.stdout.read().decode().split()
    assert leashed.wait() == 0
    if leashed.missing:
        assert leashed.missing[0].startswith("a network namespace of its own: ")
    else:
        assert lines == ["lo", str(os.getuid()), str(os.getgid())]


def test_without_network_processes_still_talk_among_themselves() -> None:
    """Those of one run on several devices do, over a loopback interface that leads nowhere else."""
    program = (
        "import socket; server = socket.create_server(('127.0.0.1', 0)); "
        "client = socket.create_connection(server.getsockname()); client.sendall(b'x'); "
        "print(server.accept()[0].recv(1))"
    )
    with socket.create_server(("127.0.0.1", 0)) as outside:
        program += f"; print(socket.socket().connect_ex(('127.0.0.1', {outside.getsockname()[1]})) != 0)"
        leashed = leash.spawn(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, limits=leash.Limits(network=False)
        )
        assert leashed.stdout is not None
        with leashed.stdout:
            lines = leashed.stdout.read().decode().split()
        assert leashed.wait() == 0
    assert lines == ["b'x'", str(not leashed.missing)]


def test_threads_may_share_a_leash(tree) -> None:
    leashed = leash.spawn(["sleep", "600"], env=tree.env)
    killer = threading.Timer(0.05, leashed.kill)
    killer.start()
    assert leashed.wait() == -signal.SIGKILL
    killer.join()
    leashed.terminate()
    leashed.keep_until(0.0)


def test_the_leash_knows_only_the_standard_library() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import leash; "
        "print([m for m in sys.modules if 'site-packages' in str(getattr(sys.modules[m], '__file__', ''))])"
    )
    root = str(Path(leash.__file__).parent.parent)
    bare = [sys.executable, "-I", "-S", "-c", program, root]
    assert subprocess.run(bare, capture_output=True, text=True, check=True).stdout.strip() == "[]"
