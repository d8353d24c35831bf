"""The small platform of `support.access_world` with a Vault that signs for its cluster `vaulted`."""

from __future__ import annotations

from pathlib import Path

from support.builders import TODAY
from support.vault_fake import FakeVault
from support.vault_site import PASSWORD, PEOPLE

from pilothouse.clients.vault import VaultClient
from pilothouse.platform.model import Endpoint
from pilothouse.workflows import vault_setup
from pilothouse.workflows.rendering import inputs_for, open_platform


def declare(root: Path, url: str) -> None:
    """Let `vaulted` name that Vault, and team payments a directory group."""
    path = root / "platform.yaml"
    head, _, rest = path.read_text(encoding="utf-8").partition("metadata: {name: vaulted}")
    rest = rest.replace("servers: {", f'servers: {{vault: {{url: "{url}"}}, ', 1)
    head = head.replace("  approvers: [alice]\n", "  approvers: [alice]\n  groups: [payments-people]\n", 1)
    path.write_text(f"{head}metadata: {{name: vaulted}}{rest}", encoding="utf-8")


def set_up(server: FakeVault, root: Path) -> None:
    """People, the login mount, and everything that pilothouse writes."""
    directory = server.state.directory
    for user, groups in PEOPLE.items():
        directory.people[user] = PASSWORD
        for group in groups:
            directory.groups.setdefault(group, set()).add(user)
    client = VaultClient(Endpoint(server.url), server.root_token)
    client.write("sys/auth/ldap", {"type": "ldap"})
    inputs, _ = inputs_for(open_platform(root), "vaulted", TODAY)
    vault_setup.apply(client, inputs)
