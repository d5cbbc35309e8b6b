# The root file system of the managed plugin. `make plugin` builds it; see docs/install.md.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends binutils python3-pip python3-venv
# Of OpenZFS, which is in Debian's contrib, the two commands and their libraries. Unpacked, not installed: the scripts of
# the package load the module, import pools, and give this system a host id.
WORKDIR /packages
RUN sed -i 's/ main\b/ main contrib/' $(find /etc/apt -name '*.list' -o -name '*.sources') \
    && apt-get update \
    && apt-get download libnvpair3linux libuutil3linux libzfs4linux zfsutils-linux \
    && for package in *.deb; do dpkg-deb --extract "$package" .; done \
    && mkdir -p /zfs/usr/sbin /zfs/usr/lib \
    && mv sbin/zfs sbin/zpool /zfs/usr/sbin \
    && mv lib/*-linux-gnu /zfs/usr/lib
# Where Python packages come from, if not from pypi.org.
ARG PIP_INDEX_URL
# Not an option of pip: that would not hold for what builds our own package.
ENV PIP_CONSTRAINT=/source/constraints.txt
WORKDIR /source
COPY constraints.txt pyproject.toml README.md ./
COPY volplug volplug
# The SDK of AWS describes hundreds of services; the others than EC2 are ways to credentials. What boto3 has on top
# of botocore's descriptions are objects, which nobody uses here, as nobody uses the former versions of EC2.
# The SDK of OpenStack brings its tests, and cryptography, which is needed for signed images and clusters only.
RUN python3 -m venv --without-pip /opt/volplug \
    && python3 -m pip --python /opt/volplug/bin/python install --no-cache-dir '.[cinder,ebs,engine]' \
    && python3 -m pip --python /opt/volplug/bin/python uninstall --yes cryptography cffi pycparser \
    && cd /opt/volplug/lib/python3*/site-packages \
    && rm -rf openstack/tests keystoneauth1/tests \
    && rm -rf boto3/data/* botocore/data/ec2/201[45]-* botocore/data/ec2/2016-0* \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name ec2 ! -name signin ! -name 'sso*' ! -name sts -exec rm -rf {} + \
    && find /opt/volplug -name '*.so' -exec strip --strip-unneeded {} +

FROM ${BASE}
# xfs_scrub, which nobody calls here, is all that needs the 36 MB of ICU; two parts of Python are for its own authors.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        btrfs-progs e2fsprogs libudev1 mount python3 util-linux xfsprogs \
    && rm -rf /usr/sbin/xfs_scrub* /usr/lib/*/libicu*.so.* /usr/lib/python3*/pydoc_data /usr/lib/python3*/test \
    && rm -rf /usr/share/doc/* /usr/share/man/* /var/cache/* /var/lib/apt/lists/* /var/log/* \
    && mkdir -p /etc/openstack /host/run /run/docker/plugins /mnt/volplug
COPY --from=build /opt/volplug /opt/volplug
COPY --from=build /zfs /
