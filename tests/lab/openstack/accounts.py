"""What a cloud has from the start: users, endpoints, a flavor, an image and volume types."""

from typing import Any, Final

from openstack.config import OpenStackConfig
from openstack.connection import Connection

from tests.lab.openstack import configs
from tests.lab.openstack.configs import APPLICATION_SECRET, REGION, USERS, CloudSite

FLAVOR: Final = "small"
IMAGE: Final = "empty"
_SERVICES: Final = (
    ("cinder", "block-storage", configs.CINDER, "/v3/%(project_id)s"),
    ("nova", "compute", configs.NOVA, "/v2.1"),
    ("glance", "image", configs.GLANCE, ""),
    ("placement", "placement", configs.PLACEMENT, ""),
    ("neutron", "network", configs.NEUTRON, ""),
)
_TYPES: Final = {
    "files": {"volume_backend_name": "files"},
    "multiattach": {"volume_backend_name": "files", "multiattach": "<is> True"},
}


def connection(site: CloudSite, cloud: str) -> Connection:
    """A connection as one of the entries of clouds.yaml."""
    config = OpenStackConfig(config_files=[f"{site.directory}/clouds.yaml"], load_envvars=False)
    return Connection(config=config.get_one(cloud))


def create(site: CloudSite) -> None:
    """Create projects, users and endpoints at Keystone."""
    with connection(site, "admin") as cloud:
        identity: Any = cloud.identity  # its type has the calls of version 2, too
        roles = {role.name: role for role in identity.roles()}
        roles |= {name: identity.create_role(name=name) for name in {"service"} - roles.keys()}
        projects = {project.name: project for project in identity.projects()}
        for name in ("service", "demo", "other"):
            projects[name] = identity.create_project(name=name, domain_id="default")

        def add(name: str, password: str, project: str, *granted: str) -> None:
            user = identity.find_user(name) or identity.create_user(
                name=name, password=password, domain_id="default"
            )
            for role in granted:
                identity.assign_project_role_to_user(projects[project], user, roles[role])

        for user in USERS.values():
            add(user.name, user.password, user.project, user.role)
        for name, kind, port, path in _SERVICES:
            if name != "neutron":
                add(name, f"{name}-pw", "service", "admin", "service")
            service = identity.create_service(name=name, type=kind)
            for interface in ("public", "internal", "admin"):
                identity.create_endpoint(
                    service_id=service.id,
                    interface=interface,
                    url=f"{site.url(port)}{path}",
                    region_id=REGION,
                )
    with connection(site, "demo") as cloud:
        identity = cloud.identity
        identity.create_application_credential(
            user=cloud.current_user_id, name="volplug", secret=APPLICATION_SECRET
        )


def create_resources(site: CloudSite) -> None:
    """Create what Nova, Glance and Cinder need before a project can use them."""
    with connection(site, "admin") as cloud:
        cloud.compute.create_flavor(name=FLAVOR, vcpus=1, ram=128, disk=1)
        cloud.image.create_image(
            name=IMAGE, disk_format="raw", container_format="bare", visibility="public", data=bytes(1024)
        )
        for name, specs in _TYPES.items():
            cloud.block_storage.create_type(name=name, extra_specs=specs)
