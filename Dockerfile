# The app in a container, without a GPU: docs/deploy.md says how to run it. It is a Docker Space's, too.
FROM python:3.12-slim AS wheel
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel /src

FROM python:3.12-slim
# uv knows where PyTorch's CPU build is, which is gigabytes smaller. The largest part comes first: it
# stays in Docker's cache while colorhub changes.
COPY constraints.txt /install/
RUN pip install --no-cache-dir "uv>=0.8,<1" \
    && uv pip install --system --no-cache --torch-backend cpu -c /install/constraints.txt torch
COPY --from=wheel /wheel/*.whl /install/
RUN uv pip install --system --no-cache --torch-backend cpu -c /install/constraints.txt \
        "colorhub[app,heic] @ file://$(ls /install/*.whl)" \
    && useradd --create-home --uid 1000 colorhub \
    && install --directory --owner colorhub /data

USER 1000
WORKDIR /home/colorhub
# What was fetched from the Hub outlives the container in /data; photos do not.
ENV HF_HOME=/data/hf \
    GRADIO_TEMP_DIR=/tmp/gradio \
    PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 7860
HEALTHCHECK --start-period=60s --interval=30s --timeout=10s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/config')"]
CMD ["colorhub", "app", "--host", "0.0.0.0"]
