"""Reads bags: whole or not at all, checked against their checksums."""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from rl_robot.bags.mcap_records import DamageError, RawSeries
from rl_robot.bags.messages import BagMessage, DecodedMessage, Series, typestore
from rl_robot.bags.metadata import EpisodeMetadata, TopicQos, qos_of, relative_topic
from rl_robot.bags.storage import McapStorage, Storage, mcap_file, open_other
from rl_robot.errors import UserError


class BagReader:
    """Reads one bag, of ours or anyone's: a rosbag2 folder, or its ``.mcap`` or ``.db3`` file.

    The checksums of a whole MCAP file are verified when it is opened, so no message of a damaged
    bag of ours is ever given out. Other writers may leave out that of the whole (then those of the
    chunks are verified as they are read), or all.
    """

    def __init__(self, path: Path | str) -> None:
        """Open the bag.

        Raises:
            UserError: there is no bag at ``path``, or it is damaged; the message names the file
                and what is wrong with it.
        """
        self.path = Path(path)
        try:
            file = mcap_file(self.path)
        except FileNotFoundError as error:
            raise UserError(str(error)) from None
        self.file = file or self.path
        self._is_mcap = file is not None
        try:
            self._storage: Storage = McapStorage(file) if file else open_other(self.path)
        except (DamageError, OSError) as error:
            raise self._damaged(error) from None
        self.metadata = dict(self._storage.metadata)
        self.namespace = self.metadata.pop("namespace", "/")
        self._topics = {
            number: relative_topic(topic.name, self.namespace)
            for number, topic in self._storage.topics.items()
        }
        self.types = {self._topics[n]: topic.type for n, topic in self._storage.topics.items()}

    @property
    def is_episode(self) -> bool:
        """Whether the bag says that it is an episode of ours."""
        return "episode" in self.metadata

    @property
    def episode(self) -> EpisodeMetadata:
        """The episode's metadata.

        Raises:
            UserError: the bag has none, because something else recorded it.
        """
        try:
            return EpisodeMetadata.from_strings(self.metadata)
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{self.file} holds no episode recorded by rl_robot: missing or wrong {error}"
            ) from None

    @property
    def counts(self) -> dict[str, int]:
        """Messages of each topic."""
        counts: Counter[str] = Counter()
        for number, topic in self._storage.topics.items():
            counts[self._topics[number]] += topic.messages
        return dict(counts)

    @property
    def qos(self) -> dict[str, TopicQos]:
        """What the publishers of each topic offered, as far as the bag says."""
        return {self._topics[n]: qos_of(topic.qos) for n, topic in self._storage.topics.items()}

    @property
    def seconds(self) -> float:
        """From the first message to the last on the graph's clock, known without reading them."""
        first, last = self._storage.span
        return (last - first) * 1e-9

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """The messages of ``topics`` (all when None), in log time order.

        Raises:
            UserError: a part of the bag is damaged.
        """
        named = self._named(topics)
        try:
            for channel, _, log_ns, publish_ns, raw in self._storage.messages(named):
                yield BagMessage(*named[channel], log_ns, publish_ns, raw)
        except DamageError as error:
            raise self._damaged(error) from None

    def series(self, topics: Collection[str]) -> dict[str, Series]:
        """The messages of each of ``topics``, in log time order.

        Topics that the bag does not have have no messages.

        Raises:
            UserError: a part of the bag is damaged, or messages of a topic are of several types.
        """
        named = self._named(topics)
        found = {topic: Series("", [], [], []) for topic in topics}
        try:
            for number, series in self._storage.series(named).items():
                topic, message_type = named[number]
                if found[topic].raws and found[topic].type != message_type:
                    raise UserError(
                        f"{self.file}: {topic} has messages of types {found[topic].type} and "
                        f"{message_type}: one is needed"
                    )
                before = RawSeries(*found[topic][1:])  # of another channel of this topic
                found[topic] = Series(message_type, *before.with_those_of(series))
        except DamageError as error:
            raise self._damaged(error) from None
        return found

    def decoded(self, topics: Collection[str] | None = None) -> Iterator[DecodedMessage]:
        """Like `messages`, decoded."""
        for topic, message_type, log_ns, publish_ns, raw in self.messages(topics):
            message = typestore().deserialize_cdr(raw, message_type)
            yield DecodedMessage(topic, log_ns, publish_ns, message)

    def _named(self, topics: Collection[str] | None) -> dict[int, tuple[str, str]]:
        """The name and type of these topics, by their number."""
        return {
            number: (name, self._storage.topics[number].type)
            for number, name in self._topics.items()
            if topics is None or name in topics
        }

    def _damaged(self, error: Exception) -> UserError:
        remedy = "leave it out"
        if self._is_mcap:
            remedy += f", or keep what is whole of it: rl_robot bag repair {self.path}"
        return UserError(f"{self.file} is damaged ({error}): {remedy}")
