# One binary, one image: what a container does is its arguments (`serve --roles journal`).
#
#   docker build -t commonplace .
#   docker run --rm -v commonplace:/data commonplace keys create --subject me --role admin
#   docker run -p 8083:8083 -v commonplace:/data commonplace
#
# Meant to give the same binary for the same source: versions are locked, paths are mapped away, nothing of the clock
# goes in. Two builds have not been compared yet.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
ENV CARGO_INCREMENTAL=0 SOURCE_DATE_EPOCH=0
RUN make release CARGO_TARGET_DIR=/target && strip --strip-all /target/dist/com

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /target/dist/com /usr/local/bin/com
ENV COM_DATA_DIR=/data COM_LISTEN=0.0.0.0:8083 COM_ACCESS__MODE=required
VOLUME /data
EXPOSE 8083
ENTRYPOINT ["/usr/local/bin/com"]
CMD ["serve"]
