"""A stand-in for Vault with its directory, over HTTP on loopback: the part of its API that pilothouse uses, and its
traps.

The same tests run on it and on the real server (`tests/clients/test_vault_contract.py`); where they disagree, this is
wrong.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from support.vault_fake_kv import KeyValue
from support.vault_fake_pki import Pki, Refused, seconds

from pilothouse.platform.model import Endpoint

LDAP_DEFAULTS = {"username_as_alias": False, "deny_null_bind": True, "insecure_tls": False, "url": "ldap://127.0.0.1"}
ROLE_DEFAULTS = {"token_policies": [], "token_ttl": 0, "token_max_ttl": 0, "token_no_default_policy": False}


@dataclass
class Directory:
    """People with passwords and groups; a login in another case or with blanks is that person's, as slapd has it."""

    people: dict[str, str] = field(default_factory=dict)
    groups: dict[str, set[str]] = field(default_factory=dict)
    up: bool = True

    def bind(self, name: str, password: str) -> str:
        """The person's name as the directory has it, or ""."""
        found = next((uid for uid in self.people if uid.lower() == name.strip().lower()), "")
        return found if found and secrets.compare_digest(self.people[found], password) else ""

    def of(self, uid: str) -> set[str]:
        return {name for name, members in self.groups.items() if uid in members}


@dataclass
class Token:
    policies: list[str]
    alias: dict[str, str] = field(default_factory=dict)
    entity: str = ""
    groups: set[str] = field(default_factory=set)
    """Ids of identity groups, as of the login."""
    accessor: str = field(default_factory=lambda: secrets.token_hex(8))
    seconds: int = 3600
    user: str = ""


@dataclass
class State:
    directory: Directory = field(default_factory=Directory)
    root_token: str = field(default_factory=lambda: f"root-{secrets.token_hex(8)}")
    sealed: bool = False
    status: int = 0
    """Answer everything with that status."""
    mounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    auths: dict[str, dict[str, Any]] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=lambda: {"default": "", "root": ""})
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    pki: dict[str, Pki] = field(default_factory=dict)
    kv: dict[str, KeyValue] = field(default_factory=dict)
    accounts: dict[str, dict[str, str]] = field(default_factory=dict)
    """Tokens of ServiceAccounts that a TokenReview would accept: `namespace`, `name`, `uid`, `audience`."""
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Plain documents by path: configurations, roles and mappings of auth mounts."""
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Identity groups by id."""
    tokens: dict[str, Token] = field(default_factory=dict)
    entities: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)


class Missing(Exception):
    """A 404."""


