// Writes a bag with @mcap/core's writer: joint states and strings, serialized by @foxglove/cdr.
//
//     node write.mjs FILE MESSAGES {"useChunks": true, ...}
import { writeFileSync } from "node:fs";
import { CdrWriter } from "@foxglove/cdr";
import { McapWriter } from "@mcap/core";

const HEADER = `
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
`;
const JOINT_STATE =
  "std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort" +
  HEADER;

const [file, count, options] = process.argv.slice(2);
const parts = [];
let size = 0n;
const writable = {
  position: () => size,
  write: async (data) => {
    parts.push(new Uint8Array(data));
    size += BigInt(data.length);
  },
};
const writer = new McapWriter({ writable, chunkSize: 1024, ...JSON.parse(options) });
await writer.start({ profile: "ros2", library: "npm" });

async function topic(name, type, definition) {
  const data = new TextEncoder().encode(definition);
  const schemaId = await writer.registerSchema({ name: type, encoding: "ros2msg", data });
  const metadata = new Map();
  return writer.registerChannel({ schemaId, topic: name, messageEncoding: "cdr", metadata });
}

const joints = await topic("/joint_states", "sensor_msgs/msg/JointState", JOINT_STATE);
const chatter = await topic("/left/chatter", "std_msgs/msg/String", "string data\n");
for (let i = 0; i < Number(count); i++) {
  const logTime = 10_000_000_000n + BigInt(i) * 100_000_000n;
  const state = new CdrWriter();
  state.int32(10 + Math.floor(i / 10)).uint32((i % 10) * 100_000_000).string("base");
  state.sequenceLength(2).string("shoulder").string("elbow");
  state.float64Array([i, -i / 2], true).float64Array([], true).float64Array([0.5], true);
  const add = (channelId, data) =>
    writer.addMessage({ channelId, sequence: i, logTime, publishTime: logTime + 5n, data });
  await add(joints, state.data);
  await add(chatter, new CdrWriter().string(`message ${i}`).data);
}
await writer.end();
writeFileSync(file, Buffer.concat(parts));
