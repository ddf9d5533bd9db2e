"""The stages of a session: what runs one after the other, each until its share is done.

Collecting and deploying have one stage. Training has many: demonstrations, the held-out test of the
demonstrator (the trainer meanwhile imitates it), that of imitation, blocks of exploration with a
validation after each, and in the end the held-out test of the policy that did best in validation.

Every bag says which stage it belongs to, so a session that was killed goes on where its closed bags
end: nothing else is kept.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rl_robot.bags import EpisodeMetadata
from rl_robot.experience.runs import IMITATION_FILE, LEARNED_FILE, milestone_file
from rl_robot.policies import LEARNED
from rl_robot.supervision.session import BROKEN, SUCCESS, Done, SessionPlan

DEMONSTRATION = "demonstration"
EXPLORATION = "exploration"
VALIDATION = "validation"
TEST = "test"

_INDICES_PER_BLOCK = 100_000  # training starts: each block of exploration has its own


@dataclass(frozen=True)
class Stage:
    """One stage. ``needs`` is the file that must exist before it begins.

    ``best_of`` are the validations, by name, of which the best one's policy is taken into the file
    that is needed.
    """

    plan: SessionPlan
    needs: Path | None = None
    best_of: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name that bags carry."""
        return self.plan.stage


@dataclass(frozen=True)
class Curriculum:
    """How much of what a training session is made of; the fields are those of its launch file."""

    demonstrations: int = 100
    demonstrator: str = "weak_script"
    blocks: int = 4
    block_steps: int = 1000
    validation: int = 25
    test: int = 100
    compare: bool = True  # test demonstrator and imitation too

    def stages(self, base: SessionPlan, policies: Path) -> list[Stage]:
        """Return the stages; ``base`` holds robot and seed, ``policies`` the trainer's files."""
        shown = replace(
            base,
            policy=self.demonstrator,
            episodes=self.demonstrations,
            split="train",
            first=0,
            explore=True,
            role=DEMONSTRATION,
            stage="demonstrations",
        )
        stages = [Stage(shown)] if self.demonstrations else []
        if self.compare:
            stages.append(self._test(base, "demonstrator", self.demonstrator))
            imitation = policies / IMITATION_FILE
            stages.append(self._test(base, "imitation", str(imitation), needs=imitation))
        validations = []
        for block in range(1, self.blocks + 1):
            milestone = policies / milestone_file(block)
            stages.append(Stage(self._exploration(base, block)))
            validated = replace(
                base,
                policy=str(milestone),
                episodes=self.validation,
                split="validation",
                first=0,
                role=VALIDATION,
                stage=f"validate {block}",
            )
            validations.append(validated.stage)
            stages.append(Stage(validated, needs=milestone))
        learned = policies / LEARNED_FILE
        tested = self._test(base, LEARNED, str(learned), needs=learned)
        return [*stages, replace(tested, best_of=tuple(validations))]

    def _exploration(self, base: SessionPlan, block: int) -> SessionPlan:
        return replace(
            base,
            policy=LEARNED,
            episodes=0,
            steps=self.block_steps,
            split="train",
            first=block * _INDICES_PER_BLOCK,
            explore=True,
            role=EXPLORATION,
            stage=f"explore {block}",
        )

    def _test(self, base: SessionPlan, what: str, policy: str, needs: Path | None = None) -> Stage:
        plan = replace(
            base,
            policy=policy,
            episodes=self.test,
            split="test",
            first=0,
            role=TEST,
            stage=f"test {what}",
        )
        return Stage(plan, needs=needs)


def done_by_stage(episodes: Iterable[EpisodeMetadata]) -> dict[str, Done]:
    """Return how far each stage has come, by its closed bags; broken episodes do not count."""
    stages: dict[str, Done] = {}
    for episode in episodes:
        name = episode.extra.get("stage", "")
        if name and episode.outcome != BROKEN:
            before = stages.get(name, Done())
            stages[name] = Done(
                episodes=before.episodes + 1,
                successes=before.successes + (episode.outcome == SUCCESS),
                steps=before.steps + episode.steps,
                lost_periods=before.lost_periods + episode.lost_periods,
            )
    return stages


def best_validation(names: Sequence[str], done: Mapping[str, Done]) -> str:
    """Return the validation with most successes; of several the quickest, then the latest.

    Raises:
        ValueError: none of them has any episode.
    """
    known = [name for name in names if done.get(name, Done()).episodes]
    if not known:
        raise ValueError("nothing was validated")

    def merit(name: str) -> tuple[int, int, int]:
        return done[name].successes, -done[name].steps, known.index(name)

    return max(known, key=merit)


def take_best(stage: Stage, stages: Sequence[Stage], done: Mapping[str, Done]) -> str:
    """Copy the policy of the best validation to the file that ``stage`` needs; return its name."""
    best = best_validation(stage.best_of, done)
    source = next(Path(other.plan.policy) for other in stages if other.name == best)
    assert stage.needs is not None
    part = stage.needs.with_name(stage.needs.name + ".part")
    shutil.copyfile(source, part)
    part.replace(stage.needs)
    return source.name
