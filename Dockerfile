# migrator as an image. Targets: `runner`, the tool with every driver, for applications to build on (docs/docker.md),
# and `job`, the same with the revisions of this repository.
#
#   docker build --target runner --tag migrator:runner .
#
# Behind a mirror: --build-arg PYTHON_IMAGE=… and PIP_INDEX_URL=…, --secret id=ca,src=ca.pem for the index's CA,
# --secret id=pip,src=pip.conf for an index with a password, and HTTPS_PROXY, which Docker hands on by itself.
ARG PYTHON_IMAGE=python:3.13-slim-trixie
# Times of files: with them fixed, the same sources make the same layers. BuildKit takes the image's own from it, too.
ARG SOURCE_DATE_EPOCH=1580601600

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
# Here as well: with it, what Python compiles by the way names no times either.
ARG SOURCE_DATE_EPOCH
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_ONLY_BINARY=:all: PYTHONDONTWRITEBYTECODE=1
WORKDIR /src

COPY requirements-build.lock requirements-image.lock ./
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip,target=/etc/pip.conf \
    if [ -e /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python -m venv --without-pip /opt/migrator \
    && python -m venv --without-pip /opt/build \
    && pip --python /opt/migrator/bin/python install --require-hashes -r requirements-image.lock \
    && pip --python /opt/build/bin/python install --require-hashes -r requirements-build.lock

COPY pyproject.toml README.md LICENSE ./
COPY docs/recipes.md docs/troubleshooting.md docs/mysql.md docs/
COPY migrator migrator
# Found by its name, not given as a path: then nothing is noted in the package about where the wheel lay. There is only
# the one that was just made.
# hadolint ignore=DL3013
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /wheels \
    && pip --python /opt/migrator/bin/python install --no-index --find-links /wheels --no-deps migrator

# Without activation scripts, and what some packages bring beside themselves. Compiled here, because nobody may write
# later; unchecked, because times of files tell nothing in an image. Of the standard library only what the base has not
# compiled, and no part that only developers of Python load. The revisions are not compiled: who replaces one in an
# image of their own must never run the old one.
COPY alembic.ini /out/job/app/
COPY migrations /out/job/app/migrations
# A builder knows what it copies by names and contents, and would take the same files with another time from its cache: so
# the time is a part of a name.
ENV FILES_DATE=$SOURCE_DATE_EPOCH
RUN touch /before \
    && rm -f /opt/migrator/bin/activate* /opt/migrator/bin/Activate.ps1 \
    && rm -rf /opt/migrator/lib/python*/site-packages/docs /opt/migrator/lib/python*/site-packages/examples \
         /opt/migrator/lib/python*/site-packages/greenlet/tests \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/migrator/lib \
    && stdlib=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))') \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
         -x '/(test|idlelib|tkinter|turtledemo|ensurepip|lib2to3|pydoc_data|site-packages|dist-packages)/' "$stdlib" \
    && runner=/out/runner-$FILES_DATE \
    && mkdir -p "$runner/opt" "$runner/app" \
    && mv /opt/migrator "$runner/opt/migrator" \
    && find "$stdlib" -name '*.pyc' -newer /before -exec cp --parents -t "$runner" {} + \
    && mv /out/job "/out/job-$FILES_DATE" \
    && chmod -R u=rwX,go=rX /out \
    && find /out -exec touch --no-dereference --date="@$FILES_DATE" {} +

FROM ${PYTHON_IMAGE} AS runner
ARG SOURCE_DATE_EPOCH
COPY --from=build /out/runner-$SOURCE_DATE_EPOCH /
# USER: under a user id that has no name, aiomysql asks for one when it is imported.
ENV PATH=/opt/migrator/bin:$PATH HOME=/app USER=migrator PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["migrator"]
CMD ["upgrade"]
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="migrator" \
      org.opencontainers.image.description="Runs Alembic migrations exactly once, and proves that they were applied" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

FROM runner AS job
ARG SOURCE_DATE_EPOCH
COPY --from=build /out/job-$SOURCE_DATE_EPOCH /
