"""The simulators, by name."""

from rl_robot.errors import UserError
from rl_robot.robots.description import Robot
from rl_robot.simulation.simulation import Simulation
from rl_robot.simulation.world import Scene

MUJOCO, GAZEBO = "mujoco", "gazebo"
SIMULATORS = (MUJOCO, GAZEBO)


def check_simulator(name: str) -> None:
    """Raise a UserError unless the simulator called ``name`` is there; Gazebo need not be.

    What rl_robot adds to a Gazebo is compiled, if that was not done yet.
    """
    if name not in SIMULATORS:
        raise UserError(f"simulator '{name}': expected one of {', '.join(SIMULATORS)}")
    if name == GAZEBO:
        from rl_robot.simulation.gazebo.installation import find_installation

        find_installation()


def make_simulation(
    name: str, robot: Robot, scene: Scene, *, seed: int, picture_period: float
) -> Simulation:
    """Start a simulator.

    Args:
        name: one of ``SIMULATORS``.
        robot: the robot.
        scene: what stands around it.
        seed: of the cameras' noise.
        picture_period: s; pictures are asked for at multiples of it only.

    Raises:
        UserError: no such simulator on this machine, or it can't simulate the robot.
        LostProgramError: it did not come up.
    """
    # Each is imported by those who use it: none needs the other's libraries.
    if name == MUJOCO:
        from rl_robot.simulation.simulator import Simulator

        return Simulator(robot, scene, seed=seed)
    check_simulator(name)
    from rl_robot.simulation.gazebo.backend import GazeboSimulator

    return GazeboSimulator(robot, scene, seed=seed, picture_period=picture_period)
