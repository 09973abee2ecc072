"""Commands that are forked from a process which has imported their program: on the same leash as any other."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import leash
from leash.linux import IS_LINUX

pytestmark = pytest.mark.skipif(not IS_LINUX, reason="there are no fork servers")

ORPHAN_SECONDS = 5.0
PROGRAM = """
import json, os, signal, subprocess, sys, tempfile, time

def get_ready():
    tempfile.gettempdir()
    if os.environ.get("STUPID"):
        raise RuntimeError("no such luck")

def main(arguments):
    match arguments[1:]:
        case ["tell"]:
            descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
            print(json.dumps({
                "arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd(),
                "temporary": tempfile.gettempdir(),
                "descriptors": descriptors, "input": sys.stdin.read(), "session": os.getsid(0),
                "group": os.getpgid(0), "process": os.getpid(),
                "child_signal": signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL,
            }))
        case ["end", code]:
            return int(code)
        case ["exit", code]:
            sys.exit(int(code))
        case ["say", words]:
            sys.exit(words)
        case ["raise"]:
            raise ValueError("as it happens")
        case ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["fill", path]:
            with open(path, "wb") as file:
                file.write(bytes(100_000))
        case ["tidy", ready, path]:
            def tidy_up(*_):
                time.sleep(0.5)
                open(path, "w").close()
                sys.exit(0)
            signal.signal(signal.SIGTERM, tidy_up)
            open(ready, "w").close()
            time.sleep(600)
        case ["family", path]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
            subprocess.Popen(sleeper)
            subprocess.Popen(sleeper, start_new_session=True)
            open(path, "w").close()
            time.sleep(600)
