"""The bare runner, on small scripts instead of nodes: no graph, no middleware."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rl_robot.bringup import runner as runner_module
from rl_robot.bringup.domain import claim_domain
from rl_robot.bringup.graph import NodeSpec
from rl_robot.bringup.process import describe_exit, node_command
from rl_robot.bringup.runner import Runner, bare_environment
from rl_robot.errors import UserError

SLEEP = "import time\nwhile True: time.sleep(0.05)"
# Says when it is up, and leaves a note when it is asked to end.
POLITE = """
import signal, sys, time
from pathlib import Path
def end(*_):
    Path("{name}.ended").write_text(str(time.monotonic()))
    sys.exit({code})
signal.signal(signal.SIGINT, end)
Path("{name}.up").touch()
while True: time.sleep(0.02)
"""
STUBBORN = """
import os, signal, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_IGN)
Path("{name}.pid").write_text(str(os.getpid()))
while True: time.sleep(0.02)
"""
WAIT_FOR = """
import time
from pathlib import Path
while not Path("{file}").exists(): time.sleep(0.01)
"""


def fake(spec: NodeSpec) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(spec.parameters["script"])]


def node(name: str, script: str, **options: bool) -> NodeSpec:
    return NodeSpec(name, name, {"script": script}, **options)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner_module, "_POLL", 0.01)
    monkeypatch.setattr(runner_module, "_FIRST_BACKOFF", 0.01)

    def run_nodes(*nodes: NodeSpec) -> int:
        return Runner(nodes, tmp_path / "log", os.environ, command=fake).run()

    return run_nodes


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_the_graph_ends_with_its_required_node_and_its_exit_status(run, capfd):
    required = WAIT_FOR.format(file="other.up") + "print('all done'); raise SystemExit(7)"
    code = run(
        node("other", POLITE.format(name="other", code=0)),
        node("main", required, required=True),
    )
    assert code == 7
    assert Path("other.ended").exists()
    assert "all done" in capfd.readouterr().out


def test_what_other_nodes_say_goes_to_their_logs(run, capfd):
    talk = "import sys, pathlib; print('to out', flush=True); print('to err', file=sys.stderr)\n"
    run(
        node("other", talk + "sys.stderr.flush(); pathlib.Path('said').touch()\n" + SLEEP),
        node("main", WAIT_FOR.format(file="said"), required=True),
    )
    assert Path("log/other.log").read_text().splitlines()[:2] == ["to out", "to err"]
    assert "to out" not in capfd.readouterr().out


def test_a_dead_node_is_started_again_and_its_last_words_are_shown(run, capfd):
    flaky = """
    from pathlib import Path
    starts = Path("starts")
    starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
    if len(starts.read_text()) < 3: raise ValueError("the motor is on fire")
    Path("third").touch()
    """
    code = run(
        node("flaky", textwrap.dedent(flaky) + SLEEP),
        node("main", WAIT_FOR.format(file="third"), required=True),
    )
    shown = capfd.readouterr().err
    assert code == 0
    assert shown.count("flaky ended (exit status 1): starting it again") == 2
    assert "the motor is on fire" in shown


def test_a_node_that_keeps_dying_ends_the_graph_with_an_error(run, capfd):
    code = run(
        node("broken", "raise SystemExit(9)"),
        node("main", SLEEP, required=True),
    )
    assert code == 9
    assert "broken ended (exit status 9), 5 times within 30 s: giving up" in capfd.readouterr().err


def test_bad_input_found_by_a_node_ends_the_graph_with_its_one_line(run, capfd):
    script = (
        "import sys; print('noise', file=sys.stderr); sys.stderr.write('error: no such block');"
    )
    code = run(node("picky", script + "sys.exit(2)"), node("main", SLEEP, required=True))
    assert code == 2
    assert capfd.readouterr().err == "error: no such block\n"


def test_on_a_signal_the_required_node_ends_first_and_its_status_is_the_graphs(run):
    interrupt = WAIT_FOR.format(file="main.up") + WAIT_FOR.format(file="other.up")
    interrupt += "import os, signal; os.kill(os.getppid(), signal.SIGINT)\n" + SLEEP
    code = run(
        node("other", POLITE.format(name="other", code=0)),
        node("main", POLITE.format(name="main", code=3), required=True),
        node("finger", interrupt),
    )
    assert code == 3
    assert float(Path("main.ended").read_text()) <= float(Path("other.ended").read_text())


def test_a_required_node_that_takes_its_time_to_end_is_asked_only_once(run, monkeypatch):
    monkeypatch.setattr(runner_module, "_LEAD", 0.1)
    slow = POLITE.format(name="main", code=3).replace(
        "sys.exit", "signal.signal(signal.SIGINT, signal.SIG_DFL); time.sleep(0.5); sys.exit"
    )
    interrupt = WAIT_FOR.format(file="main.up")
    interrupt += "import os, signal; os.kill(os.getppid(), signal.SIGINT)\n" + SLEEP
    assert run(node("main", slow, required=True), node("finger", interrupt)) == 3


def test_a_node_that_ignores_the_interrupt_is_killed(run, monkeypatch, capfd):
    monkeypatch.setattr(runner_module, "_PATIENCE", 0.2)
    assert (
        run(
            node("stubborn", STUBBORN.format(name="stubborn")),
            node("main", WAIT_FOR.format(file="stubborn.pid"), required=True),
        )
        == 0
    )
    assert not alive(int(Path("stubborn.pid").read_text() or 0))
    assert "stubborn did not end when asked to: killed" in capfd.readouterr().err


def test_a_log_folder_that_cannot_be_made_is_bad_input(run):
    Path("log").touch()
    with pytest.raises(UserError, match="no logs can be kept in"):
        run(node("main", "", required=True))


RUNNER_SCRIPT = """
import os, sys
from pathlib import Path
from rl_robot.bringup.graph import NodeSpec
from rl_robot.bringup.runner import Runner
nodes = [NodeSpec(n, n, {{"script": s}}, required=n == "main") for n, s in {nodes!r}]
command = lambda spec: [sys.executable, "-c", spec.parameters["script"]]
sys.exit(Runner(nodes, Path("log"), os.environ, command=command).run())
"""


def start_runner(folder: Path, *nodes: tuple[str, str]) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER_SCRIPT.format(nodes=nodes)], cwd=folder
    )
    deadline = time.monotonic() + 20
    while not all((folder / f"{name}.pid").exists() for name, _ in nodes):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    return process


def test_nothing_is_left_when_the_runner_itself_is_killed(tmp_path):
    stubborn = [(name, STUBBORN.format(name=name)) for name in ("main", "other")]
    process = start_runner(tmp_path, *stubborn)
    time.sleep(0.1)  # the files exist before their content does
    pids = [int((tmp_path / f"{name}.pid").read_text()) for name, _ in stubborn]
    process.kill()
    process.wait()
    assert all(gone_within(pid, 5.0) for pid in pids)


def test_a_second_signal_ends_even_stubborn_nodes_at_once(tmp_path):
    process = start_runner(tmp_path, ("main", STUBBORN.format(name="main")))
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 128 + signal.SIGKILL
    assert not alive(int((tmp_path / "main.pid").read_text()))


def test_exit_statuses_are_put_into_words():
    assert describe_exit(3) == "exit status 3"
    assert describe_exit(128 + signal.SIGSEGV) == "killed by SIGSEGV"


def test_parameters_reach_a_node_with_the_types_they_have():
    rclpy = pytest.importorskip("rclpy")
    parameters = {
        "pace": "1.0",
        "run": "runs/7",
        "camera": "",
        "word": "true",
        "quoted": 'it\'s "here": [1]',
        "episodes": 20,
        "rate": 0.5,
        "explore": False,
    }
    spec = NodeSpec("x", "chosen", parameters, {"clock": "/clock"}, namespace="lab/left")
    context = rclpy.Context()
    rclpy.init(args=node_command(spec)[3:], context=context)
    made = rclpy.create_node(
        "original",
        context=context,
        allow_undeclared_parameters=True,
        automatically_declare_parameters_from_overrides=True,
    )
    try:
        assert made.get_fully_qualified_name() == "/lab/left/chosen"
        assert {name: made.get_parameter(name).value for name in parameters} == parameters
        assert made.resolve_topic_name("clock") == "/clock"
    finally:
        made.destroy_node()
        rclpy.shutdown(context=context)


def test_two_sessions_get_two_domains_and_a_closed_one_is_free_again():
    first = claim_domain(range(60, 62))
    second = claim_domain(range(60, 62))
    assert {first.number, second.number} == {60, 61}
    with pytest.raises(UserError, match="ROS_DOMAIN_ID"):
        claim_domain(range(60, 62))
    first.close()
    third = claim_domain(range(60, 62))
    assert third.number == first.number
    second.close()
    third.close()


@pytest.mark.parametrize("real_time", [True, False])
def test_at_real_time_nobody_is_reached_through_shared_memory(real_time, tmp_path):
    code = """
    from pathlib import Path
    import rclpy
    rclpy.init()
    node = rclpy.create_node("probe")
    print("/dev/shm/fastrtps_port" in Path("/proc/self/maps").read_text())
    rclpy.shutdown()
    """
    environment, domain = bare_environment({"HOME": str(tmp_path)}, real_time=real_time)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    domain.close()
    assert done.stdout.split() == [str(not real_time)], done.stderr


def test_what_a_person_set_wins_over_the_runners_defaults():
    chosen = {
        "ROS_DOMAIN_ID": "7",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        "MUJOCO_GL": "osmesa",
    }
    environment, domain = bare_environment(chosen, real_time=True)
    assert domain is None
    assert {name: environment[name] for name in chosen} == chosen
    environment, domain = bare_environment({}, real_time=True)
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert environment["ROS_DOMAIN_ID"] == str(domain.number)
    domain.close()
