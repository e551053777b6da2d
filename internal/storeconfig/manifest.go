package storeconfig

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatehouse/internal/store"
)

// manifest lists the keys storeconfig has written below one prefix, folders
// with a slash at the end. It stands outside that prefix, so that nobody takes
// it for configuration and etcdctl counts what the post counted.
type manifest struct {
	Prefix string   `json:"prefix"`
	Keys   []string `json:"keys"`

	revision store.Revision
}

// manifestKey is where the manifest of a prefix stands.
func manifestKey(root string) string {
	sum := sha256.Sum256([]byte(root))
	return "storeconfig/" + hex.EncodeToString(sum[:8])
}

func readManifest(ctx context.Context, own store.Store, root string) (manifest, error) {
	e, err := own.Get(ctx, manifestKey(root))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return manifest{Prefix: root}, nil
	case err != nil:
		return manifest{}, fmt.Errorf("read what storeconfig has written before (%s): %w", manifestKey(root), err)
	}
	m := manifest{revision: e.Revision}
	if err := json.Unmarshal(e.Value, &m); err != nil || m.Prefix != root {
		return manifest{}, fmt.Errorf("what storeconfig has written before (%s) is not readable: %v; delete that key, then nothing is removed and all else is compared", manifestKey(root), err)
	}
	slices.Sort(m.Keys)
	return m, nil
}

// manifest lists the keys of w that are to be ours: not ACME's.
func (w wanted) manifest() manifest {
	m := manifest{Prefix: w.root}
	for _, p := range w.pairs {
		switch {
		case w.isACME(p.Key):
		case p.Dir:
			m.Keys = append(m.Keys, p.Key+"/")
		default:
			m.Keys = append(m.Keys, p.Key)
		}
	}
	slices.Sort(m.Keys)
	return m
}

func (m manifest) has(key string) bool {
	_, found := slices.BinarySearch(m.Keys, key)
	return found
}

func (m manifest) equal(other manifest) bool { return slices.Equal(m.Keys, other.Keys) }

// with is m and other together.
func (m manifest) with(other manifest) manifest {
	keys := slices.Concat(m.Keys, other.Keys)
	slices.Sort(keys)
	return manifest{Prefix: m.Prefix, Keys: slices.Compact(keys), revision: m.revision}
}

// write replaces the manifest before, which becomes m.
func (m manifest) write(ctx context.Context, own store.Store, root string, before *manifest) error {
	value, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the list of keys: %w", err)
	}
	revision, err := own.Put(ctx, manifestKey(root), value, before.revision)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("another storeconfig is at work below /%s: run it again", strings.Trim(root, "/"))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", manifestKey(root), err)
	}
	m.revision = revision
	*before = m
	return nil
}
