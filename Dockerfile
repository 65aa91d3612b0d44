# The build runs on the builder's own platform and cross-compiles; only the
# last stage is of the target's.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
WORKDIR /src

# The modules are a layer of their own, made again only when they change.
COPY go.mod go.sum ./
RUN go mod download

COPY api/ api/
COPY cmd/ cmd/
COPY controllers/ controllers/
COPY internal/ internal/
# hack/check-image.sh runs this command too, as it stands here.
RUN --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags="-s -w -X main.version=$VERSION" -o /out/manager ./cmd/manager

# No shell, no package manager; CA certificates are there. The manager writes to
# no file, so the root file system may be read-only.
FROM gcr.io/distroless/static:nonroot
COPY LICENSE /LICENSE
COPY --from=build /out/manager /manager
# By number, so that runAsNonRoot can be checked before the container starts.
USER 65532:65532
ENTRYPOINT ["/manager"]
