"""The server, as a child process over TCP wherever that can show a fault."""
