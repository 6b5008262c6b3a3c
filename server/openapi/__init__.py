"""What `/openapi.json` says of each loaded model, and the page at `/docs` that shows it."""
