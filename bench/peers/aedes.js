// An MQTT broker: aedes as it comes, its state in memory. Prints its port.
//     node aedes.js [CERTIFICATE_FILE KEY_FILE]

import { readFileSync } from "node:fs";
import net from "node:net";
import tls from "node:tls";
import { Aedes } from "aedes";

const [certificate, key] = process.argv.slice(2);
const broker = await Aedes.createBroker();
const server = certificate
  ? tls.createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, broker.handle)
  : net.createServer(broker.handle);
server.listen(0, "127.0.0.1", 4096, () => console.log(server.address().port));
