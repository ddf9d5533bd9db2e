"""The graphs: train, collect, deploy, replay, gazebo, doctor."""

from rl_robot.bringup.doctor_graph import DOCTOR
from rl_robot.bringup.gazebo_graph import GAZEBO
from rl_robot.bringup.graph import Graph
from rl_robot.bringup.replay_graph import REPLAY
from rl_robot.bringup.session_graphs import COLLECT, DEPLOY
from rl_robot.bringup.training_graph import TRAIN
from rl_robot.errors import UserError

GRAPHS = {graph.name: graph for graph in (TRAIN, COLLECT, DEPLOY, REPLAY, GAZEBO, DOCTOR)}


def find_graph(file_name: str) -> Graph:
    """Return the graph of a launch file: ``collect.launch.py`` or just ``collect``.

    Raises:
        UserError: there is no such launch file.
    """
    graph = GRAPHS.get(file_name.removesuffix(".launch.py"))
    if graph is None:
        known = ", ".join(f"{name}.launch.py" for name in GRAPHS)
        raise UserError(f"no launch file '{file_name}': expected one of {known}")
    return graph
