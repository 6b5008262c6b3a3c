"""Who may call: keys, tokens, limits, TLS."""
