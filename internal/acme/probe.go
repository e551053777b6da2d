package acme

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"gatehouse/internal/store"
)

// probeLife is how long a probe is answered if nobody takes it away.
const probeLife = 2 * time.Minute

// Probe is a pending HTTP-01 challenge that no CA knows of: with it a person
// sees whether one would be answered.
type Probe struct {
	Path  string // of the URL, at port 80 of the domain
	Value string // what is answered there

	store store.Store
	key   string
	have  store.Revision
}

// PutProbe makes the replicas answer a probe. The caller calls Remove in the
// end.
func PutProbe(ctx context.Context, st store.Store) (*Probe, error) {
	token := "probe-" + rand.Text()
	p := &Probe{Path: challengeURL + token, Value: token + ".no-order", store: st, key: httpKey(token)}
	raw, err := json.Marshal(entry{Version: entryVersion, Order: "probe", Name: "probe.invalid", Value: p.Value, Expires: time.Now().Add(probeLife)})
	if err != nil {
		return nil, err
	}
	p.have, err = st.Put(ctx, p.key, raw, "")
	return p, err
}

// Remove takes the probe away.
func (p *Probe) Remove(ctx context.Context) error {
	err := p.store.Delete(ctx, p.key, p.have)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// CheckNames says whether a challenge type can prove the names at all.
func CheckNames(names []string, challenge string) error { return checkNames(names, challenge) }
