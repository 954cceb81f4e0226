"""Azure SignalR Service in serverless mode: negotiate, three transports, two protocols, REST."""
