package cert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gatehouse/internal/store"
)

// Prefixes of the keys this package owns, and of the journals, which issuers
// write and this package only looks at.
const (
	certificatesPrefix = "certificates"
	attemptsPrefix     = "attempts"
	ordersPrefix       = "orders"
	requestsPrefix     = "requests"
)

const recordVersion = 1

// key names one certificate in the store: <prefix>/<issuer>/<id>.
type key struct{ issuer, id string }

func (k key) under(prefix string) string { return prefix + "/" + k.issuer + "/" + k.id }

// parseKey is the inverse of under.
func parseKey(prefix, s string) (key, bool) {
	rest, ok := strings.CutPrefix(s, prefix+"/")
	if !ok {
		return key{}, false
	}
	issuer, id, ok := strings.Cut(rest, "/")
	if !ok || issuer == "" || id == "" || strings.Contains(id, "/") {
		return key{}, false
	}
	return key{issuer, id}, true
}

// record is the value under certificates/: key, chain and what is known about
// them in one value, so that it is there whole or not at all.
type record struct {
	Version  int       `json:"version"`
	Names    []string  `json:"names"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"notAfter"`
	Obtained time.Time `json:"obtained"`
	Epoch    uint64    `json:"epoch,omitempty"` // of the lease it was written under; 0: imported
	Chain    string    `json:"chain"`
	Key      string    `json:"key"`
}

// encode gives the value to store for c, which was checked from b: the text is
// not kept in memory.
func (c *Certificate) encode(b Bundle, epoch uint64) ([]byte, error) {
	return json.MarshalIndent(record{
		Version:  recordVersion,
		Names:    c.Names,
		Serial:   c.serial,
		NotAfter: c.NotAfter.UTC(),
		Obtained: c.Obtained.UTC(),
		Epoch:    epoch,
		Chain:    string(b.Chain),
		Key:      string(b.Key),
	}, "", " ")
}

// Pair gives the chain and the key, in PEM, of a stored certificate, for stores
// that show both apart; ok is false for what is none, or is sealed.
func Pair(value []byte) (chain, key []byte, ok bool) {
	var r record
	if store.CheckSealed(value) != nil || json.Unmarshal(value, &r) != nil || r.Chain == "" || r.Key == "" {
		return nil, nil, false
	}
	return []byte(r.Chain), []byte(r.Key), true
}

// decodeCertificate checks a stored value before anybody is served with it:
// the store's content is not trusted.
func decodeCertificate(k key, value []byte) (*Certificate, error) {
	if len(value) > maxValue {
		return nil, fmt.Errorf("value has %d bytes (at most %d)", len(value), maxValue)
	}
	if err := store.CheckSealed(value); err != nil {
		return nil, err
	}
	var is struct{ Version int }
	if json.Unmarshal(value, &is) == nil && is.Version > recordVersion {
		return nil, &laterError{is.Version}
	}
	var r record
	if err := laxJSON(value, &r); err != nil {
		return nil, err
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("value has version %d (this program reads %d)", r.Version, recordVersion)
	}
	names, err := CleanNames(r.Names)
	if err != nil {
		return nil, err
	}
	if id := ID(names); id != k.id {
		return nil, fmt.Errorf("value is for %v, whose key ends in %s", names, id)
	}
	c, err := Check(Bundle{Chain: []byte(r.Chain), Key: []byte(r.Key)}, names)
	if err != nil {
		return nil, err
	}
	c.Issuer, c.Obtained = k.issuer, r.Obtained
	return c, nil
}

// attempt is the value under attempts/: what went wrong and when to try again.
// It is honoured by every replica and outlives restarts.
type attempt struct {
	Version   int       `json:"version"`
	Names     []string  `json:"names,omitempty"`     // for people
	Failures  int       `json:"failures"`            // in a row
	Unreached int       `json:"unreached,omitempty"` // of them: the issuer did not answer
	Error     string    `json:"error"`               // of the last failure
	Bad       []string  `json:"bad,omitempty"`       // names that the failures were about, as far as the issuer said
	Waits     string    `json:"waits,omitempty"`     // not "": until Next, for this; since the last failure, if there was one, nothing was refused
	Replica   string    `json:"replica,omitempty"`
	Last      time.Time `json:"last"`
	Next      time.Time `json:"next"`
}

const maxErrorText = 4 << 10

func (a attempt) encode() ([]byte, error) {
	a.Version = recordVersion
	for _, text := range []*string{&a.Error, &a.Waits} {
		if len(*text) > maxErrorText {
			*text = strings.ToValidUTF8((*text)[:maxErrorText], "") + " ..."
		}
	}
	return json.MarshalIndent(a, "", " ")
}

// decodeAttempt refuses what would make a replica wait for ever: a stored time
// is obeyed, so it must be one this program can have written.
func decodeAttempt(value []byte) (attempt, error) {
	var a attempt
	if len(value) > 8*maxErrorText {
		return a, fmt.Errorf("value has %d bytes (at most %d)", len(value), 8*maxErrorText)
	}
	if err := laxJSON(value, &a); err != nil {
		return attempt{}, err
	}
	switch {
	case a.Version != recordVersion:
		return attempt{}, fmt.Errorf("value has version %d (this program reads %d)", a.Version, recordVersion)
	case a.Failures < 0 || a.Failures == 0 && a.Waits == "":
		return attempt{}, fmt.Errorf("failures is %d", a.Failures)
	case a.Unreached < 0 || a.Unreached > a.Failures:
		return attempt{}, fmt.Errorf("unreached is %d of %d failures", a.Unreached, a.Failures)
	case a.Next.Before(a.Last), a.Next.Sub(a.Last) > maxDelay:
		return attempt{}, fmt.Errorf("next attempt %s does not follow the last %s within %s",
			a.Next.Format(time.RFC3339), a.Last.Format(time.RFC3339), maxDelay)
	case !utf8.ValidString(a.Error), !utf8.ValidString(a.Waits):
		return attempt{}, errors.New("error is not UTF-8")
	case len(a.Names) > maxNames, len(a.Bad) > maxNames:
		return attempt{}, fmt.Errorf("%d names", len(a.Names))
	}
	return a, nil
}

// laterError is a value of a later version of this program: there is one, so
// nothing may be ordered in its place.
type laterError struct{ version int }

func (e *laterError) Error() string {
	return fmt.Sprintf("value has version %d (this program reads %d): a later version wrote it; replicas that are brought up to it can read it",
		e.version, recordVersion)
}

// laxJSON decodes exactly one value. Keys that a later version has added do not
// make it one that is not there: replicas are brought up to date one by one.
func laxJSON(value []byte, into any) error {
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("decode value: %w", err)
	}
	return nil
}

// strictJSON decodes exactly one value without unknown keys.
func strictJSON(value []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("decode value: %w", err)
	}
	if dec.More() {
		return errors.New("decode value: more than one JSON value")
	}
	return nil
}
