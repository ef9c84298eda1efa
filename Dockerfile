# The whole project for a machine with NVIDIA GPUs:
#   docker build -t galaxy-zoo .
#   docker run --rm --gpus all --ipc host -v "$PWD:/data" galaxy-zoo train shards --recipe quick --out run
#
# A slim Python is enough for a base: the wheels of PyTorch and DALI bring CUDA, cuDNN, NCCL and nvJPEG along, the
# NVIDIA container runtime brings the driver. A CUDA image would add a second, unused copy of several GB.
FROM python:3.11.13-slim-bookworm

# The driver's parts: compute for CUDA, utility for NVML and nvidia-smi, video for the hardware JPEG decoder.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video

# Triton and torch.compile build small C and C++ launchers when a kernel first runs; libquadmath, which PyTorch loads,
# comes with the compiler.
# The version is that of the base image's Debian: it drops older ones, so a pinned one would soon not install.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/galaxy-zoo
ENV PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

# The dependencies (gigabytes) are a layer of their own, which a change of the source leaves as it is.
COPY setup.cfg constraints.txt ./
RUN python -c "import configparser as c; s = c.ConfigParser(); s.read('setup.cfg'); \
        print(s['options']['install_requires'], *(s['options.extras_require'][e] for e in ('report', 's3')))" \
        > requirements.txt \
    && pip install -c constraints.txt -r requirements.txt

COPY . .
RUN pip install -c constraints.txt '.[report,s3]' \
    && useradd --create-home --uid 1000 galaxy

# With another --user there is no home and no user name; caches go where everybody may write, and where a folder may be
# mounted to keep them (docs/docker.md). Modules come from the installation, never from the folder that is mounted
# (PYTHONSAFEPATH).
ENV USER=galaxy \
    XDG_CACHE_HOME=/tmp/cache \
    TRITON_CACHE_DIR=/tmp/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/tmp/cache/inductor \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1

USER 1000
WORKDIR /data
ENTRYPOINT ["/opt/galaxy-zoo/docker/entry"]
