"""A registry row becomes an MLflow artifact becomes a REST answer."""
