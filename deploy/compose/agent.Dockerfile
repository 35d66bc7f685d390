# The agent, from binaries that deploy/build-release.sh has made. The context is deploy/.
# It runs as root: it speaks to the host's Docker socket and reads every container's counters.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
ARG BIN_DIR=bin
RUN mkdir -p /var/lib/automator67/agent && chmod 0700 /var/lib/automator67/agent
COPY ${BIN_DIR}/automator67-agent /usr/local/bin/automator67-agent
COPY compose/agent-entrypoint.sh /usr/local/bin/agent-entrypoint.sh
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["/bin/sh", "/usr/local/bin/agent-entrypoint.sh"]
CMD ["run"]
