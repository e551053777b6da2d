package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// ErrSealed: the value is sealed under a key this replica does not have. It is
// there: that is another thing than absent, and nothing may be put over it.
var ErrSealed = errors.New("sealed")

// A sealed value is text, so that every store and every tool takes it:
//
//	gatehouse-sealed:1:<key id>:<base64 of nonce and ciphertext>
//
// AES-256-GCM with a random nonce; what stands before the box, and the name the
// value is stored under, are authenticated with it.
const sealMark = "gatehouse-sealed:1:"

// sealKeySize is that of a key, in bytes.
const sealKeySize = 32

// Ring holds the keys that seal values at rest. The zero Ring has none: it
// opens nothing that is sealed. A Ring is immutable.
type Ring struct{ keys []sealKey }

type sealKey struct {
	id   string
	aead cipher.AEAD
}

// LogValue keeps the keys out of logs.
func (r Ring) LogValue() slog.Value { return slog.AnyValue(r.IDs()) }

// ParseRing reads keys, one a line: 32 random bytes in base64, as "openssl rand
// -base64 32" prints them. The first is for sealing, all open. Empty lines and
// those that begin with # are left out. Errors never show a key.
func ParseRing(text string) (Ring, error) {
	var r Ring
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			raw, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(line, "="))
		}
		if err != nil || len(raw) != sealKeySize {
			return Ring{}, fmt.Errorf("line %d is no key: a key is 32 random bytes in base64, as openssl rand -base64 32 prints them", number)
		}
		if err := r.add(raw); err != nil {
			return Ring{}, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if len(r.keys) == 0 {
		return Ring{}, errors.New("no key in it: a key is 32 random bytes in base64, as openssl rand -base64 32 prints them")
	}
	return r, nil
}

func (r *Ring) add(raw []byte) error {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(append([]byte("gatehouse seal key id\n"), raw...))
	id := hex.EncodeToString(sum[:4])
	for _, k := range r.keys {
		if k.id == id {
			return errors.New("the key is there twice")
		}
	}
	r.keys = append(r.keys, sealKey{id, aead})
	return nil
}

// IDs are the public names of the keys, the sealing one first.
func (r Ring) IDs() []string {
	ids := make([]string, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.id
	}
	return ids
}

// Empty says that there is no key.
func (r Ring) Empty() bool { return len(r.keys) == 0 }

func (r Ring) key(id string) (sealKey, bool) {
	for _, k := range r.keys {
		if k.id == id {
			return k, true
		}
	}
	return sealKey{}, false
}

// Seal seals value for name under the key id, which must be in the ring.
func (r Ring) Seal(id, name string, value []byte) ([]byte, error) {
	k, ok := r.key(id)
	if !ok {
		return nil, fmt.Errorf("seal %s: key %s is not on the ring", name, id)
	}
	head := sealMark + id + ":"
	nonce := make([]byte, k.aead.NonceSize(), k.aead.NonceSize()+len(value)+k.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	box := k.aead.Seal(nonce, nonce, value, []byte(head+name))
	out := make([]byte, len(head), len(head)+base64.StdEncoding.EncodedLen(len(box)))
	copy(out, head)
	return base64.StdEncoding.AppendEncode(out, box), nil
}

// Open gives what Seal was given for the same name; what is not sealed is given
// as it is. An error wraps ErrSealed if the key is not on the ring; else the
// value is damaged.
func (r Ring) Open(name string, value []byte) ([]byte, error) {
	id := SealedUnder(value)
	if id == "" {
		return value, nil
	}
	k, ok := r.key(id)
	if !ok {
		have := "this replica has no key"
		if !r.Empty() {
			have = "this replica has " + strings.Join(r.IDs(), ", ")
		}
		return nil, fmt.Errorf("open %s: %w under key %s; %s", name, ErrSealed, id, have)
	}
	head := sealMark + id + ":"
	box, err := base64.StdEncoding.DecodeString(string(value[len(head):]))
	if err == nil && len(box) < k.aead.NonceSize() {
		err = errors.New("cut short")
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: sealed under key %s and damaged: %w", name, id, err)
	}
	n := k.aead.NonceSize()
	plain, err := k.aead.Open(nil, box[:n], box[n:], []byte(head+name))
	if err != nil {
		return nil, fmt.Errorf("open %s: sealed under key %s and damaged, or written for another name", name, id)
	}
	return plain, nil
}

// SealedUnder is the id of the key a value is sealed under; "" if it is not
// sealed.
func SealedUnder(value []byte) string {
	rest, ok := bytes.CutPrefix(value, []byte(sealMark))
	if !ok {
		return ""
	}
	id, _, ok := bytes.Cut(rest, []byte(":"))
	if !ok || len(id) == 0 || len(id) > 16 {
		return ""
	}
	return string(id)
}

// CheckSealed is for who decodes a value: an error that says what it is if it
// is still sealed.
func CheckSealed(value []byte) error {
	if id := SealedUnder(value); id != "" {
		return fmt.Errorf("value is sealed under key %s, which is not in store.sealKey here, or is damaged", id)
	}
	return nil
}
