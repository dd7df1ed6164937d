# The image of agent and controller (docs/container-image.md). Plain Dockerfile syntax, nothing of BuildKit: Docker's
# legacy builder is the one that was tried, for linux/amd64.
#
# Both bases are pinned by digest (docs/container-image.md says what is known of them). The arguments are for mirrors that know an image only by
# another name, such as an account's own ECR.
ARG BUILD_IMAGE=node:24-trixie-slim@sha256:0711b541c1c33a8a530ac4f0d391baa9a15b3d804695b1b24a47daa5fb60e74d
ARG RUNTIME_IMAGE=gcr.io/distroless/nodejs24-debian13:latest@sha256:96df910f65fdd8a21d00d14d4cc046adcfcf3ced2d5e96be4b39ebde9f4866c6

FROM ${RUNTIME_IMAGE} AS runtime

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
COPY package.json package-lock.json ./
# No script of a package runs, here or later. npm takes the binaries of the platform that it runs on, and no others.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund
# What the bill of materials says of the base is read there.
COPY --from=runtime /var/lib/dpkg/status.d /base/status.d
COPY --from=runtime /usr/share/doc /base/doc
COPY --from=runtime /nodejs /base/nodejs
COPY . ./
ARG SOURCE=unknown
ARG SOURCE_DATE_EPOCH
# Compiles nothing: copies what runs to /image, with the bill of materials and the licences.
RUN SOURCE="$SOURCE" SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" node container-image/assemble.ts /base /image

FROM runtime
ARG VERSION=0.2.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="exhibit" \
      org.opencontainers.image.description="Forensic capture agent for Kubernetes nodes, and its controller" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
# The packages change seldom and are most of the size: a layer of their own stays on the nodes when exhibit is upgraded.
COPY --from=build /image/packages /
COPY --from=build /image/exhibit /
# Memory of other processes, freezing and the files of all users want root; the manifests take away what is not needed of it.
USER 0:0
WORKDIR /
# For Docker; kubelet asks the same by the manifests' probes. It reads from /etc/exhibit where to ask: docs/container-image.md.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["/nodejs/bin/node", "/opt/exhibit/cli/health.ts"]
ENTRYPOINT ["exhibit"]
CMD ["--help"]
