"""What the documentation names is there, and its example runs."""

import re
from pathlib import Path

import pytest

from rl_robot.environments.robot_env import RobotEnv
from rl_robot.environments.rollout import run_episode
from rl_robot.policies import load_policy

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_tests_named_in_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    for path, name in re.findall(r"`(test/[\w/]+(?:\.py)?)(?:::(\w+))?", text):
        assert (ROOT / path).exists(), path
        if name:
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_the_example_task_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "your_task.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    (tmp_path / "hover_task.py").write_text(code[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    env = RobotEnv(task="hover_task:Hover", perception="truth")
    _, info = env.reset(options={"split": "test", "index": 0})
    assert env.observation_space.shape == (14,)
    assert list(info["start"]) == ["block"]
    _, reward, _, _, info = env.step(env.action_space.sample())
    assert reward == pytest.approx(sum(info["reward_terms"].values()))
    demonstrator = load_policy("hover_task:HoverDemonstrator", env.task, env.robot)
    results = [run_episode(env, demonstrator, "test", index, seed=index) for index in range(3)]
    assert any(result.success for result in results)
    env.close()