class Forbidden(Exception):
    """A 403."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeVault
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: Any) -> None:
        return None

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path).removeprefix("/v1/")
        status, body = self.server.answer(
            self.command, path, self.headers.get("X-Vault-Token", ""), json.loads(raw) if raw else {}
        )
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_LIST = _serve  # noqa: N815  # the names that http.server looks for


class FakeVault(ThreadingHTTPServer):
    """`answer` is the whole of it; state may be changed by a test at any time."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = State()
        self.lock = threading.RLock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, path: str, token: str, body: dict[str, Any]) -> tuple[int, Any]:
        with self.lock:
            self.state.requests.append((method, path))
            try:
                return self._answer(method, path, token, body)
            except Forbidden:
                return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
            except Missing:
                return 404, {"errors": []}
            except Refused as failure:
                return 400, {"errors": [str(failure)]}

    def _answer(self, method: str, path: str, token: str, body: dict[str, Any]) -> tuple[int, Any]:
        state = self.state
        if path == "sys/health":
            return 200, {"initialized": True, "sealed": state.sealed, "standby": False, "version": "1.21.2"}
        if state.status:
            return state.status, {"errors": ["told to"]}
        if state.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        mount = next((m for m in state.pki if path.startswith(f"{m}/")), "")
        if mount and path == f"{mount}/ca/pem":
            pem = state.pki[mount].pem()
            return (200, pem) if pem else (204, None)
        if mount and method == "LIST" and path == f"{mount}/issuers":  # of which a stand-in has one
            ids = ["only"] if state.pki[mount].pem() else []
            return 200, {"data": {"keys": ids, "key_info": {id: {"issuer_name": "pilothouse"} for id in ids}}}
        login = re.fullmatch(r"auth/(.+?)/login(?:/(.+))?", path)
        if login and method == "POST":
            return self._login(login[1], login[2] or "", body)
        if token != state.root_token:
            held = state.tokens.get(token)
            if held is None:
                raise Forbidden
            self._allow(held, method, path, body)
        if path.startswith("auth/token/"):
            return self._token(path, token)
        if path == "sys/capabilities-self":
            return 200, {"data": {item: self._capabilities(token, item) for item in body["paths"]}}
        if mount:
            return self._pki(mount, method, path.removeprefix(f"{mount}/"), token, body)
        key_value = next((m for m in state.kv if path.startswith(f"{m}/")), "")
        if key_value:
            return state.kv[key_value].answer(method, path.removeprefix(f"{key_value}/"), body)
        if path.startswith("identity/"):
            return self._identity(method, path, body)
        if path.startswith("sys/"):
            return self._sys(method, path, body)
        return self._document(method, path, body)

    # ------------------------------------------------------------ tokens

    def _login(self, mount: str, user: str, body: dict[str, Any]) -> tuple[int, Any]:
        state = self.state
        found = state.auths.get(f"{mount}/")
        if found is not None and found["type"] == "kubernetes" and not user:
            return self._login_kubernetes(mount, found["accessor"], body)
        if found is None or found["type"] != "ldap":
            raise Forbidden
        if not state.directory.up:
            return 500, {"errors": ["ldap.(Client).Authenticate: failed to connect"]}
        name = state.directory.bind(user, str(body.get("password", "")))
        if not name:
            raise Refused("ldap operation failed: failed to bind as user")
        alias = user if state.data.get(f"auth/{mount}/config", {}).get("username_as_alias") else name
        groups = state.directory.of(name)
        policies = {"default"}
        for group in groups:
            policies |= set(state.data.get(f"auth/{mount}/groups/{group.lower()}", {}).get("policies") or ())
        accessor = found["accessor"]
        entity = state.entities.setdefault(f"{accessor}/{alias}", secrets.token_hex(8))
        ids = {
            id
            for id, item in state.groups.items()
            if item.get("alias", {}).get("mount_accessor") == accessor and item["alias"]["name"] in groups
        }
        while more := {i for i, item in state.groups.items() if ids & set(item.get("member_group_ids") or ())} - ids:
            ids |= more
        text = f"hvs.{secrets.token_hex(12)}"
        state.tokens[text] = Token(sorted(policies), {accessor: alias}, entity, ids, user=name)
        return 200, {"auth": self._auth(text)}

    def _login_kubernetes(self, mount: str, accessor: str, body: dict[str, Any]) -> tuple[int, Any]:
        """In the order of the plugin: the role, then what the token claims, then what the API server says of it."""
        state = self.state
        role = state.data.get(f"auth/{mount}/role/{body.get('role')}")
        if role is None:
            raise Refused(f'invalid role name "{body.get("role")}"')
        account = state.accounts.get(str(body.get("jwt")))
        if account is None:
            raise Forbidden
        if account["audience"] != role["audience"]:
            return 403, {
                "errors": ["invalid audience (aud) claim: audience claim does not match any expected audience"]
            }
        if account["namespace"] not in role["bound_service_account_namespaces"]:
            return 403, {"errors": ["namespace not authorized"]}
        if account["name"] not in role["bound_service_account_names"]:
            return 403, {"errors": ["service account name not authorized"]}
        alias = account["uid"]
        entity = state.entities.setdefault(f"{accessor}/{alias}", secrets.token_hex(8))
        policies = [*role["token_policies"], *([] if role["token_no_default_policy"] else ["default"])]
        text = f"hvs.{secrets.token_hex(12)}"
        state.tokens[text] = Token(policies, {accessor: alias}, entity, seconds=role["token_ttl"] or 3600)
        return 200, {"auth": self._auth(text)}

    def _auth(self, text: str) -> dict[str, Any]:
        token = self.state.tokens[text]
        return {
            "client_token": text,
            "accessor": token.accessor,
            "entity_id": token.entity,
            "lease_duration": token.seconds,
            "renewable": True,
            "policies": token.policies,
            "metadata": {},
        }

    def _token(self, path: str, token: str) -> tuple[int, Any]:
        match path.removeprefix("auth/token/"):
            case "lookup-self":
                held = self.state.tokens.get(token)
                policies = held.policies if held else ["root"]
                return 200, {"data": {"policies": policies, "meta": {"username": held.user} if held else None}}
            case "renew-self":
                return 200, {"auth": self._auth(token)}
            case "revoke-self":
                self.state.tokens.pop(token, None)
                return 204, None
        raise Missing

    def _allow(self, token: Token, method: str, path: str, body: dict[str, Any]) -> None:
        own = (
            "auth/token/renew-self",
            "auth/token/revoke-self",
            "auth/token/lookup-self",
            "sys/capabilities-self",
        )
        if path in own and "default" in token.policies:
            return  # what that policy gives
        wanted = {"GET": "read", "LIST": "list", "DELETE": "delete", "PATCH": "patch"}.get(method, "update")
        rules = [
            rule
            for name in token.policies
            for pattern, rule in json.loads(self.state.policies.get(name) or "{}").get("path", {}).items()
            if self._matches(pattern, path, token)
        ]
        if any("deny" in rule["capabilities"] for rule in rules):
            raise Forbidden
        for rule in rules:
            if wanted in rule["capabilities"] and self._parameters(rule, body):
                return
        raise Forbidden

    def _capabilities(self, token: str, path: str) -> list[str]:
        held = self.state.tokens.get(token)
        if held is None:
            return ["root"]
        found = {
            item
            for name in held.policies
            for pattern, rule in json.loads(self.state.policies.get(name) or "{}").get("path", {}).items()
            if self._matches(pattern, path, held)
            for item in rule["capabilities"]
        }
        return ["deny"] if not found or "deny" in found else sorted(found)

    def _matches(self, pattern: str, path: str, token: Token) -> bool:
        def fill(found: re.Match[str]) -> str:
            for id in token.groups:
                group = self.state.groups.get(id)
                if group and group["name"] == found[1]:
                    return str((group.get("metadata") or {}).get(found[2], "\0"))
            return "\0"

        filled = re.sub(r"\{\{identity\.groups\.names\.([^.}]+)\.metadata\.([^.}]+)\}\}", fill, pattern)
        if "\0" in filled:
            return False  # a template that does not hold for the caller takes its rule away
        return path.startswith(filled[:-1]) if filled.endswith("*") else path == filled

    @staticmethod
    def _parameters(rule: dict[str, Any], body: dict[str, Any]) -> bool:
        """Values are compared with their type: `true` is not `"true"`. A text without anything passes by a list."""
        if set(rule.get("required_parameters") or ()) - set(body):
            return False
        denied: dict[str, list[Any]] = rule.get("denied_parameters") or {}
        if any(value in denied.get(name, ()) for name, value in body.items()):
            return False
        allowed: dict[str, list[Any]] | None = rule.get("allowed_parameters")
        if allowed is None:
            return True
        return all(
            name in allowed
            and (not allowed[name] or value == "" or any(type(v) is type(value) and v == value for v in allowed[name]))
            for name, value in body.items()
        )

    # ------------------------------------------------------------ engines

    def _pki(self, mount: str, method: str, path: str, token: str, body: dict[str, Any]) -> tuple[int, Any]:
        pki = self.state.pki[mount]
        held = self.state.tokens.get(token)
        alias = held.alias if held else {}
        kind, _, name = path.partition("/")
        if method == "LIST" and path == "roles":
            return self._keys(pki.roles)
        match kind, method:
            case "root", "POST" if name == "generate/internal":
                pki.generate_root(body)
                return 200, {"data": {"certificate": pki.pem()}}
            case "roles", "GET" if name in pki.roles:
                return 200, {"data": pki.roles[name]}
            case "roles", "POST":
                pki.write_role(name, body)
                return 200, {"data": pki.roles[name]}
            case "roles", "DELETE":
                pki.roles.pop(name, None)
                return 204, None
            case "sign", "POST":
                if name not in pki.roles:
                    raise Refused(f"unknown role: {name}")
                return 200, {"data": pki.sign(pki.roles[name], body, alias)}
        raise Missing

    def _identity(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        groups = self.state.groups
        if path == "identity/lookup/group":
            for item in groups.values():
                alias = item.get("alias") or {}
                wanted = (body.get("alias_name"), body.get("alias_mount_accessor"))
                if (alias.get("name"), alias.get("mount_accessor")) == wanted:
                    return 200, {"data": item}
            return 204, None
        if path == "identity/group-alias":
            groups[body["canonical_id"]]["alias"] = {k: body[k] for k in ("name", "mount_accessor")}
            return 200, {"data": {"canonical_id": body["canonical_id"]}}
        if path == "identity/group/name" and method == "LIST":
            return self._keys({item["name"]: item for item in groups.values()})
        name = path.removeprefix("identity/group/name/")
        id = next((id for id, item in groups.items() if item["name"] == name), "")
        if method == "POST":
            id = id or secrets.token_hex(8)
            groups[id] = {"id": id, "name": name, "alias": {}} | groups.get(id, {}) | body
            return 200, {"data": {"id": id, "name": name}}
        if not id:
            raise Missing
        if method == "DELETE":
            del groups[id]
            return 204, None
        return 200, {"data": groups[id]}

    # ------------------------------------------------------------ sys and documents

    def _sys(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        state = self.state
        if path.startswith("sys/policies/acl"):
            name = path.removeprefix("sys/policies/acl").strip("/")
            if method == "LIST":
                return self._keys(state.policies)
            if method == "POST":
                state.policies[name] = body["policy"]
                return 204, None
            if method == "DELETE":
                state.policies.pop(name, None)
                return 204, None
            if name not in state.policies:
                raise Missing
            return 200, {"data": {"name": name, "policy": state.policies[name]}}
        if path.startswith("sys/audit"):
            return self._audit(method, path.removeprefix("sys/audit").strip("/"), body)
        kind, table = ("sys/auth", state.auths) if path.startswith("sys/auth") else ("sys/mounts", state.mounts)
        name = path.removeprefix(kind).strip("/")
        if not name:
            return 200, {"data": table}
        tune = name.endswith("/tune")
        name = name.removesuffix("/tune")
        if method == "POST" and not tune:
            if f"{name}/" in table:
                raise Refused(f"path is already in use at {name}/")
            table[f"{name}/"] = {
                "type": body["type"],
                "accessor": f"auth_{body['type']}_{secrets.token_hex(4)}",
                "tune": {"description": body.get("description", ""), **(body.get("config") or {})},
            }
            if body["type"] == "pki":
                state.pki[name] = Pki()
            if body["type"] == "kv":
                state.kv[name] = KeyValue()
            if body["type"] == "ldap":
                state.data[f"auth/{name}/config"] = dict(LDAP_DEFAULTS)
            self._limit(name, table[f"{name}/"]["tune"])
            return 204, None
        if f"{name}/" not in table:
            raise Missing
        held = table[f"{name}/"]["tune"]
        if method == "POST":
            held |= body
            self._limit(name, held)
            return 204, None
        return 200, {"data": held | {"max_lease_ttl": seconds(held.get("max_lease_ttl")) or 32 * 86400}}

    def _audit(self, method: str, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        devices = self.state.devices
        if method == "GET":
            return 200, {"data": devices}
        if method == "DELETE":
            devices.pop(f"{name}/", None)
            return 204, None
        if f"{name}/" in devices:
            raise Refused("path already in use")
        file = str(body["options"].get("file_path", "stdout"))
        if file != "stdout":
            try:
                Path(file).touch()
            except OSError as failure:
                raise Refused(f"sanity check failed; unable to open {file} for writing") from failure
        devices[f"{name}/"] = {"path": f"{name}/", "description": "", "local": False, **body}
        return 204, None

    def _limit(self, name: str, tune: dict[str, Any]) -> None:
        if name in self.state.pki and tune.get("max_lease_ttl"):
            self.state.pki[name].max_lease_ttl = seconds(tune["max_lease_ttl"])

    def _document(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        data = self.state.data
        if "/groups/" in path:  # names of groups are folded
            head, _, name = path.partition("/groups/")
            path = f"{head}/groups/{name.lower()}"
        if method == "LIST":
            return self._keys({k.removeprefix(f"{path}/"): v for k, v in data.items() if k.startswith(f"{path}/")})
        if method == "POST":
            config = path.endswith("/config")
            if "kubernetes_host" in body and not (body.get("kubernetes_ca_cert") or body.get("disable_local_ca_jwt")):
                raise Refused("open /var/run/secrets/kubernetes.io/serviceaccount/ca.crt: no such file or directory")
            kept = data.get(path, {}) if config else dict(ROLE_DEFAULTS if "/role/" in path else {})
            data[path] = kept | {k: seconds(v) if k.endswith("_ttl") else v for k, v in body.items()}
            return 204, None
        if path not in data:
            raise Missing
        if method == "DELETE":
            del data[path]
            return 204, None
        return 200, {"data": data[path]}

    @staticmethod
    def _keys(items: dict[str, Any]) -> tuple[int, Any]:
        if not items:
            raise Missing
        return 200, {"data": {"keys": sorted(items)}}

    # ------------------------------------------------------------ what a test holds

    @property
    def root_token(self) -> str:
        return self.state.root_token

    @property
    def engineers_endpoint(self) -> Endpoint:
        return Endpoint(self.url)


@contextmanager
def fake_vault() -> Iterator[FakeVault]:
    server = FakeVault()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
