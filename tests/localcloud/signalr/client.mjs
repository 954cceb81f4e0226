// The official client, driven by a test: commands come as JSON lines on stdin, events go as JSON lines to stdout.
// Usage: node client.mjs '{"url": ..., "transport": "WebSockets", "protocol": "json", "reconnect": [0, 100], "modules": DIR}'
import { createRequire } from "node:module";
import readline from "node:readline";

const options = JSON.parse(process.argv[2]);
const require = createRequire(`${options.modules}/package.json`);
const signalr = require("@microsoft/signalr");

const tell = (event, details = {}) => {
  process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);
};
const builder = new signalr.HubConnectionBuilder()
  .withUrl(options.url, { transport: signalr.HttpTransportType[options.transport] })
  .configureLogging(signalr.LogLevel.None);
if (options.protocol === "messagepack") {
  const { MessagePackHubProtocol } = require("@microsoft/signalr-protocol-msgpack");
  builder.withHubProtocol(new MessagePackHubProtocol());
}
if (options.reconnect) {
  builder.withAutomaticReconnect(options.reconnect);
}

const connection = builder.build();
connection.keepAliveIntervalInMilliseconds = options.keepAlive ?? connection.keepAliveIntervalInMilliseconds;
connection.serverTimeoutInMilliseconds = options.serverTimeout ?? connection.serverTimeoutInMilliseconds;
connection.on("newMessage", (...received) => {
  tell("received", { arguments: received });
});
connection.onreconnecting((error) => tell("reconnecting", { error: error?.message }));
connection.onreconnected((connectionId) => tell("reconnected", { connectionId }));
connection.onclose((error) => tell("closed", { error: error?.message }));

const commands = {
  stop: () => connection.stop(),
  invoke: () => connection.send("method", 1),
};
readline.createInterface({ input: process.stdin }).on("line", (line) => commands[line]());
try {
  await connection.start();
  tell("started", { connectionId: connection.connectionId });
} catch (error) {
  tell("failed", { error: error.message });
  process.exit(1);
}
