# The harness and its reference engine in an image (docs/cluster.md).
#   docker build -t spyre-cb .                                  for CPUs
#   docker build -t spyre-cb-card --build-arg BASE=IMAGE .      on an image of yours with Python 3.11 and torch_sendnn
ARG BASE=cpu

FROM docker.io/library/python:3.11-slim AS wheel
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE CHANGELOG.md CONTRIBUTING.md constraints.txt ./
COPY checkpoints checkpoints
COPY engine engine
COPY expectations expectations
COPY harness harness
COPY spyre_cb spyre_cb
COPY suites suites
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# The backend inductor compiles C++.
FROM docker.io/library/python:3.11-slim AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

FROM ${BASE}
ARG PYTHON=python3
# For smaller images: an index with torch for CPUs only, such as https://download.pytorch.org/whl/cpu
ARG PIP_EXTRA_INDEX_URL=
USER 0
COPY --from=wheel /wheels /wheels
COPY constraints.txt /wheels/
RUN ${PYTHON} -m venv --system-site-packages /opt/spyre-cb && /opt/spyre-cb/bin/python -m pip install --no-cache-dir -c /wheels/constraints.txt "$(ls /wheels/*.whl)[engine,server,structured]" && rm -rf /wheels
ENV PATH=/opt/spyre-cb/bin:$PATH OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
# Any user may run it: nothing is written outside of the working directory and the caches.
USER 1001
WORKDIR /tmp
CMD ["spyre-cb", "--help"]
