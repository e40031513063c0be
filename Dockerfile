# syntax=docker/dockerfile:1
# One image for every node of a cluster, and for the MLflow server: the same versions everywhere.
#   docker build -t bnnsearch .
#   docker build -t bnnsearch --build-arg EXTRAS="--extra aws" .      a head on AWS starts workers through boto3
# torch brings its CUDA libraries along; a node with a GPU needs the NVIDIA driver and container toolkit, no other base image.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG EXTRAS=""
ENV UV_PROJECT_ENVIRONMENT=/opt/bnnsearch \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir "uv==0.13.*"
WORKDIR /src
# Dependencies first: they change seldom, and their layer is the large one. A lock file is used where there is one.
COPY pyproject.toml README.md LICENSE uv.lock* ./
COPY bnnsearch/__init__.py bnnsearch/
# EXTRAS is several words, or none.
# hadolint ignore=SC2086
RUN --mount=type=cache,target=/root/.cache/uv uv sync --no-dev --no-install-project ${EXTRAS}
COPY bnnsearch bnnsearch
COPY hatch_build.py ./
# hadolint ignore=SC2086
RUN --mount=type=cache,target=/root/.cache/uv uv sync --no-dev --no-editable ${EXTRAS}

FROM python:${PYTHON}-slim-bookworm
# A head reaches its workers by ssh and rsync; Kubernetes' probes use wget. Debian's versions, for their security fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 bnnsearch \
    && useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash bnnsearch \
    && install --directory --owner=1000 --group=1000 /home/bnnsearch/artifacts \
    && ln -s /opt/bnnsearch/bin/ray /opt/bnnsearch/bin/bnnsearch /usr/local/bin/
COPY --from=build /opt/bnnsearch /opt/bnnsearch
ENV PATH=/opt/bnnsearch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
WORKDIR /home/bnnsearch
CMD ["bnnsearch", "--help"]
