"""The example: its data, its trainer, its demonstration and MLproject."""
