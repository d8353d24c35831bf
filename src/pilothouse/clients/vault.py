"""Vault (or OpenBao) over hvac, behind an allow-list.

hvac and urllib3 collapse `..` in a path before it is sent, so a user called `../../token/create` would reach another
part of the API: every name is checked here before it becomes a part of a path. Nothing comes from the environment: no
ambient token, no proxy, no address, no netrc. Redirects are not followed. Each request is a session of its own with
the token it was given, so that no two engineers ever share one; what they share is connections, which know no token.

https://developer.hashicorp.com/vault/api-docs
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pilothouse.clients.calls import ONCE, Retry, measured
from pilothouse.clients.vault_names import ROLE, USER, address, checked_path, mount_path, name
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable

if TYPE_CHECKING:
    import requests
    from requests.adapters import HTTPAdapter

Value = TypeVar("Value")

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
KEPT_CONNECTIONS = 32
MAX_ANSWER = 8 * 1024 * 1024
_READS = Retry(attempts=2, first=0.2, longest=0.5, budget=1.0)


@dataclass(frozen=True, slots=True)
class VaultToken:
    """What a login gives. `seconds` is how long it lives, 0 for ever; it is a secret and shows in no text."""

    token: str = field(repr=False)
    accessor: str
    entity: str
    seconds: int
    renewable: bool
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """`standby` answers by way of the active server, or not at all; `sealed` answers nothing."""

    initialized: bool
    sealed: bool
    standby: bool
    version: str


class VaultClient:
    """One Vault. Safe to share between threads.

    `token` is used where a call names none; it is only set for what sets Vault up. Raises `Invalid` for an address
    that would carry tokens unencrypted.
    """

    def __init__(
        self, endpoint: Endpoint, token: str = "", connect: float = CONNECT_SECONDS, read: float = READ_SECONDS
    ) -> None:
        self.url = address(endpoint.url)
        self._ca_file = endpoint.ca_file
        self._token = token
        self._timeout = (connect, read)
        self._connections: HTTPAdapter | None = None

    def __repr__(self) -> str:
        return f"VaultClient({self.url})"

    # ------------------------------------------------------------ how it is

    def health(self) -> Health:
        """Whatever state it is in; `Unavailable` only where nothing answers."""

        def ask() -> Health:
            # The server's own statuses for standby and sealed would be failures: https://developer.hashicorp.com/vault/api-docs/system/health
            query = "standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200"
            body = self._json(self._send("GET", f"sys/health?{query}", ""))
            return Health(
                bool(body.get("initialized")),
                bool(body.get("sealed")),
                bool(body.get("standby")),
                str(body.get("version", "")),
            )

        return self._call("health", ask, repeat=True)

    # ------------------------------------------------------------ tokens

    def login_ldap(self, mount: str, user: str, password: str) -> VaultToken:
        """Log in at an LDAP auth mount. `Denied` for a wrong name or password.

        An empty password is refused here: many directories take it for an anonymous bind, which succeeds
        (https://www.rfc-editor.org/rfc/rfc4513#section-5.1.2).
        """
        name(USER, user, "user name")
        if not password:
            raise Denied("the password is empty", "type your password")
        path = f"auth/{mount_path(mount)}/login/{user}"
        return self._call("login", lambda: self._login(path, {"password": password}, user))

    def login_kubernetes(self, mount: str, role: str, jwt: str) -> VaultToken:
        """Log in with the token of a ServiceAccount."""
        path = f"auth/{mount_path(mount)}/login"
        body = {"role": name(ROLE, role, "role"), "jwt": jwt}
        return self._call("login", lambda: self._login(path, body, role))

    def login_approle(self, mount: str, role_id: str, secret_id: str) -> VaultToken:
        """Log in as a program. `Denied` where Vault does not take the two."""
        path = f"auth/{mount_path(mount)}/login"
        body = {"role_id": role_id, "secret_id": secret_id}
        return self._call("login", lambda: self._login(path, body, "what is called by that role id"))

    def entity(self, token: str) -> str:
        """The id of the entity whose token it is, "" for one of nobody's. `Denied` where the token has ended."""
        path = "auth/token/lookup-self"

        def ask() -> str:
            data = self._json(self._checked(self._send("GET", path, token), "GET", path)).get("data")
            return str(data.get("entity_id") or "") if isinstance(data, dict) else ""

        return self._call("lookup", ask, repeat=True)

    def _login(self, path: str, body: Mapping[str, str], who: str) -> VaultToken:
        response = self._send("POST", path, "", body)
        if response.status_code in (400, 403):
            # What Vault says may quote the directory; who asks learns the same in every case.
            raise Denied(f"Vault at {self.url} did not accept {who}", "see whether name and password are right")
        return self._token_of(self._checked(response, "POST", path))

    def renew(self, token: str) -> VaultToken:
        """The same token with its life begun anew; `Denied` where it has ended or rights have changed."""
        path = "auth/token/renew-self"
        return self._call(
            "renew", lambda: self._token_of(self._checked(self._send("POST", path, token, {}), "POST", path))
        )

    def revoke(self, token: str) -> None:
        """End a token."""
        path = "auth/token/revoke-self"
        self._call("revoke", lambda: self._checked(self._send("POST", path, token, {}), "POST", path))

    def _token_of(self, response: requests.Response) -> VaultToken:
        auth = self._json(response).get("auth") or {}
        if not isinstance(auth, Mapping) or not auth.get("client_token"):
            raise Unavailable(f"Vault at {self.url} answered a login without a token")
        return VaultToken(
            token=str(auth["client_token"]),
            accessor=str(auth.get("accessor", "")),
            entity=str(auth.get("entity_id", "")),
            seconds=int(auth.get("lease_duration", 0)),
            renewable=bool(auth.get("renewable")),
            policies=tuple(sorted({*(auth.get("policies") or ()), *(auth.get("identity_policies") or ())})),
        )

    # ------------------------------------------------------------ the authority

    def authority(self, mount: str) -> str:
        """The PKI mount's own certificate in PEM, "" where it has none. Needs no token."""
        return self._pem(f"{mount_path(mount)}/ca/pem")

    def issuers(self, mount: str) -> dict[str, str]:
        """Id → name ("" for none) of every authority of the PKI mount. Needs no token."""
        path = f"{mount_path(mount)}/issuers"

        def ask() -> dict[str, str]:
            response = self._send("LIST", path, "")
            if response.status_code == 404:
                return {}
            data = self._json(self._checked(response, "LIST", path)).get("data") or {}
            info = data.get("key_info") or {}
            return {str(id): str((info.get(id) or {}).get("issuer_name") or "") for id in data.get("keys") or ()}

        return self._call("issuers", ask, repeat=True)

    def issuer(self, mount: str, id: str) -> str:
        """The certificate of one of them in PEM. Needs no token."""
        return self._pem(f"{mount_path(mount)}/issuer/{name(ROLE, id, 'issuer')}/pem")

    def _pem(self, path: str) -> str:
        def ask() -> str:
            response = self._send("GET", path, "")
            if response.status_code in (204, 404):
                return ""
            text = _text(self._checked(response, "GET", path)).strip()
            if not (text.startswith("-----BEGIN CERTIFICATE-----") and text.endswith("-----END CERTIFICATE-----")):
                raise Unavailable(f"the answer of Vault at {self.url} is not whole, or no certificate")
            return text

        return self._call("authority", ask, repeat=True)

    def sign(self, token: str, mount: str, role: str, csr: str, common_name: str, seconds: int) -> str:
        """The leaf in PEM, signed under that role with the engineer's own token. Never repeated.

        `Denied` where the token may not, `Invalid` where the role refuses name or key.
        """
        path = f"{mount_path(mount)}/sign/{name(ROLE, role, 'role')}"
        name(USER, common_name, "user name")
        body = {
            "csr": csr,
            "common_name": common_name,
            "ttl": f"{seconds}s",
            # Else the CN becomes an alternative name too. As text: a policy's `allowed_parameters` compares it with
            # its own list's text.
            "exclude_cn_from_sans": "true",
        }

        def ask() -> str:
            response = self._checked(self._send("POST", path, token, body), "POST", path)
            certificate = (self._json(response).get("data") or {}).get("certificate")
            if not isinstance(certificate, str) or not certificate:
                raise Unavailable(f"Vault at {self.url} answered without a certificate")
            return certificate

        return self._call("sign", ask)

    # ------------------------------------------------------------ what set-up reads and writes

    def read(self, path: str) -> dict[str, Any] | None:
        """The `data` of a path, None where nothing is there."""

        def ask() -> dict[str, Any] | None:
            response = self._send("GET", checked_path(path), self._token)
            if response.status_code == 404:
                return None
            body = self._json(self._checked(response, "GET", path))
            data = body.get("data", body)
            return data if isinstance(data, dict) else {}

        return self._call("read", ask, repeat=True)

    def list(self, path: str) -> tuple[str, ...]:
        """The names below a path, sorted; empty where nothing is there."""

        def ask() -> tuple[str, ...]:
            response = self._send("LIST", checked_path(path), self._token)
            if response.status_code == 404:
                return ()
            found = (self._json(self._checked(response, "LIST", path)).get("data") or {}).get("keys") or ()
            return tuple(sorted(str(item) for item in found))

        return self._call("list", ask, repeat=True)

    def write(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write a path; the `data` of the answer, empty where there is none."""

        def ask() -> dict[str, Any]:
            response = self._checked(self._send("POST", checked_path(path), self._token, body), "POST", path)
            data = self._json(response).get("data")
            return data if isinstance(data, dict) else {}

        return self._call("write", ask)

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change some fields of a path and leave the others, unseen (a JSON merge patch, such as
        https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#patch-secret); the `data` of the answer.

        `Conflict` where the version that was given with `cas` is not the current one.
        """

        def ask() -> dict[str, Any]:
            kind = "application/merge-patch+json"
            response = self._send("PATCH", checked_path(path), self._token, body, kind)
            if response.status_code == 400 and "check-and-set" in _said(response):
                raise Conflict(
                    f"somebody else has changed {path} in the meantime", "look at what is there now, and do it again"
                )
            data = self._json(self._checked(response, "PATCH", path)).get("data")
            return data if isinstance(data, dict) else {}

        return self._call("patch", ask)

    def delete(self, path: str) -> None:
        self._call(
            "delete", lambda: self._checked(self._send("DELETE", checked_path(path), self._token), "DELETE", path)
        )

    # ------------------------------------------------------------ one request

    def _call(self, operation: str, ask: Callable[[], Value], repeat: bool = False) -> Value:
        with measured("vault", operation):
            return (_READS if repeat else ONCE).run(ask, "vault", operation)

    def _send(
        self, method: str, path: str, token: str, body: Mapping[str, Any] | None = None, kind: str = "application/json"
    ) -> requests.Response:
        import requests
        from hvac.adapters import RawAdapter

        with requests.Session() as session:
            session.trust_env = False
            session.verify = self._ca_file or True
            session.mount(self.url, self._shared())
            adapter = RawAdapter(
                base_uri=self.url,
                token=token,
                session=session,
                timeout=self._timeout,
                allow_redirects=False,
                ignore_exceptions=True,
            )
            try:
                response: requests.Response = adapter.request(
                    method,
                    f"/v1/{path}",
                    stream=True,
                    **({} if body is None else {"json": dict(body), "headers": {"Content-Type": kind}}),
                )
                # Read here, within the time-outs and a limit.
                content = response.raw.read(MAX_ANSWER + 1, decode_content=True)
                if len(content) > MAX_ANSWER:
                    response.raw.close()  # the rest of it would be the next one's answer
                response.raw.release_conn()
            except (requests.exceptions.SSLError, OSError) as failure:
                raise self._away(failure) from failure
            except Exception as failure:
                if type(failure).__module__.startswith("urllib3"):
                    raise self._away(failure) from failure
                raise
            if len(content) > MAX_ANSWER:
                raise Unavailable(f"Vault at {self.url} answered with more than {MAX_ANSWER >> 20} MiB")
            response._content = content
            return response

    def _shared(self) -> HTTPAdapter:
        """The connections that wait for another request. They outlive the session of one, which has the token."""
        if self._connections is None:
            from requests.adapters import HTTPAdapter

            class Shared(HTTPAdapter):
                def close(self) -> None:
                    """That a session ends closes nothing."""

            self._connections = Shared(pool_maxsize=KEPT_CONNECTIONS)
        return self._connections

    def _away(self, failure: Exception) -> Unavailable:
        import requests

        if isinstance(failure, requests.exceptions.SSLError) or "certificate" in str(failure).lower():
            ca = self._ca_file
            hint = (
                f"is {ca} the authority that signed its certificate?" if ca else "declare the `caFile` that signed it"
            )
            return Unavailable(
                f"the certificate of Vault at {self.url} is not trusted, or its CA file not readable", hint
            )
        if isinstance(failure, requests.exceptions.Timeout) or "timed out" in str(failure).lower():
            return Unavailable(f"Vault at {self.url} does not answer in time", "is it up, or overloaded?")
        return Unavailable(
            f"Vault at {self.url} does not answer", "is it up, and the address in the Cluster document right?"
        )

    def _checked(self, response: requests.Response, method: str, path: str) -> requests.Response:
        if response.status_code >= 300:
            raise self._refusal(response, method, path)
        return response

    def _refusal(self, response: requests.Response, method: str, path: str) -> PilothouseError:
        """The exception of a status (https://developer.hashicorp.com/vault/api-docs#http-status-codes)."""
        status, said = response.status_code, _said(response)
        text = f"Vault at {self.url} answered {status} to {method} {path}" + (f": {said}" if said else "")
        if status in (401, 403):
            return Denied(text, "the token has ended, or may not do this: run `pilothouse access login` again")
        if status == 412:
            return Conflict(text, "read it again: somebody else changed it")
        if status in (429, 472, 473):
            return Unavailable(text, "it is a standby or overloaded; nothing was signed elsewhere instead")
        if status >= 500:
            sealed = "sealed" in said.lower()
            reason = "is sealed" if sealed else f"failed with status {status}{f': {said}' if said else ''}"
            hint = "somebody has to unseal it" if sealed else "see its log"
            return Unavailable(
                f"Vault at {self.url} {reason}", f"{hint}; pilothouse never falls back to another authority"
            )
        if status < 400:
            return Invalid(text, "redirects are not followed: declare the address that it redirects to")
        return Invalid(text, "see what it says, and whether its version is a supported one")

    def _json(self, response: requests.Response) -> dict[str, Any]:
        if response.status_code == 204:
            return {}
        text = _text(response)
        try:
            body = json.loads(text)
        except ValueError as failure:
            # Also what broke off: an answer without an end must not be taken for one that says that nothing is there.
            raise Unavailable(f"the answer of Vault at {self.url} is not whole, or no JSON") from failure
        if not isinstance(body, dict):
            raise Unavailable(f"the answer of Vault at {self.url} cannot be read")
        return body


def _text(response: requests.Response) -> str:
    return bytes(response.content).decode("utf-8", "replace")


def _said(response: requests.Response) -> str:
    """Vault's own words, on one line and short."""
    try:
        errors = json.loads(_text(response)).get("errors") or ()
    except (ValueError, AttributeError):
        return ""
    return "; ".join(" ".join(str(item).split()) for item in errors)[:300]
