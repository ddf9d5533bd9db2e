"""docs/topics.md says what the code does."""

import re
from pathlib import Path

import pytest
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from rl_robot.cli import main
from rl_robot.ros import topics
from rl_robot.ros.topic_docs import SERVICES, Service, topics_page
from rl_robot.ros.topics import TOPICS, Quality, Topic

ROOT = Path(__file__).resolve().parents[2]
NODES = sorted((ROOT / "rl_robot" / "nodes").glob("*.py"))


def test_the_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "topics.md").read_text(encoding="utf-8")
    assert written == topics_page(), "run `rl_robot topics > docs/topics.md`"


def test_the_command_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics"]) == 0
    assert capsys.readouterr().out == topics_page()


def test_a_row_says_type_and_quality_of_service() -> None:
    topic = Topic("stop", Bool, Quality("x", 7, latched=True), "me", "you", "stops | starts")
    page = topics_page([topic], [Service("go", SetBool, "me", "goes")])
    assert (
        "| `stop` | std_msgs/msg/Bool | reliable, transient local, depth 7 | me | you "
        "| stops \\| starts |" in page
    )
    assert "| `go` | std_srvs/srv/SetBool | me | goes |" in page


def test_every_topic_has_a_row_of_its_own() -> None:
    rows = [line for line in topics_page().splitlines() if line.startswith("| `")]
    assert len(rows) == len(TOPICS) + len(SERVICES)


def test_the_services_are_those_that_the_nodes_offer() -> None:
    offered = {
        (name, kind)
        for path in NODES
        for kind, name in re.findall(r'create_service\((\w+), "([^"]+)"', path.read_text())
    }
    assert offered == {(service.name, service.type.__name__) for service in SERVICES}


@pytest.mark.parametrize("path", NODES, ids=lambda path: path.stem)
def test_a_node_that_publishes_is_named_as_publisher(path: Path) -> None:
    for variable in re.findall(r"self\.publisher\(\s*topics\.([A-Z_]+)", path.read_text()):
        topic = getattr(topics, variable, None)
        if isinstance(topic, Topic):
            assert path.stem in topic.publisher
