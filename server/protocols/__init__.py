"""The ways to ask and to answer beside the server's own JSON, which `server.codecs` reads and writes."""
