"""A device written with nothing but paho-mqtt 2: connects, sends one message at QoS 1, waits for the PUBACK."""

import base64
import hashlib
import hmac
import sys
import time
from urllib.parse import quote

from paho.mqtt.client import CallbackAPIVersion, Client

host, port, ca_file, device_id, key, body = sys.argv[1:]

resource = quote(f"{host}/devices/{device_id}", safe="")
expiry = int(time.time()) + 3600
signature = hmac.digest(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256)
token = f"SharedAccessSignature sr={resource}&sig={quote(base64.b64encode(signature), safe='')}&se={expiry}"

client = Client(CallbackAPIVersion.VERSION2, client_id=device_id)
client.username_pw_set(f"{host}/{device_id}/?api-version=2021-04-12", token)
client.tls_set(ca_certs=ca_file)
client.connect(host, int(port))
client.loop_start()
client.publish(f"devices/{device_id}/messages/events/room=cellar", body, qos=1).wait_for_publish(10)
client.disconnect()
client.loop_stop()
