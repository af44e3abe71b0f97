"""The operator's tool: looks at a store without going through the server, live or cold, and copies it. It never writes into a live one."""
