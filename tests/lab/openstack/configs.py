"""The configuration of the services, as data.

What is not obvious:

- nova-compute must not see a database, so its sections are a file of their own (nova-db.conf).
- `catalog_info`: the type of Cinder in the catalogue is its new one, which is not Nova's default.
- `service_user` and `service_token_roles_required`: since the fix of CVE-2023-2088 Cinder detaches a volume
  that Nova uses only with Nova's token.
- Cinder's section `nova`: Cinder asks Nova when an attached volume is extended.
- RabbitMQ and MariaDB have other ports than those that a distribution starts as services.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REGION: Final = "RegionOne"
KEYSTONE, PLACEMENT, GLANCE, CINDER, NOVA, NEUTRON = 5000, 8778, 9292, 8776, 8774, 9696
LOCAL: Final = "127.0.0.1"  # of what only the services use
MARIADB, RABBITMQ, RABBITMQ_NODES, EPMD = 3307, 5673, 25673, 4370
DATABASES: Final = ("keystone", "glance", "placement", "cinder", "nova", "nova_api", "nova_cell0")
APPLICATION_SECRET: Final = "application-secret"  # noqa: S105 - of a cloud that ends with the test
_TOKEN_ROLE: Final = "service"  # noqa: S105 - the name of a role

Sections = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class CloudSite:
    """Where a cloud is.

    Attributes:
        directory: Of all its files.
        environment: The virtual environment of its services.
        address: Of its APIs.
        nodes: The names of its hosts, each with a nova-compute.
        capacity_gb: The size of its storage.
    """

    directory: Path
    environment: Path
    address: str
    nodes: tuple[str, ...]
    capacity_gb: float

    def config(self, name: str) -> str:
        """The path of a configuration file."""
        return str(self.directory / "etc" / f"{name}.conf")

    def url(self, port: int) -> str:
        """The URL of an API."""
        return f"http://{self.address}:{port}"


@dataclass(frozen=True)
class User:
    """A user of the cloud, in a project with a role; its password is NAME-pw."""

    name: str
    project: str
    role: str

    @property
    def password(self) -> str:
        """Its password."""
        return f"{self.name}-pw"


USERS: Final = {
    "admin": User("admin", "admin", "admin"),
    "demo": User("demo", "demo", "member"),
    "other": User("other", "other", "member"),
    "viewer": User("viewer", "demo", "reader"),
    "operator": User("operator", "demo", "admin"),  # starts servers of the project on a host of its choice
}


def clouds(site: CloudSite) -> Mapping[str, object]:
    """The content of clouds.yaml: all users, and demo-app, an application credential of demo."""
    auth_url = f"{site.url(KEYSTONE)}/v3"
    shared = {"region_name": REGION, "identity_api_version": 3}
    domains = {"user_domain_name": "Default", "project_domain_name": "Default"}
    made: dict[str, object] = {
        key: {
            **shared,
            "auth": {
                "auth_url": auth_url,
                "username": user.name,
                "password": user.password,
                "project_name": user.project,
                **domains,
            },
        }
        for key, user in USERS.items()
    }
    made["demo-app"] = {
        **shared,
        "auth_type": "v3applicationcredential",
        "auth": {
            "auth_url": auth_url,
            "username": "demo",
            "user_domain_name": "Default",
            "application_credential_name": "volplug",
            "application_credential_secret": APPLICATION_SECRET,
        },
    }
    return {"clouds": made}


def write(site: CloudSite) -> None:
    """Write all configuration files, and make the directories that they name."""
    for name in ("etc", "log", "volumes", "faults", "guests", "images", "rabbitmq"):
        (site.directory / name).mkdir(exist_ok=True)
    for name in ("nova", "cinder", "glance", "placement", *(f"nova-{node}" for node in site.nodes)):
        (site.directory / name / "locks").mkdir(parents=True, exist_ok=True)
    files = {
        "keystone": _keystone(site),
        "placement": _placement(site),
        "glance": _glance(site),
        "cinder": _cinder(site),
        "nova": _nova(site),
        "nova-db": {"database": _database("nova"), "api_database": _database("nova_api")},
    }
    for node in site.nodes:
        files[f"nova-{node}"] = {"DEFAULT": {"host": node, "state_path": site.directory / f"nova-{node}"}}
    for name, sections in files.items():
        Path(site.config(name)).write_text(_ini(sections))
    (site.directory / "clouds.yaml").write_text(json.dumps(clouds(site), indent=1))
    Path(site.config("rabbitmq")).write_text(f"listeners.tcp.1 = {LOCAL}:{RABBITMQ}\n")
    (site.directory / "etc" / "rabbitmq-plugins").write_text("[].\n")


def database_url(name: str) -> str:
    """The URL of a database."""
    return f"mysql+pymysql://os:os@{LOCAL}:{MARIADB}/{name}?charset=utf8"


def _ini(sections: Sections) -> str:
    lines = []
    for section, options in sections.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in options.items())]
    return "".join(f"{line}\n" for line in lines)


def _database(name: str) -> Mapping[str, object]:
    return {"connection": database_url(name), "max_pool_size": 5}


def _login(site: CloudSite, service: str) -> Mapping[str, object]:
    return {
        "auth_type": "password",
        "auth_url": f"{site.url(KEYSTONE)}/v3",
        "username": service,
        "password": f"{service}-pw",
        "user_domain_name": "Default",
        "project_name": "service",
        "project_domain_name": "Default",
        "region_name": REGION,
    }


def _tokens(site: CloudSite, service: str) -> Mapping[str, object]:
    return {
        "www_authenticate_uri": site.url(KEYSTONE),
        "service_token_roles": _TOKEN_ROLE,
        "service_token_roles_required": True,
        **_login(site, service),
    }


def _common(site: CloudSite, service: str, **options: object) -> Sections:
    directory = site.directory / service
    return {
        "DEFAULT": {
            "state_path": directory,
            "transport_url": f"rabbit://guest:guest@{LOCAL}:{RABBITMQ}/",
            **options,
        },
        "keystone_authtoken": _tokens(site, service),
        "service_user": {"send_service_user_token": True, **_login(site, service)},
        "oslo_concurrency": {"lock_path": directory / "locks"},
        "oslo_messaging_rabbit": {"heartbeat_in_pthread": False},
    }


def _keystone(site: CloudSite) -> Sections:
    keys = site.directory / "keystone"
    return {
        "database": _database("keystone"),
        "fernet_tokens": {"key_repository": keys / "fernet"},
        "credential": {"key_repository": keys / "credential"},
        "identity": {"password_hash_rounds": 4},  # so that a log-in takes little time
        "cache": {"enabled": True, "backend": "dogpile.cache.memory"},
    }


def _placement(site: CloudSite) -> Sections:
    return {
        "placement_database": _database("placement"),
        "api": {"auth_strategy": "keystone"},
        "keystone_authtoken": _tokens(site, "placement"),
    }


def _glance(site: CloudSite) -> Sections:
    staging = site.directory / "glance"
    return {
        **_common(site, "glance", bind_host=site.address, workers=0, enabled_backends="files:file"),
        "database": _database("glance"),
        "glance_store": {"default_backend": "files"},
        "files": {"filesystem_store_datadir": site.directory / "images"},
        "os_glance_staging_store": {"filesystem_store_datadir": staging / "staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": staging / "tasks"},
        "paste_deploy": {
            "flavor": "keystone",
            "config_file": site.environment / "etc/glance/glance-api-paste.ini",
        },
    }


def _cinder(site: CloudSite) -> Sections:
    installed = site.environment / "etc/cinder"
    return {
        **_common(
            site,
            "cinder",
            host="storage",
            my_ip=site.address,
            osapi_volume_listen=site.address,
            osapi_volume_workers=1,
            api_paste_config=installed / "api-paste.ini",
            resource_query_filters_file=installed / "resource_filters.json",
            auth_strategy="keystone",
            glance_api_servers=site.url(GLANCE),
            enabled_backends="files",
            default_volume_type="files",
            backend_stats_polling_interval=5,
            default_log_levels="amqp=WARN,oslo.messaging=INFO,cinder.scheduler.host_manager=DEBUG",
            image_conversion_dir=site.directory / "cinder/conversion",
        ),
        "database": _database("cinder"),
        "coordination": {"backend_url": f"file://{site.directory}/cinder/coordination"},
        "files": {
            "volume_driver": "tests.lab.openstack.services.volume_files.VolumeFileDriver",
            "volume_backend_name": "files",
            "volumes": site.directory / "volumes",
            "faults": site.directory / "faults",
            "capacity_gb": site.capacity_gb,
        },
        "nova": {
            "interface": "internal",
            "token_auth_url": f"{site.url(KEYSTONE)}/v3",
            **_login(site, "cinder"),
        },
    }


def _nova(site: CloudSite) -> Sections:
    login = _login(site, "nova")
    return {
        **_common(
            site,
            "nova",
            my_ip=site.address,
            osapi_compute_listen=site.address,
            osapi_compute_workers=1,
            enabled_apis="osapi_compute",
            compute_driver="loop_guests.LoopGuestDriver",
            instances_path=site.directory / "nova/instances",
            resume_guests_state_on_host_boot=True,
            default_log_levels="amqp=WARN,oslo.messaging=INFO,urllib3=WARN,stevedore=WARN,nova.service=DEBUG",
        ),
        "wsgi": {"api_paste_config": site.environment / "etc/nova/api-paste.ini"},
        "api": {"auth_strategy": "keystone"},
        "conductor": {"workers": 1},
        "scheduler": {"workers": 1},
        "vnc": {"enabled": False},
        "glance": {"endpoint_override": site.url(GLANCE), **login},
        "cinder": {
            "catalog_info": "block-storage:cinder:internalURL",
            "os_region_name": REGION,
            **login,
        },
        "neutron": {"endpoint_override": site.url(NEUTRON), **login},
        "placement": login,
        "lab": {"guests": site.directory / "guests", "faults": site.directory / "faults"},
    }
