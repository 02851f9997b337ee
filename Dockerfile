# The farm in a container: app, supervisor, object store and Blender. Run it with
#     docker run -p 8000:8000 -v kiln:/data kiln

FROM python:3.11-slim-bookworm AS blender
WORKDIR /opt/kiln
COPY requirements-bpy.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv .bpy \
    && .bpy/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bpy.txt \
    && .bpy/bin/python -m pip uninstall --quiet --yes pip setuptools \
    && rm -rf .bpy/lib/python3.11/site-packages/numpy/*/tests .bpy/lib/python3.11/site-packages/numpy/tests \
              .bpy/lib/python3.11/site-packages/Cython/Tests .bpy/lib/python3.11/site-packages/pyximport


FROM python:3.11-slim-bookworm AS farm
WORKDIR /opt/kiln
COPY requirements.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv .venv \
    && .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE config.toml ./
COPY nodeimage nodeimage
COPY supervisor supervisor
COPY ami ami
COPY app app
RUN .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
        --config-settings editable_mode=compat --editable . \
    && .venv/bin/python -m pip uninstall --quiet --yes pip setuptools \
    && rm -rf *.egg-info build \
    && .venv/bin/python -m compileall -q app ami supervisor nodeimage


FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Kiln" \
      org.opencontainers.image.description="A Blender render farm that a small studio owns" \
      org.opencontainers.image.licenses="GPL-3.0-or-later"
RUN --mount=type=bind,source=scripts,target=/run/scripts \
    /run/scripts/system-packages blender container \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /var/log/alternatives.log \
    && useradd --system --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin kiln \
    && install -d -o kiln -g kiln -m 0750 /data
COPY --from=blender /opt/kiln/.bpy /opt/kiln/.bpy
COPY --from=farm /opt/kiln /opt/kiln
WORKDIR /opt/kiln
ENV PATH=/opt/kiln/.venv/bin:$PATH \
    LANG=C.UTF-8 \
    HOME=/data \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER kiln
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# tini reaps what a killed node leaves behind, and hands signals on
ENTRYPOINT ["tini", "--", "kiln"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--data", "/data", "--config", "/opt/kiln/config.toml"]
