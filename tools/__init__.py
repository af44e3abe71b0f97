"""The operator's tool: looks at a store without going through the server, live or cold. It never writes."""
