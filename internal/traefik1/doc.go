// Package traefik1 knows the Traefik 1.x dialect, and is the only package that
// does: its rule grammar, its frontends and backends (from files and from
// key-value trees), the static tree its storeconfig command wrote, and the
// formats its ACME data was kept in. Everything is translated into the words
// of package config; nothing here reads a file, a store or a clock.
package traefik1
