# The service: API, worker and migrations are the same image with another command.
#
#   docker build -t abdistill .
#   docker build -t abdistill --build-arg PIP_FLAGS="--index-url ..." .     a mirror, or another build of torch

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ARG PIP_FLAGS=""
WORKDIR /source
RUN python -m venv /app/venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY abcore abcore
COPY api api
COPY leash leash
COPY migrations migrations
COPY server server
COPY store store
COPY worker worker
RUN /app/venv/bin/pip install --no-cache-dir ${PIP_FLAGS} --constraint constraints.txt '.[export]'

FROM python:${PYTHON_VERSION}-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin abdistill \
    && install --directory --owner=abdistill --group=abdistill --mode=0700 /data /workspaces
COPY --from=build /app/venv /app/venv
ENV PATH=/app/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ABDISTILL_DATA_DIR=/data
USER abdistill
WORKDIR /data
VOLUME /data
EXPOSE 8420
STOPSIGNAL SIGTERM
# On its own the container runs everything; docker-compose.yml gives each part one of its own.
CMD ["abdistill-server", "up", "--host", "0.0.0.0"]
