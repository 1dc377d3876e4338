# envoy-waf with the OWASP Core Rule Set baked in; runs as a user without rights.
#
#   docker build -t envoy-waf .
#   docker run -p 9002:9002 envoy-waf serve --listen 0.0.0.0:9002

FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential gnupg ca-certificates \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY protos protos
COPY waf_core waf_core
COPY extproc extproc
RUN python -m venv /opt/envoy-waf && /opt/envoy-waf/bin/pip install --no-cache-dir '.[otel]' \
    # xds-protos brings an older copy of its modules: the package itself has to come last.
    && /opt/envoy-waf/bin/pip install --no-cache-dir --force-reinstall --no-deps opentelemetry-proto

FROM build AS rules
ARG CRS_VERSION=4.28.0
ARG CRS_KEY=36006F0E0BA167832158821138EEACA1AB8A6E72
# The release is used only if its signature is the CRS project's.
RUN gpg --batch --keyserver hkps://keys.openpgp.org --recv-keys "$CRS_KEY" \
    && /opt/envoy-waf/bin/envoy-waf crs install "$CRS_VERSION" --data-dir /var/lib/envoy-waf

FROM python:3.12-slim
COPY --from=build /opt/envoy-waf /opt/envoy-waf
COPY --from=rules /var/lib/envoy-waf /var/lib/envoy-waf
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin envoy-waf \
    && mkdir -p -m 0700 /run/envoy-waf /var/cache/envoy-waf && chown 10001:10001 /run/envoy-waf /var/cache/envoy-waf
USER 10001:10001
ENV PATH=/opt/envoy-waf/bin:$PATH \
    ENVOY_WAF_DATA_DIR=/var/lib/envoy-waf \
    ENVOY_WAF_CACHE_DIR=/var/cache/envoy-waf/hyperscan \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
EXPOSE 9002
HEALTHCHECK --interval=10s --timeout=3s CMD \
    ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9003/readyz', timeout=2)"]
ENTRYPOINT ["envoy-waf"]
CMD ["serve", "--listen", "0.0.0.0:9002"]
