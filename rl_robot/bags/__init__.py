"""Bags: episodes on disk as rosbag2 folders of stock messages, and foreign ones."""

from rl_robot.bags.compare import compare_bags
from rl_robot.bags.messages import BagMessage, DecodedMessage, typestore
from rl_robot.bags.metadata import (
    OUTCOMES,
    EpisodeMetadata,
    TopicQos,
    absolute_topic,
    relative_topic,
)
from rl_robot.bags.reader import BagReader
from rl_robot.bags.writer import EpisodeWriter

__all__ = [
    "OUTCOMES",
    "BagMessage",
    "BagReader",
    "DecodedMessage",
    "EpisodeMetadata",
    "EpisodeWriter",
    "TopicQos",
    "absolute_topic",
    "compare_bags",
    "relative_topic",
    "typestore",
]
