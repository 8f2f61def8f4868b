FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/atelier && /opt/atelier/bin/pip install --no-cache-dir --no-deps -r requirements.lock
COPY src ./src
RUN /opt/atelier/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 atelier && mkdir /data && chown 1000:1000 /data
COPY --from=build /opt/atelier /opt/atelier
ENV PATH=/opt/atelier/bin:$PATH PYTHONUNBUFFERED=1 ATELIER_DATA_DIR=/data ATELIER_LOG_FORMAT=json
# By number: Kubernetes can't tell of a name that it isn't root.
USER 1000:1000
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# /live, since whoever restarts what is unhealthy would mend no database; a worker has it at its metrics port alone.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('ATELIER_METRICS_PORT') or os.environ.get('PORT') or '8000'}/live\", timeout=4)"]
ENTRYPOINT ["atelier"]
CMD ["up"]
