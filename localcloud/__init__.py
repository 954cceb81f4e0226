"""Azure IoT Hub, Functions and SignalR Service on your own machine, for any Python v2 function app."""
