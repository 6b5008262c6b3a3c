# Two images from one file; they meet only through the artifacts store.
#
#     docker build --target server -t tauserve-server .
#     docker build --target sync   -t tauserve-sync .
#
# The server's holds no torch, econml, scikit-learn, pandas, scipy or mlflow; the sync's no torch and no econml, so
# what it publishes is `unverified` until a sync with the trainer's libraries has certified it.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/venv/bin:$PATH \
    TAUSERVE_HOME=/var/lib/tauserve
# Numeric, so that an orchestrator can see that it is not root.
RUN useradd --no-create-home --shell /usr/sbin/nologin --uid 10001 tauserve \
    && install --directory --owner=10001 --group=10001 /var/lib/tauserve
WORKDIR /app

FROM base AS server-packages
COPY requirements.txt ./
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt

FROM base AS sync-packages
COPY deploy/locks/sync.txt ./
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir --disable-pip-version-check --require-hashes -r sync.txt

FROM base AS sync
ENV MLFLOW_DISABLE_TELEMETRY=true
COPY --from=sync-packages /opt/venv /opt/venv
COPY pyfunc ./pyfunc
COPY registry_sync ./registry_sync
USER 10001
ENTRYPOINT ["python", "-m", "registry_sync"]

# Last, so that a build without --target gives the server.
FROM base AS server
# A port published from a container reaches no loopback address, so the server listens on all of them. Beyond
# loopback it starts only with credentials, or with TAUSERVE_ALLOW_ANONYMOUS=1: that decision is the
# operator's and deliberately not made here. Without either the container stops and says what to set.
ENV TAUSERVE_HOST=0.0.0.0 \
    PORT=8080
COPY --from=server-packages /opt/venv /opt/venv
COPY pyfunc ./pyfunc
COPY server ./server
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/live', timeout=2)"]
ENTRYPOINT ["python", "-m", "server"]
