"""The measuring is measured: nothing here starts a server or looks at the clock."""
