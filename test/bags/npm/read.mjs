// Reads a bag with @mcap/core, by its index and from end to end, and says what is in it as JSON.
import { readFileSync } from "node:fs";
import { crc32 } from "@foxglove/crc";
import { McapIndexedReader, McapStreamReader } from "@mcap/core";
import { decompress } from "fzstd";

const bytes = new Uint8Array(readFileSync(process.argv[2]));
const decompressHandlers = { zstd: (data) => decompress(data) };
const readable = {
  size: async () => BigInt(bytes.length),
  read: async (offset, size) => bytes.slice(Number(offset), Number(offset + size)),
};

const reader = await McapIndexedReader.Initialize({ readable, decompressHandlers });
const channel = (id) => reader.channelsById.get(id);
const indexed = [];
for await (const message of reader.readMessages({ validateCrcs: true })) {
  indexed.push([
    channel(message.channelId).topic,
    String(message.logTime),
    String(message.publishTime),
    crc32(message.data),
  ]);
}

let streamed = 0;
const stream = new McapStreamReader({ decompressHandlers, validateCrcs: true });
stream.append(bytes);
for (let record; (record = stream.nextRecord()); ) {
  streamed += record.type === "Message" ? 1 : 0;
}

const metadata = [];
for await (const record of reader.readMetadata()) {
  metadata.push([record.name, Object.fromEntries(record.metadata)]);
}
const schema = (id) => reader.schemasById.get(id);
console.log(
  JSON.stringify({
    profile: reader.header.profile,
    topics: Object.fromEntries(
      [...reader.channelsById.values()].map((c) => [
        c.topic,
        [schema(c.schemaId).name, schema(c.schemaId).encoding, c.messageEncoding],
      ]),
    ),
    messages: indexed,
    streamed,
    whole: stream.done() && stream.bytesRemaining() === 0,
    counted: String(reader.statistics.messageCount),
    crc: [reader.dataSectionCrc, crc32(bytes.subarray(0, Number(reader.dataEndOffset)))],
    metadata,
  }),
);
