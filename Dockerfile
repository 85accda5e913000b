# The image of every process: web (the default command), worker and migration; see compose.yaml.
# CI carries out these instructions without a container engine (.ci/image), and then rehearses a deployment.
FROM python:3.13-slim-bookworm AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN python3 -m venv /venv
COPY requirements.lock /app/
RUN /venv/bin/pip install --quiet --require-hashes --only-binary :all: -r /app/requirements.lock

COPY manage.py gunicorn.conf.py /app/
COPY config /app/config
COPY clerk_integration /app/clerk_integration
COPY tenants /app/tenants
COPY templates /app/templates
WORKDIR /app
# Needs no setting, so that no secret is in the image. The modules are compiled because the file system is read-only.
RUN /venv/bin/python manage.py collectstatic --noinput \
    && /venv/bin/python -m compileall -q /app


FROM python:3.13-slim-bookworm

RUN useradd --system --uid 10001 --no-create-home app
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001

EXPOSE 8000
# gunicorn and the worker finish what they are doing within 20 seconds after SIGTERM.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["gunicorn", "-c", "python:config.gunicorn", "--bind", "0.0.0.0:8000", "config.wsgi"]
