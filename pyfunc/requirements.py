"""What an artifact says it needs where it is loaded. Standard library only."""

from __future__ import annotations

PYTHON_VERSION = "3.11"
MLFLOW_VERSION = "3.17.2"
REQUIREMENTS = (f"mlflow=={MLFLOW_VERSION}", "numpy==2.4.6", "onnxruntime==1.32.0", "pandas==3.1.1")
"""What `code/` was tested with; it needs nothing else."""

REQUIREMENTS_FILE = "".join(f"{line}\n" for line in REQUIREMENTS)
"""Content of `requirements.txt`."""
ENVIRONMENT_FILE = f'python: "{PYTHON_VERSION}"\ndependencies:\n- -r requirements.txt\n'
"""Content of `python_env.yaml`."""
