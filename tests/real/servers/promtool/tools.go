//go:build tools

// Package tools names the commands that this module builds at the versions of go.sum.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
