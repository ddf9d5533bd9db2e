"""A synthetic training session: bags, session.json and metrics as a real one leaves them."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import synthetic

from rl_robot.experience.runs import RunFolder

STEP_NS = 6_000_000  # of wall time per control step
RESET_STEPS = 25

Tries = list[int | None]  # steps to success; None for a failure of 12 steps


class SessionWriter:
    """Writes one stage after the other."""

    def __init__(self, run: RunFolder, wall_ns: int = 10**18) -> None:
        self.run = run
        self.wall_ns = wall_ns
        self._start_ns = 10_000_000_000
        self._stages: list[dict[str, Any]] = []

    def stage(self, name: str, role: str, policy: str, split: str, tries: Tries) -> None:
        """One stage: an episode per try, on the split's starts from 0 on."""
        began_ns = self.wall_ns
        for index, steps in enumerate(tries):
            taken = steps or 12
            meta = synthetic.metadata(
                self.run.next_episode(),
                "truncated" if steps is None else "success",
                taken,
                split=split,
                policy=policy,
                extra={"role": role, "stage": name},
            )
            meta = replace(meta, index=index)
            path = self.run.episode_path(meta.episode)
            synthetic.write_episode(path, meta, start_ns=self._start_ns, wall_ns=self.wall_ns)
            self._start_ns += (taken + RESET_STEPS) * synthetic.PERIOD_NS
            self.wall_ns += (taken + RESET_STEPS) * STEP_NS
        self._stages.append(
            {
                "name": name,
                "role": role,
                "policy": policy,
                "split": split,
                "episodes": len(tries),
                "control_steps": sum((steps or 12) + RESET_STEPS for steps in tries),
                "wall_seconds": (self.wall_ns - began_ns) * 1e-9,
                "waited_seconds": 90.0,
            }
        )

    def finish(self) -> None:
        """Write session.json."""
        self.run.write_session(
            {
                "task": "grasp",
                "stages": self._stages,
                "arguments": {"block_steps": "5"},
                "chosen": "milestone_02.safetensors",
                "trainer": {"stage": "done"},
            }
        )


def write_session(
    run: RunFolder, *, learned: Tries | None = None, blocks: Iterable[Tries] = ((7, None), (5, 6))
) -> None:
    """A whole session: everything from the demonstrations to the test of the learned policy."""
    writer = SessionWriter(run)
    files = f"{run.path}/policies"
    writer.stage("demonstrations", "demonstration", "weak_script", "train", [9, None, 10])
    writer.stage("test demonstrator", "test", "weak_script", "test", [10, None, 8, 9])
    writer.stage(
        "test imitation", "test", f"{files}/imitation.safetensors", "test", [9, 9, 8, None]
    )
    for number, block in enumerate(blocks, start=1):
        writer.stage(f"explore {number}", "exploration", "learned", "train", list(block))
        milestone = f"{files}/milestone_{number:02d}.safetensors"
        tries = [6, None] if number == 1 else [5, 5]
        writer.stage(f"validate {number}", "validation", milestone, "validation", tries)
    best = f"{files}/learned.safetensors"
    writer.stage("test learned", "test", best, "test", learned or [5, 6, 4, 5])
    writer.finish()
    write_metrics(run, metrics("bc", 5, 0.0, 10.0) + metrics("sac", 20, 10.0, 120.0))


def metrics(learner: str, count: int, wall: float, rate: float) -> list[dict[str, Any]]:
    """Lines of one learner, a second apart."""
    return [
        {
            "wall": wall + i,
            "updates": round(rate * (i + 1)),
            "transitions": 100 * (i + 1),
            "learner": learner,
            "loss": 1 / (i + 1),
        }
        for i in range(count)
    ]


def write_metrics(run: RunFolder, lines: Iterable[dict[str, Any]], tail: str = "") -> None:
    """trainer/metrics.jsonl, with ``tail`` after its last line."""
    folder = run.path / "trainer"
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + tail, encoding="utf-8")
