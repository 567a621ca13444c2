"""The cluster's keys and certificates, and the kubeconfigs that name them. Made with openssl for each cluster anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testcluster import settings
from testcluster.commands import Argument, run

DAYS = 365  # a development cluster may stay up for long; tests need minutes


@dataclass(frozen=True, slots=True)
class Authority:
    """A folder of certificates that one certificate authority signed."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, name: str) -> Authority:
        """A new authority in a folder, which is made as well."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        made = cls(folder)
        made.key("ca")
        signed: list[Argument] = ["-key", made.path("ca.key"), "-out", made.path("ca.crt")]
        run(["openssl", "req", "-x509", "-new", "-days", str(DAYS), "-subj", f"/CN={name}", *signed])
        return made

    def path(self, name: str) -> Path:
        """A file of it: `NAME.crt` or `NAME.key`."""
        return self.folder / name

    def key(self, name: str) -> Path:
        """Makes NAME.key: on a curve, as that takes milliseconds."""
        path = self.path(f"{name}.key")
        run(["openssl", "ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", path])
        return path

    def sign(self, name: str, *, common_name: str, group: str = "", alternatives: Sequence[str] = ()) -> None:
        """Makes NAME.key and NAME.crt, good for clients and servers alike.

        Args:
            name: what to call the files.
            common_name: the user, as Kubernetes reads it.
            group: the user's group, as Kubernetes reads it (the certificate's organization).
            alternatives: under which names a server may be reached, as `DNS:localhost` or `IP:127.0.0.1`.
        """
        subject = (f"/O={group}" if group else "") + f"/CN={common_name}"
        extensions = ["extendedKeyUsage=clientAuth,serverAuth"]
        if alternatives:
            extensions.append(f"subjectAltName={','.join(alternatives)}")
        request = run(["openssl", "req", "-new", "-subj", subject, "-key", self.key(name)])
        extension_file = self.path(f"{name}.ext")
        extension_file.write_text("\n".join(extensions) + "\n")
        signer: list[Argument] = ["-CA", self.path("ca.crt"), "-CAkey", self.path("ca.key"), "-CAcreateserial"]
        result: list[Argument] = ["-extfile", extension_file, "-out", self.path(f"{name}.crt")]
        run(["openssl", "x509", "-req", "-days", str(DAYS), *signer, *result], stdin=request)
        extension_file.unlink()

    def write_kubeconfig(self, name: str, path: Path) -> None:
        """Writes how to reach the API server as the one that NAME.crt names. JSON, which is YAML too."""
        cluster = {
            "server": f"https://127.0.0.1:{settings.API_PORT}",
            "certificate-authority": str(self.path("ca.crt")),
        }
        user = {"client-certificate": str(self.path(f"{name}.crt")), "client-key": str(self.path(f"{name}.key"))}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "logstream",
            "clusters": [{"name": "logstream", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "logstream", "context": {"cluster": "logstream", "user": name}}],
        }
        path.write_text(json.dumps(config, indent=1))
        path.chmod(0o600)
