# The HTTP service and the other commands. Research use only, not a medical device.
#   docker build -t koa-lightning .                  a CPU
#   docker build -t koa-lightning --target gpu .     an NVIDIA GPU, with the container toolkit on the host
#   docker run -p 127.0.0.1:8000:8000 -e KOA_TOKEN koa-lightning
# TORCH_INDEX is the package index of PyTorch's CPU builds; without it the CPU image holds the CUDA libraries too.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m pip install --no-cache-dir "build>=1.2"
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY hydra_plugins hydra_plugins
COPY koa_lightning koa_lightning
RUN python -m build --wheel --outdir /wheels

FROM python:3.13-slim AS base
# OpenCV needs these two of the system.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 koa && install -d -o koa -g koa /home/koa/mlserver
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MLFLOW_DISABLE_TELEMETRY=true HF_HUB_OFFLINE=1
EXPOSE 8000
HEALTHCHECK --interval=30s --start-period=120s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=5)"]

FROM base AS gpu
RUN python -m pip install --no-cache-dir "torch>=2.14.1,<3" "torchvision>=0.29.1,<1"
COPY --from=build /wheels /wheels
RUN python -m pip install --no-cache-dir "$(ls /wheels/*.whl)[serve,server,dicom]"
USER koa
WORKDIR /home/koa
ENTRYPOINT ["koa"]
CMD ["serve", "host=0.0.0.0"]

FROM base AS cpu
ARG TORCH_INDEX
RUN python -m pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.14.1,<3" "torchvision>=0.29.1,<1"
COPY --from=build /wheels /wheels
RUN python -m pip install --no-cache-dir "$(ls /wheels/*.whl)[serve,server,dicom]"
USER koa
WORKDIR /home/koa
ENTRYPOINT ["koa"]
CMD ["serve", "host=0.0.0.0"]
