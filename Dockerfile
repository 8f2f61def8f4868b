FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/atelier && /opt/atelier/bin/pip install --no-cache-dir --no-deps -r requirements.lock
COPY src ./src
RUN /opt/atelier/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 atelier && mkdir /data && chown atelier /data
COPY --from=build /opt/atelier /opt/atelier
ENV PATH=/opt/atelier/bin:$PATH PYTHONUNBUFFERED=1 ATELIER_DATA_DIR=/data ATELIER_LOG_FORMAT=json
USER atelier
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', '8000')}/health\", timeout=4)"]
ENTRYPOINT ["atelier"]
CMD ["up"]
