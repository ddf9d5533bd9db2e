"""A session on the stand-in of a physical arm: as on one, nothing moves before it is enabled."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sessions import finish
from std_srvs.srv import SetBool

from rl_robot.bags import BagReader
from rl_robot.robots.description import load_robot
from rl_robot.ros import topics

ROBOT = load_robot("fr3")


def test_an_episode_runs_once_a_person_enabled_the_robot(bench: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rl_robot.cli", "launch", "collect.launch.py"]
    command += ["simulator:=stand_in", "pace:=1.0", "task:=reach", "policy:=script", "episodes:=1"]
    command += [f"robot:={ROBOT.name}", f"root:={tmp_path}", "run:=rehearsal"]
    session = subprocess.Popen(
        command,
        env=os.environ | {"ROS_DOMAIN_ID": str(bench.domain)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        heard = bench.collect(topics.JOINT_STATES)
        sent = bench.collect(topics.SAFETY_COMMAND)
        bench.until(lambda: len(heard) > 20 and "safety" in bench.health)
        assert bench.health["safety"]["enabled"] == "false"
        bench.spin(0.5)
        assert not sent
        assert list(heard[0].name) == sorted(ROBOT.joint_names)
        assert bench.call(SetBool, "safety/enable", SetBool.Request(data=True)).success
        output = finish(session)
    finally:
        if session.poll() is None:
            session.terminate()
            session.wait(timeout=10.0)
    assert session.returncode == 0, output
    result = json.loads((tmp_path / "rehearsal" / "result.json").read_text())
    assert result["episodes"] == 1
    bags = sorted((tmp_path / "rehearsal" / "episodes").iterdir())
    recorded = {message.topic for message in BagReader(bags[-1]).messages()}
    assert {one.topic for one in ROBOT.interfaces} <= recorded
