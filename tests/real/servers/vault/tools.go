//go:build tools

// Package tools names the programs that this module builds, so that go.mod holds what they need.
package tools

import (
	_ "github.com/hashicorp/vault"
	_ "github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes"
	_ "github.com/hashicorp/vault/builtin/credential/ldap/cmd/ldap"
)
