// Broadcasts to WebSocket clients what is posted to /, {"target", "arguments"}. Prints its port.
//     node fanout.js ws|socket.io
// Each as its documentation shows it, uncompressed; pings are off as long as a measurement takes.

import http from "node:http";
import { Server } from "socket.io";
import { WebSocketServer } from "ws";

const SILENCE_MS = 3_600_000;

const broadcasters = {
  ws: (server) => {
    const sockets = new WebSocketServer({ server });
    return (target, values) => {
      const frame = Buffer.from(JSON.stringify({ type: 1, target, arguments: values }) + "\x1e");
      for (const client of sockets.clients) client.send(frame, { binary: false }); // else it encodes for each
    };
  },
  "socket.io": (server) => {
    const sockets = new Server(server, { pingInterval: SILENCE_MS });
    return (target, values) => sockets.emit(target, ...values);
  },
};

const server = http.createServer();
const broadcast = broadcasters[process.argv[2]](server);
server.on("request", async (request, response) => {
  if (request.method !== "POST" || request.url !== "/") return;
  const parts = [];
  for await (const part of request) parts.push(part);
  const message = JSON.parse(Buffer.concat(parts));
  broadcast(message.target, message.arguments);
  response.writeHead(202).end();
});
server.listen(0, "127.0.0.1", 4096, () => console.log(server.address().port));
