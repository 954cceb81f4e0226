"""IoT Hub: devices over MQTT 3.1.1, a registry, and a durable partitioned event log."""
