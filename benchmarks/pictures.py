"""What a camera's picture costs the recorder, and takes on disk, for each way to store it.

Pictures of the simulated camera (320x240, with its noise), the block somewhere else in each, are
handed to a bag's writer as the recorder does it, its chunks included. The times are processor time
of one core. The last line is JSON.
"""

import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from common import Result, options, report

from rl_robot.bags import EpisodeWriter
from rl_robot.bags.cdr import image_bytes
from rl_robot.bags.pictures import (
    COMPRESSED_IMAGE,
    IMAGE,
    KINDS,
    RAW,
    compress,
    compressed_topic,
    decompress,
    find_kind,
)
from rl_robot.robots.description import load_robot
from rl_robot.simulation.simulator import Simulator
from rl_robot.simulation.world import load_scene

PICTURES, QUICK_PICTURES = 500, 100
TOPIC = "camera/image_raw"
PERIOD_NS = 100_000_000


def rendered(count: int) -> list[bytes]:
    """Serialized pictures of the arm at home and a block at random places."""
    random = np.random.default_rng(0)
    robot, scene = load_robot("arm"), load_scene("table")
    camera = robot.cameras[0]
    simulator = Simulator(robot, scene, seed=0)
    simulator.reset({})
    pictures = []
    for number in range(count):
        x, y = random.uniform((0.3, -0.1), (0.5, 0.1))
        simulator.place("block", float(x), float(y), float(random.uniform(-3.0, 3.0)))
        image = simulator.render(camera.name)
        pictures.append(image_bytes(image, number * PERIOD_NS, camera.frame_id))
    simulator.close()
    return pictures


def stored(pictures: list[bytes], name: str, folder: Path) -> Result:
    """Return what it took to write the pictures into a bag, per picture."""
    kind = find_kind(name)
    topic = TOPIC if kind is None else compressed_topic(TOPIC)
    writer = EpisodeWriter(folder / name, {topic: IMAGE if kind is None else COMPRESSED_IMAGE})
    seconds = []
    for number, raw in enumerate(pictures):
        began = time.thread_time()
        message = raw if kind is None else compress(raw, kind)
        writer.write(topic, message, number * PERIOD_NS, number)
        seconds.append(time.thread_time() - began)
    writer.write_out_old(0.0)
    writer.write_out_old(1.0)
    (file,) = (folder / f"{name}.part").glob("*.mcap")
    size = file.stat().st_size / len(pictures)
    writer.abort()
    back = 0.0
    if kind is not None:
        compressed = [compress(raw, kind) for raw in pictures[:50]]
        began = time.thread_time()
        for message in compressed:
            decompress(message)
        back = (time.thread_time() - began) / len(compressed)
    return {
        "ms_mean": 1e3 * statistics.mean(seconds),
        "kib": size / 1024,
        "back_ms": 1e3 * back,
    }


def measure(count: int) -> Result:
    """Return the figures of each way."""
    cv2.setNumThreads(1)
    pictures = rendered(count)
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: stored(pictures, name, Path(folder)) for name in (RAW, *KINDS)}
    return {"pictures": count, "raw_kib": len(pictures[0]) / 1024, "rows": rows}


def table(result: Result) -> str:
    """Return the figures as people read them."""
    lines = [f"{result['pictures']} pictures of {result['raw_kib']:.0f} KiB"]
    for name, row in result["rows"].items():
        lines.append(
            f"{name:5}  {row['ms_mean']:5.2f} ms each  "
            f"{row['kib']:6.1f} KiB on disk  back {row['back_ms']:.2f} ms"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark."""
    given = options(__doc__, quick=f"{QUICK_PICTURES} pictures").parse_args()
    count = QUICK_PICTURES if given.quick else PICTURES
    return report(lambda: measure(count), table, [], check=given.check)


if __name__ == "__main__":
    raise SystemExit(main())
