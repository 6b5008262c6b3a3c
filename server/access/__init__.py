"""Who may call: API keys, tokens of an identity provider, what each may ask and how often."""
