# The web application. Research software, not a medical device.
#
#   docker build -t covidmm .                                       the GPU of a host with NVIDIA's container toolkit
#   docker build -t covidmm --build-arg DEVICE=cpu .                no GPU, a quarter of the size
#   docker run --read-only --tmpfs /tmp -p 127.0.0.1:5000:5000 -v $PWD/checkpoints:/checkpoints:ro covidmm
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG DEVICE=cuda
# options of pip by which it finds torch without CUDA, where the usual builds for this processor all have it
ARG TORCH_OPTIONS=""
WORKDIR /app
COPY requirements.lock ./
# What only tests and documentation need stays out. --no-deps: the lock is complete.
RUN grep -vE '^(pytest|playwright|hypothesis|ruff|sphinx|furo|myst)' requirements.lock > /tmp/all.lock \
    && if [ "$DEVICE" = cpu ]; then grep -vE '^(nvidia-|cuda-|triton)' /tmp/all.lock; else cat /tmp/all.lock; fi > /tmp/device.lock \
    && grep -E '^torch(vision)?==' /tmp/device.lock > /tmp/torch.lock
RUN pip install --no-cache-dir --no-deps $TORCH_OPTIONS -r /tmp/torch.lock \
    && pip install --no-cache-dir --no-deps -r /tmp/device.lock \
    && python -c "import torch, torchvision"
COPY covidmm covidmm
COPY configs configs
COPY tools tools

# torch asks for the name of the user, which has no entry in /etc/passwd.
# Nothing is written but caches of libraries, and those to memory: give it --tmpfs /tmp where the root is read-only.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba HOME=/tmp \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torch USER=covidmm \
    COVIDMM_CHECKPOINTS=/checkpoints
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/healthz', timeout=4)"]
ENTRYPOINT ["python", "tools/serve.py", "--host", "0.0.0.0"]