"""

Spawn = Callable[..., leash.Leashed]


@pytest.fixture
def server(tree, tmp_path: Path) -> Iterator[leash.ForkServer]:
    server = start(tree, tmp_path)
    wait_for(lambda: server.ready)
    yield server
    server.close()


def start(tree, folder: Path, **environment: str) -> leash.ForkServer:
    (folder / "program.py").write_text(PROGRAM)
    with (folder / "server.log").open("wb") as log:
        program = (str(folder / "program.py"), "always")
        environment = dict(tree.env) | {"PYTHONPATH": str(Path(leash.__file__).parents[1])} | environment
        return leash.ForkServer(program, cwd=folder, env=environment, output=log)


@pytest.fixture
def spawn(tree, server: leash.ForkServer, tmp_path: Path) -> Spawn:
    """Fork a command whose output goes to a file."""

    def spawn(*arguments: str, **changes: object) -> leash.Leashed:
        usual = {"cwd": tmp_path, "env": tree.env, "limits": leash.Limits(), "grace_seconds": 10.0}
        with (tmp_path / "output").open("ab") as output:
            return server.spawn(arguments, output=output, **usual | changes)

    return spawn


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_has_its_own_surroundings_and_nothing_of_who_forked_it(
    server: leash.ForkServer, spawn: Spawn, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    told = spawn("tell", cwd=elsewhere, env={"TMPDIR": str(elsewhere)})
    assert told.wait(10) == 0
    seen = json.loads((tmp_path / "output").read_text())
    assert seen["arguments"] == ["always", "tell"]
    assert seen["environment"] == {"TMPDIR": str(elsewhere)}
    assert seen["folder"] == seen["temporary"] == str(elsewhere)
    assert (seen["input"], seen["child_signal"]) == ("", True)
    # The fourth is the one through which it lists them.
    assert seen["descriptors"][:3] == [0, 1, 2]
    assert len(seen["descriptors"]) == 4
    assert seen["process"] == seen["group"] == told.command_pid
    assert seen["session"] == told.pid
    assert server.pid not in (told.pid, told.command_pid)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("end", "0"), 0, ""),
        (("end", "75"), 75, ""),
        (("exit", "3"), 3, ""),
        (("say", "no GPU"), 1, "no GPU\n"),
        (("raise",), 1, "ValueError: as it happens\n"),
        (("die",), -signal.SIGKILL, ""),
    ],
)
def test_how_a_command_ends_is_passed_through(
    spawn: Spawn, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert spawn(*arguments).wait(10) == code
    assert (tmp_path / "output").read_text().endswith(said)


def test_limits_are_a_commands_own(spawn: Spawn, tmp_path: Path) -> None:
    limits = leash.Limits(file_bytes=1000, files=leash.Files(("/",), (str(tmp_path),)))
    small = spawn("fill", str(tmp_path / "small"), limits=limits)
    assert small.wait(10) == 1
    assert "File too large" in (tmp_path / "output").read_text()
    assert spawn("fill", str(tmp_path / "large")).wait(10) == 0
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    refused = spawn("fill", str(outside), limits=leash.Limits(files=leash.Files(("/",), (str(tmp_path),))))
    assert (refused.wait(10) == 1) == (not refused.missing)
    outside.unlink(missing_ok=True)


def _kill_outer(leashed: leash.Leashed) -> None:
    os.kill(leashed.pid, signal.SIGKILL)


def _kill_keeper(leashed: leash.Leashed) -> None:
    parent = Path(f"/proc/{leashed.command_pid}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(parent), signal.SIGKILL)


def _kill_command(leashed: leash.Leashed) -> None:
    os.kill(leashed.command_pid, signal.SIGKILL)


def _let_time_run_out(leashed: leash.Leashed) -> None:
    leashed.keep_until(time.monotonic() + 0.2)


@pytest.mark.parametrize(
    "blow", [_kill_outer, _kill_keeper, _kill_command, _let_time_run_out, leash.Leashed.kill]
)
@pytest.mark.parametrize("network", [True, False])
def test_whatever_ends_it_nobody_is_left_but_the_server(
    tree, spawn: Spawn, tmp_path: Path, blow: Callable[[leash.Leashed], None], network: bool
) -> None:
    others = set(tree.living())
    leashed = spawn("family", str(tmp_path / "ready"), limits=leash.Limits(network=network))
    wait_for((tmp_path / "ready").exists)
    blow(leashed)
    assert leashed.wait(ORPHAN_SECONDS) == -signal.SIGKILL
    assert tree.becomes(lambda living: set(living) == others, ORPHAN_SECONDS), tree.living()
    assert spawn("end", "7").wait(10) == 7


def test_the_server_takes_its_commands_along(
    tree, server: leash.ForkServer, spawn: Spawn, tmp_path: Path
) -> None:
    leashed = spawn("family", str(tmp_path / "ready"))
    wait_for((tmp_path / "ready").exists)
    os.kill(server.pid, signal.SIGKILL)
    assert leashed.wait(ORPHAN_SECONDS) == -signal.SIGKILL
    assert tree.becomes(lambda living: not living, ORPHAN_SECONDS), tree.living()
    assert not server.lives
    with pytest.raises(OSError, match=r"Broken pipe|Connection reset|could not be started"):
        spawn("end", "0")


SPAWNER = textwrap.dedent("""
    import os, sys, time, leash
    from pathlib import Path
    folder, *arguments = Path(sys.argv[1]), *sys.argv[2:]
    with (folder / "log").open("wb") as log:
        server = leash.ForkServer((str(folder / "program.py"), "always"), cwd=folder, env=os.environ, output=log)
        while not server.ready:
            time.sleep(0.02)
        server.spawn(arguments, cwd=folder, env=os.environ, output=log, limits=leash.Limits(), grace_seconds=2.0)
    time.sleep(600)
""")


@pytest.mark.parametrize("what", ["family", "tidy"])
def test_a_spawner_that_dies_takes_all_along_after_their_grace(tree, tmp_path: Path, what: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = dict(tree.env) | {"PYTHONPATH": str(Path(leash.__file__).parents[1])}
    ready, tidied = tmp_path / "ready", tmp_path / "tidied"
    arguments = [what, str(ready), *([str(tidied)] if what == "tidy" else [])]
    process = subprocess.Popen([sys.executable, "-c", SPAWNER, str(tmp_path), *arguments], env=environment)
    wait_for(ready.exists)
    process.kill()
    process.wait()
    assert tree.becomes(lambda living: not living, ORPHAN_SECONDS), tree.living()
    assert tidied.exists() == (what == "tidy")


def test_one_that_cannot_get_ready_is_never_ready_and_says_why(tree, tmp_path: Path) -> None:
    server = start(tree, tmp_path, STUPID="yes")
    wait_for(lambda: not server.lives)
    assert not server.ready
    assert "no such luck" in (tmp_path / "server.log").read_text()
    server.close()


def test_one_that_is_frozen_is_found_out(
    server: leash.ForkServer, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leash.fork_server.PATIENCE_SECONDS", 0.3)
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError, match=r"did not start within 0\.3 s"):
        spawn("end", "0")
