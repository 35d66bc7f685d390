# The controller, from binaries that deploy/build-release.sh has made.
# The context is deploy/. The base needs the C library that the binary was built
# for, a shell, mkdir and chown; nothing is installed into it.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
ARG BIN_DIR=bin
RUN mkdir -p /var/lib/automator67/controller && chown -R 10001:10001 /var/lib/automator67
COPY ${BIN_DIR}/automator67-controller /usr/local/bin/automator67-controller
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 10001:10001
EXPOSE 6700 6701
ENTRYPOINT ["automator67-controller"]
CMD ["serve"]
