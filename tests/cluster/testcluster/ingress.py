"""ingress-nginx: the controller's image, with Debian's NGINX under it, and its deployment with the admission webhook.

The deployment is the controller's own for a cluster of one node, with what differs here written over it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testcluster import images, rootfs, settings
from testcluster.binaries import Binaries
from testcluster.certificates import Authority
from testcluster.commands import say
from testcluster.kubectl import Kubectl

IMAGE = "localhost/ingress-nginx:1"
NAMESPACE = "ingress-nginx"
SELECTOR = "app.kubernetes.io/component=controller"
ADMISSION = "ingress-nginx-controller-admission"
CONTEXT = settings.FOLDER / "ingress"
NGINX_USER = 33  # Debian's www-data
MODULES = ("ndk_http_module", "ngx_http_lua_module", "ngx_http_headers_more_filter_module", "ngx_stream_module")

# The controller waits until something listens on this port. Balancing TCP there takes a Lua module that Debian lacks.
STREAM = """\
stream {
    server {
        listen 127.0.0.1:{{ .StreamPort }};
        return "";
    }
}
"""


def import_image(cache: settings.Cache, binaries: Binaries) -> None:
    """Makes the controller's image known to the cluster; builds it where the cache has none."""
    root = rootfs.ensure(cache, "nginx", rootfs.NGINX)
    module = binaries.modules["ingress-nginx"]
    archive = cache.images / f"{module.parent.name}-{_context_key(root)}-image.tar"
    if not archive.exists():
        say("building the ingress controller's image")
        with images.scratch() as folder:
            shutil.copytree(CONTEXT, folder, dirs_exist_ok=True)
            shutil.copytree(module / "rootfs" / "etc" / "nginx", folder / "nginx")
            template = folder / "nginx" / "template" / "nginx.tmpl"
            template.chmod(0o644)  # files of Go's module cache may be read-only
            template.write_text(with_plain_stream(template.read_text()))
            shutil.copy(root, folder / "rootfs.tar")
            shutil.copy(binaries["nginx-ingress-controller"], folder)
            images.build(IMAGE, folder / "Dockerfile", folder)
            images.save(IMAGE, archive)
    images.import_archive(archive)


def deploy(kubectl: Kubectl, binaries: Binaries, authority: Authority, address: str) -> None:
    """Applies the deployment. The controller takes ports 80 and 443 of the machine."""
    name = f"{ADMISSION}.{NAMESPACE}.svc"
    authority.sign("ingress-admission", common_name=name, alternatives=[f"DNS:{name}"])
    file = binaries.modules["ingress-nginx"] / "deploy" / "static" / "provider" / "kind" / "deploy.yaml"
    found = [manifest for manifest in kubectl.read(file) if _is_wanted(manifest)]
    kubectl.apply(*(_adapted(manifest, authority, address) for manifest in found), _certificate(authority))


def with_plain_stream(template: str) -> str:
    """The controller's configuration template with its stream block replaced by STREAM."""
    changed, count = re.subn(r"^stream \{\n.*?^\}\n", lambda _: STREAM, template, flags=re.MULTILINE | re.DOTALL)
    if count != 1:
        raise ValueError(f"the NGINX template has {count} stream blocks where one was expected")
    return changed


def _context_key(root: Path) -> str:
    """What the image is made from, besides the controller."""
    digest = hashlib.sha256(f"{root.name} {root.stat().st_mtime_ns} {STREAM}".encode())
    for path in sorted(path for path in CONTEXT.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(CONTEXT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _is_wanted(manifest: Mapping[str, Any]) -> bool:
    """All but the jobs that make the webhook's certificate, which we make, and what they need."""
    component: object = manifest["metadata"].get("labels", {}).get("app.kubernetes.io/component")
    return component != "admission-webhook" or str(manifest["kind"]) == "ValidatingWebhookConfiguration"


def _adapted(manifest: dict[str, Any], authority: Authority, address: str) -> dict[str, Any]:
    match manifest["kind"]:
        case "ConfigMap":
            manifest["data"] |= {
                "use-http2": "false",  # a directive of its own only since NGINX 1.25
                "main-snippet": "".join(f"load_module /usr/lib/nginx/modules/{name}.so;\n" for name in MODULES),
            }
        case "ValidatingWebhookConfiguration":
            for webhook in manifest["webhooks"]:
                webhook["clientConfig"]["caBundle"] = _encoded(authority.path("ca.crt"))
        case "Deployment":
            _adapt_pod(manifest["spec"]["template"]["spec"], address)
    return manifest


def _adapt_pod(pod: dict[str, Any], address: str) -> None:
    (container,) = pod["containers"]
    command, *arguments = container["args"]
    container["image"] = IMAGE
    container["imagePullPolicy"] = "Never"
    container["command"] = [command]
    container["args"] = [
        *(each for each in arguments if not each.startswith("--publish-status-address=")),
        f"--publish-status-address={address}",
    ]
    container["env"] = [each for each in container["env"] if each["name"] != "LD_PRELOAD"]
    container["securityContext"]["runAsUser"] = NGINX_USER
    container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}
    del container["lifecycle"]


def _certificate(authority: Authority) -> Mapping[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "ingress-nginx-admission", "namespace": NAMESPACE},
        "data": {
            "cert": _encoded(authority.path("ingress-admission.crt")),
            "key": _encoded(authority.path("ingress-admission.key")),
        },
    }


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
